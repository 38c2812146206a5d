"""The page: its numbers, its text when parts are missing, and that it needs no other file."""

from __future__ import annotations

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from segadapt.errors import RequestError
from segadapt.report import page, write_report
from segadapt.report.page import gap_closed, unpainted
from tests.report.making import SPACE, online_labels, results, row, scores, write_results, write_run

pytest.importorskip("jinja2")

VOID = {"meta", "link", "img", "input", "br", "wbr"}


class Page(HTMLParser):
    """Text, references and open tags of a page; fails on tags that do not close."""

    def __init__(self, html: str):
        super().__init__()
        self.html = html
        self.open: list[str] = []
        self.words: list[str] = []
        self.references: list[str] = []
        self.ids: list[str] = []
        self.feed(html)
        assert self.open == []
        self.text = re.sub(r"[ \n]+", " ", " ".join(self.words))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.references += [v or "" for k, v in attrs if k in ("src", "href", "srcset", "poster", "action", "data")]
        self.ids += [v or "" for k, v in attrs if k == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.words.append(data)


def page_of(run: Path) -> Page:
    return Page(write_report(run).read_text(encoding="utf-8"))


def page_with(tmp_path: Path, **changes: Any) -> Page:
    write_results(tmp_path, {**results(), **changes})
    return page_of(tmp_path)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Page:
    return page_of(write_run(tmp_path_factory.mktemp("run")))


def test_headline(full: Page) -> None:
    for text in ("30.0 mIoU", "36.0 mIoU +6.0", "40.0 mIoU", "60% of the gap", "6.0 of 10.0 points"):
        assert text in full.text
    assert "last checkpoint" in full.text
    assert "2 labelled images of tiny test" in full.text
    assert "ORACLE SELECTION" not in full.html


def test_tables(full: Page) -> None:
    for text in ("55.5", "66.6", "3 min 30 s", "900 MB", "1\N{NARROW NO-BREAK SPACE}500", "both"):
        assert text in full.text
    for text in ("0.876", "23.4%", "33.4%", "91.2%", "97.0%", "1.2%", "Round 1", "Round 2"):
        assert text in full.text
    assert "in neither the truth nor the predictions" in full.text
    assert "+14.0" in full.text
    assert "\N{MINUS SIGN}2.0" in full.text


def test_classes_with_the_largest_gain_come_first(full: Page) -> None:
    gains = re.findall(r'data-gain="([^"]*)"', full.html)
    assert gains == ["14.0", "-2.0", ""]


def test_nothing_else_is_needed(full: Page) -> None:
    assert all(ref.startswith(("data:", "#")) for ref in full.references), full.references
    assert "://" not in full.html
    assert "@import" not in full.html
    assert "url(" not in full.html
    assert {ref[1:] for ref in full.references if ref.startswith("#")} <= set(full.ids)
    assert len(full.ids) == len(set(full.ids))


def test_names_are_escaped(full: Page) -> None:
    assert SPACE.names[1] in full.text
    assert "<b>cloud" not in full.html
    assert "</script><i>" not in full.html
    assert "</script><i>" in full.text


def test_paths_of_data_are_not_shown(full: Page) -> None:
    assert "/private/place" not in full.html


def test_equal_pictures_are_kept_once(full: Page) -> None:
    found = re.search(r'id="assets">(.*?)</script>', full.html, re.S)
    assert found
    assets = json.loads(found[1])
    assert len(assets) == len(set(assets.values()))
    assert full.html.count("data:image/") == len(assets)
    used = set(re.findall(r'data-asset="(\w+)"', full.html))
    assert used <= set(assets)
    assert used


def test_results_alone_make_a_page(tmp_path: Path) -> None:
    page = page_with(tmp_path, labels=[])
    assert "36.0" in page.text
    for missing in ("pictures", "labels", "prototypes", "features", "curves"):
        assert missing not in page.ids
        assert f"#{missing}" not in page.references


def test_pseudo_labels_during_training(full: Page) -> None:
    assert "Mean IoU of the pseudo labels during training CBST;" in full.text
    assert "stored (25.0% of the pixels)" in full.text
    assert "rectified (" not in full.text
    chart = full.html.split("Mean IoU of the pseudo labels during training by step", 1)[1].split("</figure>")[0]
    ways = re.findall(r'class="curve"[^>]*points="([^"]*)"', chart)
    assert len(ways) == 2
    assert [len(way.split()) for way in ways] == [4, 4]
    assert ways[0].split()[-1].startswith("1000.0,")


def test_pseudo_labels_without_truth_show_how_many_there_are(tmp_path: Path) -> None:
    events = [online_labels(0, step, None) for step in range(20, 4001, 20)]
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, events)))
    page = page_with(tmp_path, labels=[])
    assert "Pixels with a pseudo label during training" in page.text
    assert "of the pseudo labels during" not in page.text
    ways = re.findall(r'class="curve"[^>]*points="([^"]*)"', page.html)
    assert [len(way.split()) for way in ways] == [50, 50]  # means over four of the 200 measurements


def test_a_run_that_just_started(tmp_path: Path) -> None:
    assert "No stage of this run is finished" in page_with(tmp_path, rows=[], labels=[]).text


def test_only_the_source_stage(tmp_path: Path) -> None:
    page = page_with(tmp_path, rows=results()["rows"][:1], labels=[])
    assert "30.0 mIoU" in page.text
    assert "of the gap" not in page.text


def test_oracle_selection_is_said(tmp_path: Path) -> None:
    rows = results()["rows"]
    rows[1]["selection"] = "oracle selection"
    page = page_with(tmp_path, rows=rows)
    assert page.text.count("ORACLE SELECTION") >= 3  # the warning, the headline and the table
    assert "adapted without target labels" not in page.text


def test_no_labels_no_scores(tmp_path: Path) -> None:
    rows = [{**r, "scores": None} for r in results()["rows"]]
    page = page_with(tmp_path, rows=rows, test={"name": None, "images": 0, "labelled": False})
    assert "has no labels, so there are no scores" in page.text
    assert "mIoU" not in page.text


def test_the_published_row_stands_beside_the_score(tmp_path: Path) -> None:
    entry = {
        "stage": "cbst",
        "method": "CBST",
        "network": "ResNet-38",
        "published": 45.2,
        "source": "Zou: Table 3",
    }
    near = {**entry, "score": 44.9, "difference": -0.3, "why": "", "note": "", "quoted": False}
    far = {
        **entry,
        "score": 30.0,
        "difference": None,
        "why": "this run has other settings: adapt.rounds",
        "note": "on val",
    }
    page = page_with(tmp_path, published=[near])
    assert "CBST, ResNet-38: 45.2 mIoU, Zou: Table 3. This run has 44.9: \N{MINUS SIGN}0.3." in page.text
    text = page_with(tmp_path, published=[far]).text
    assert f"45.2 mIoU, Zou: Table 3. Not compared: {far['why']}. On val." in text
    assert "Published" not in page_with(tmp_path, published=[]).text


def test_the_last_of_several_adapted_stages_is_the_result(tmp_path: Path) -> None:
    rows = results()["rows"]
    rows.insert(1, row("warmup", "adapted", "Warm-up", scores(44.0, 32.0)))
    page = page_with(tmp_path, rows=rows)
    assert "36.0 mIoU +6.0" in page.text  # not the better 38.0: that choice would need test labels
    assert re.search(r"Warm-up 38\.0 \+8\.0 80%", page.text)
    assert re.search(r"CBST 36\.0 \+6\.0 60%", page.text)


@pytest.mark.parametrize(
    ("adapted", "said"), [((30.0, 10.0), "worse than source-only by 10.0 points"), ((60.0, 50.0), "above the oracle")]
)
def test_outside_of_the_gap(tmp_path: Path, adapted: tuple[float, float], said: str) -> None:
    rows = results()["rows"]
    rows[1]["scores"] = scores(*adapted)
    assert said in page_with(tmp_path, rows=rows).text


def test_gap_closed() -> None:
    assert gap_closed(30.0, 36.0, 40.0) == pytest.approx(0.6)
    assert gap_closed(30.0, 36.0, 30.0) is None
    assert gap_closed(None, 36.0, 40.0) is None


def test_missing_and_damaged_results(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"no results\.json"):
        write_report(tmp_path)
    broken: list[tuple[str, str]] = [
        ('{"format": 1, "rows', "not a JSON object"),
        ("[]", "not a JSON object"),
        (json.dumps({**results(), "format": 2}), "format 2"),
        (json.dumps({k: v for k, v in results().items() if k != "rows"}), "'rows' is missing"),
        (json.dumps({**results(), "rows": ["source"]}), "damaged"),
        (json.dumps({**results(), "rows": 3}), "damaged"),
        (json.dumps({**results(), "space": {"name": "x", "names": ["a"], "colors": []}}), "damaged"),
    ]
    for text, message in broken:
        (tmp_path / "results.json").write_text(text)
        with pytest.raises(RequestError, match=message) as caught:
            write_report(tmp_path)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "report.html").exists()


def test_missing_jinja(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_results(tmp_path, results())
    monkeypatch.setitem(sys.modules, "jinja2", None)
    page.template.cache_clear()
    with pytest.raises(RequestError, match=re.escape('pip install "segadapt[report]"')):
        write_report(tmp_path)


def test_where_the_page_goes(tmp_path: Path) -> None:
    write_results(tmp_path / "run", results())
    goal = tmp_path / "new" / "page.html"
    assert write_report(tmp_path / "run", goal) == goal
    assert goal.stat().st_size > 10_000
    with pytest.raises(RequestError, match="is a folder"):
        write_report(tmp_path / "run", tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(RequestError, match="nothing can be written into"):
        write_report(tmp_path / "run", tmp_path / "file" / "page.html")


def test_a_mean_counts_the_classes_that_occur(tmp_path: Path) -> None:
    """``train`` is in neither the truth nor the predictions."""
    page = page_with(tmp_path)
    assert "mean IoU in percent over 2 of 3 classes (tiny3); the others are in neither the truth nor" in page.text
    rows = results()["rows"]
    rows[0]["scores"]["iou"]["train"] = 0.0
    assert "over 2 to 3 of 3 classes" in page_with(tmp_path, rows=rows).text
    for entry in rows:
        entry["scores"]["iou"]["train"] = 1.0
    assert "over 3 classes (tiny3) " in page_with(tmp_path, rows=rows).text


def test_classes_around_things_begin_without_colour(tmp_path: Path) -> None:
    assert unpainted(["_background_", "cell", "Other"]) == ["_background_", "Other"]
    assert unpainted(["road", "backgrounds"]) == unpainted(["background"]) == []
    space = {"name": "s", "names": ["road", "background", "train"], "colors": SPACE.colors, "subsets": {}}
    run = write_run(tmp_path)
    write_results(run, {**results(), "space": space})
    pressed = re.findall(r'aria-pressed="(true|false)" data-color="([0-9,]+)"', page_of(run).html)
    assert pressed == [("true", "128,64,128"), ("false", "70,130,180"), ("true", "0,80,100")]
