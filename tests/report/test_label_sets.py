"""Kinds of pseudo labels side by side: their means at the end of training, and their classes against the truth."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from segadapt.report.figures import Mark, ShareScale, share_lanes
from segadapt.report.label_sets import at_the_end, share_scale
from segadapt.report.log import LabelSet, OnlineLabels
from tests.report.making import SPACE, online_labels, results, write_results, write_run
from tests.report.test_page import Page, page_of, page_with

pytest.importorskip("jinja2")


def measured(count: int, **sets: LabelSet) -> list[OnlineLabels]:
    return [OnlineLabels(20.0 * (i + 1), sets, (0.5, 0.5)) for i in range(count)]


def test_the_end_is_the_last_tenth_of_the_steps() -> None:
    found = measured(200, a=LabelSet(density=1.0, accuracy=0.0))
    late = measured(200, a=LabelSet(density=1.0, accuracy=1.0))
    mixed = [*found[:180], *late[180:]]
    end = at_the_end(mixed)
    assert end.steps == 400
    assert end.sets[0].accuracy == 1.0
    assert at_the_end([*found[:179], *late[179:]]).sets[0].accuracy == 1.0
    assert at_the_end([*found[:181], *late[181:]]).sets[0].accuracy == pytest.approx(19 / 20)


def test_few_measurements_are_averaged_all_the_same() -> None:
    assert at_the_end(measured(3, a=LabelSet(density=0.5))).steps == 60
    assert at_the_end(measured(20, a=LabelSet(density=0.5))).steps == 100
    assert at_the_end(measured(1, a=LabelSet(density=0.5))).steps == 20


def test_a_measurement_counts_by_its_labels() -> None:
    """Accuracy and class shares of the mean equal those of all labels put together."""
    few = LabelSet(density=0.1, accuracy=1.0, classes=(1.0, 0.0))
    many = LabelSet(density=0.3, accuracy=0.5, classes=(0.0, 1.0))
    found = at_the_end([OnlineLabels(1, {"a": few}, (0.2, 0.8)), OnlineLabels(2, {"a": many}, (0.6, 0.4))])
    (mean,) = found.sets
    assert mean.density == pytest.approx(0.2)
    assert mean.accuracy == pytest.approx((0.1 * 1.0 + 0.3 * 0.5) / 0.4)
    assert mean.classes == pytest.approx([0.25, 0.75])
    assert found.truth == pytest.approx([0.4, 0.6])


def test_labels_that_exist_nowhere_have_no_accuracy() -> None:
    (mean,) = at_the_end(measured(2, a=LabelSet(density=0.0, accuracy=None))).sets
    assert (mean.density, mean.accuracy, mean.classes) == (0.0, None, None)


def test_scale() -> None:
    scale = share_scale([0.6, 0.39, 0.0004, 0.0])
    assert scale.low == pytest.approx(1e-4)
    assert scale.high == 1.0
    assert scale.ticks == pytest.approx([0, 1e-4, 1e-3, 1e-2, 1e-1, 1])
    places = [scale.place(tick) for tick in scale.ticks]
    assert places == pytest.approx([2, 12, 33.5, 55, 76.5, 98])
    assert scale.place(1e-9) == scale.place(0)
    linear = share_scale([0.3, 0.4, 0.0])
    assert linear.low is None
    assert linear.ticks == [0, 0.1, 0.2, 0.3, 0.4]
    assert [linear.place(x) for x in (0, 0.2, 0.4)] == pytest.approx([2, 50, 98])
    assert share_scale([0.9, 1e-12]).low == pytest.approx(1e-6)
    for shares in ([], [0.0], [1.0]):
        assert all(2 <= share_scale(shares).place(x) <= 98 for x in (0.0, 1.0))


def test_lanes_lead_from_the_truth_to_the_labels() -> None:
    figure = share_lanes([Mark("<a>", "red", 0.01), Mark("b", "blue", 1.0)], 0.1, ShareScale(0.01, 1.0), "class & more")
    ways = re.findall(r'class="away"[^>]*x1="([\d.]+)%" x2="([\d.]+)%"', figure)
    assert ways == [("55.00", "12.00"), ("55.00", "98.00")]
    assert len(set(re.findall(r' d="([^"]+)"', figure))) == 2
    assert "<title>&lt;a&gt;</title>" in figure
    assert 'aria-label="class &amp; more"' in figure


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Page:
    return page_of(write_run(tmp_path_factory.mktemp("run")))


def test_table_of_the_kinds(full: Page) -> None:
    """As in BCL, table 4: how many pixels each kind labels, and how many of its labels are right."""
    assert "CBST, made during training Labels Labelled Right rectified 100.0% 55.0% stored 25.0% 55.0%" in full.text
    assert "Means over the last 40 steps" in full.text


def test_classes_against_the_truth(full: Page) -> None:
    """Frequent classes first; those with less than half of their true share stand out."""
    table = full.html.split('<table class="shares">')[1].split("</table>")[0]
    assert re.findall(r'class="n( down)?">([\d.]+%)', table) == [
        *(("", share) for share in ("50.0%", "50.0%", "75.0%", "40.0%", "49.0%", "25.0%", "10.0%")),
        (" down", "1.0%"),
        (" down", "0.0%"),
    ]
    assert 'aria-label="train: truth 10.0%, rectified 1.0%, stored 0.0%"' in table
    assert "The scale is logarithmic" in full.text


def stored(parts: dict[str, list[float] | None]) -> list[dict[str, Any]]:
    found = results()["labels"]
    for place, c in enumerate(c for turn in found for c in turn["classes"]):
        c |= {key: None if shares is None else shares[place] for key, shares in parts.items()}
    return found


def test_stored_labels_of_the_first_and_the_last_round(tmp_path: Path) -> None:
    shares = [0.5, 0.5, 0.0, 0.6, 0.3, 0.1]
    page = page_with(tmp_path, labels=stored({"label_share": shares, "truth_share": [0.3, 0.3, 0.4] * 2}))
    assert "Classes of the labels and of the truth of CBST" in page.text
    assert re.search(r"Class 0 [^a-z]*truth round 1 round 2 train round 1 round 2 40\.0% 0\.0% 10\.0% ", page.text)
    assert "made during training" not in page.text


@pytest.mark.parametrize("truth", [None, [0.3, 0.3, 0.4] * 2])
def test_without_truth_or_class_shares_there_is_no_comparison(tmp_path: Path, truth: list[float] | None) -> None:
    """Logs of older runs do not record them."""
    page = page_with(tmp_path, labels=stored({"truth_share": truth}))
    assert "Classes of the labels" not in page.text
    assert "Thresholds and shares of every class" in page.text


def test_labels_made_during_training_alone(tmp_path: Path) -> None:
    """A stage without stored labels has its own section; a truth with other classes than the run is ignored."""
    events = [{**online_labels(0, 20, 0.5), "truth": [1.0]}, {**online_labels(0, 20, None), "stage": "other"}]
    tmp_path.mkdir(exist_ok=True)
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, events)))
    write_results(tmp_path, {**results(), "labels": []})
    page = page_of(tmp_path)
    assert "labels" in page.ids
    assert "CBST, made during training Labels Labelled Right rectified" in page.text
    assert "other, made during training Labels Labelled rectified 100.0% stored 25.0%" in page.text
    assert "Classes of the labels" not in page.text
    assert SPACE.names[1] in page.text
