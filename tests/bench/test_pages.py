"""Tables in Markdown: what a reader sees of the measures, the ablations and what is missing."""

from __future__ import annotations

import pytest

from segadapt.bench.pages import RULE_OF_SIGNS, control_of, gain, sign_of, source_of, tables
from tests.bench.test_render import ORACLE, SOURCE, ablation, row, table


def lines_of(text: str, start: str) -> list[str]:
    """Return the lines of a page that start with some text."""
    return [line for line in text.splitlines() if line.startswith(start)]


@pytest.mark.parametrize(
    ("effects", "sign"),
    [
        ([2.0, 3.0, 4.0], "+"),
        ([-2.0, -3.0, -4.0], "-"),
        ([-0.1, 3.0, 3.0], "0"),  # the mean is above the deviation, one seed disagrees
        ([0.1, 0.1, 5.0], "0"),  # all agree, the deviation is 2.8 and the mean 1.7
        ([1.0, 3.0], "+"),  # mean 2.0, deviation 1.4
        ([0.0, 0.0], "0"),
        ([1.0, 1.0], "+"),
        ([8.0], "?"),
        ([], "?"),
    ],
)
def test_signs_follow_the_rule(effects: list[float], sign: str) -> None:
    assert sign_of(effects) == sign


def test_a_gain_is_that_of_the_seeds_that_both_rows_have() -> None:
    base = row("source_only", 10, 20, 60)
    assert gain(row("st", 13, 21), base) == pytest.approx(2.0)
    assert gain(row("st", 5), base) == pytest.approx(-5.0)
    assert gain(row("st", 5, seeds={"7": 5}), base) is None


def test_the_first_control_and_the_source_model_are_found() -> None:
    control, strong = row("longer", 40, control=True), row("strong", 45, control=True)
    made = table(row("warmup", 1, role="source", result=False), SOURCE, row("st", 41), control, strong)
    assert source_of(made) is SOURCE
    assert control_of(made) is control
    assert (source_of(table()), control_of(table(SOURCE))) == (None, None)


def test_the_class_that_lost_most_is_named_beside_the_control() -> None:
    control = row("longer", 40, control=True, iou={"sky": 50.0, "road": 60.0, "car": None})
    worse = row("st", 41, iou={"sky": 45.5, "road": 58.0, "car": 0.0})
    better = row("cbst", 42, iou={"sky": 51.0, "road": 60.02, "car": None})
    text = tables(table(SOURCE | {"iou": control["iou"]}, control, worse, better))
    assert "against *LONGER*" in text
    assert "| ST | 45.5 | 58.0 | 0.0 | sky -4.5 |" in text
    assert "| CBST | 51.0 | 60.0 | - | - |" in text


def test_labels_have_a_line_per_kind_and_q_once() -> None:
    labels = {
        "static": {"accuracy": 0.9, "miou": 0.5, "density": 0.2},
        "dynamic": {"accuracy": None, "miou": None, "density": 0.75},
    }
    text = tables(table(row("bcl", 40, labels=labels, q=0.625), row("mic", 41, q=0.5), row("st", 39)))
    assert lines_of(text, "| BCL | static") == ["| BCL | static | 90.0% | 50.0% | 20.0% | 0.62 |"]
    assert lines_of(text, "| BCL | dynamic") == ["| BCL | dynamic | - | - | 75.0% |  |"]
    assert "| MIC | - | - | - | - | 0.50 |" in text
    assert len(lines_of(text, "| ST |")) == 2  # scores and classes alone


def test_shares_of_the_predictions_stand_below_the_truth() -> None:
    truth = {"sky": 0.25, "road": 0.75}
    text = tables(table(row("st", 40, predicted={"sky": 0.375, "road": 0.625}, truth=truth), SOURCE))
    after = text.partition("Shares of the classes")[2]
    assert lines_of(after, "| **truth**") == ["| **truth** | 25.0 | 75.0 |  |"]
    assert lines_of(after, "| ST") == ["| ST | 37.5 | 62.5 | sky +12.5 |"]
    unknown = tables(table(row("st", 40, predicted={"sky": None, "road": 0.7}, truth=truth)))
    assert "| ST | - | 70.0 | road -5.0 |" in unknown


def test_prototypes_have_a_column_per_measure() -> None:
    first, second = row("mpcl", 40, prototypes={"prototype use": 0.5}), row("other", 41, prototypes={"width": 3})
    text = tables(table(first, second, SOURCE))
    assert "| method | prototype use | width |" in text
    assert "| MPCL | 0.50 | - |" in text
    assert "| OTHER | - | 3.00 |" in text


def test_parts_that_no_row_has_are_left_out() -> None:
    text = tables(table(SOURCE, ORACLE))
    assert not any(word in text for word in ("Shares", "Prototypes", "during training", "Ablations", "Left out"))
    assert "largest loss" in text


def test_a_warm_up_that_two_recipes_trained_names_them() -> None:
    text = tables(
        table(
            row("proda", 30, title="AdaptSeg", result=False),
            row("cpsl", 31, title="AdaptSeg", result=False),
            row("adaptseg", 32, title="AdaptSeg"),
        )
    )
    assert [line.split("|")[1].strip() for line in lines_of(text, "| AdaptSeg")][:3] == [
        "AdaptSeg (of proda)",
        "AdaptSeg (of cpsl)",
        "AdaptSeg",
    ]


def test_ablations_stand_beside_the_paper() -> None:
    first, second = ablation("a", "+", "+", 1.5, 1.0), ablation("b", "?", "", -2.0)
    text = tables({**table(SOURCE), "ablations": [first, second, ablation("c", "0", "+", 1.0, -1.0)]})
    assert RULE_OF_SIGNS in text
    assert "| `mic` | part of a | +1.5 | +1.0 | +1.2 ± 0.4 | + | + |" in text
    assert "| `mic` | part of b | -2.0 | - | -2.0 | ? | - |" in text
    assert "1 of 2 signs are the paper's" in text
    assert "- part of a of `mic`: `adapt.a=1 adapt.b=2`" in text


def test_what_is_missing_is_listed_by_its_reason() -> None:
    left_out = {
        "st, seed 1": "not run yet",
        "cbst, seed 0": "not run yet",
        "st, seed 2": "not run yet",
        "a, seed 0": "!",
    }
    text = tables({**table(SOURCE), "left_out": left_out})
    assert lines_of(text, "- ") == ["- not run yet: `st` (seeds 1, 2), `cbst` (seed 0)", "- !: `a` (seed 0)"]
