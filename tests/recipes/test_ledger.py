"""The ledger of published rows: its numbers add up, and its recipes are there."""

from __future__ import annotations

from collections import Counter

import pytest

from segadapt.errors import RequestError
from segadapt.labels import NTHU, SYNTHIA, label_space
from segadapt.methods.papers import __dict__ as papers
from segadapt.recipes import recipe_names, stages_of
from segadapt.recipes.ledger import PublishedRow, ledger, published, rows_of
from segadapt.runs.config import load_config

ROWS = ledger()
WITH_CLASSES = [row for row in ROWS if row.iou]
ROUNDING = 0.1
"""Of the printed mean and of the printed classes, 0.05 each."""


def named(row: PublishedRow) -> str:
    return f"{row.source}, {row.where}: {row.method}, {row.network}"


def mean(row: PublishedRow, names: tuple[str, ...]) -> float:
    known = [value for name, value in zip(row.names, row.iou, strict=True) if name in names and value is not None]
    return sum(known) / len(known)


def test_the_classes_of_every_row_average_to_its_mean() -> None:
    """Or to what the row itself says of them, where the paper's own numbers do not agree."""
    wrong = []
    for row in WITH_CLASSES:
        assert len(row.iou) == len(row.names), named(row)
        assert all(value is None or 0 <= value <= 100 for value in row.iou), named(row)
        for printed, averages, names in (
            (row.miou, row.averages, row.names),
            (row.miou13, row.averages13, row.thirteen),
        ):
            if printed is not None and abs(mean(row, names) - (averages or printed)) > ROUNDING + 1e-6:
                wrong.append(f"{named(row)}: {printed} is printed, {mean(row, names):.2f} is the mean")
    assert wrong == []


def test_classes_are_those_of_the_label_spaces() -> None:
    assert {row.space: row.names for row in ROWS} == {
        space: label_space(space).names for space in ("cityscapes19", "synthia16", "nthu13")
    }
    assert {row.thirteen for row in ROWS} == {NTHU.names}
    assert SYNTHIA.subsets["synthia13"] == NTHU.names


def test_rows_whose_paper_contradicts_itself_are_few_and_really_off() -> None:
    off = [row for row in WITH_CLASSES if row.averages is not None or row.averages13 is not None]
    assert 0 < len(off) < 0.2 * len(WITH_CLASSES)
    for row in off:
        gaps = [
            abs(printed - averages)
            for printed, averages in ((row.miou, row.averages), (row.miou13, row.averages13))
            if averages is not None and printed is not None
        ]
        assert gaps
        assert min(gaps) > 0.05, named(row)


def test_every_row_has_a_number_and_a_paper_of_the_library() -> None:
    citations = {paper.citation.rpartition(", ")[0] for paper in papers.values() if hasattr(paper, "citation")}
    for row in ROWS:
        assert row.score is not None, named(row)
        assert 10 < row.score < 90, named(row)
        assert row.test in ("val", "server")
        assert row.where
        assert row.paper.partition(",")[0] in {citation.partition(",")[0] for citation in citations} | {
            "Englert et al."
        }


def test_each_row_is_there_once() -> None:
    keys = Counter((row.source, row.where, row.task, row.method, row.network) for row in ROWS)
    assert [key for key, count in keys.items() if count > 1] == []


def test_recipes_of_rows_are_shipped_with_the_stage_and_on_the_task_of_the_row() -> None:
    shipped = set(recipe_names())
    for row in ROWS:
        if row.recipe:
            assert row.recipe in shipped, named(row)
            assert row.recipe.partition("/")[0] == row.task, named(row)
            assert not row.stage or row.stage in dict(stages_of(row.recipe)), named(row)
        else:
            assert (row.stage, row.overrides, row.differs) == ("", (), ""), named(row)


def test_ablations_of_rows_can_be_given() -> None:
    for row in {(row.recipe, row.overrides): row for row in ROWS if row.overrides}.values():
        try:
            load_config(row.recipe, row.overrides)
        except RequestError as problem:
            pytest.fail(f"{named(row)}: {problem}")


def test_numbers_that_the_papers_are_known_by() -> None:
    known = {name: row.score for name, row in published().items()}
    assert known["gta5_cityscapes/cbst_sp_mst_resnet38"] == 47.0
    assert known["gta5_cityscapes/proda"] == 57.5
    assert known["gta5_cityscapes/cpsl"] == 60.8
    assert known["synthia_cityscapes/bcl"] == 55.6
    assert known["gta5_cityscapes/mpcl_mic_hrda"] == 76.8
    assert known["cityscapes_nthu_rome/cbst_resnet38"] == 53.6
    assert "toy/cbst" not in known
    assert [row.stage for row in rows_of("gta5_cityscapes/proda") if not row.overrides and not row.quoted] == [
        *("warmup", "stage1", "stage2", "stage3", "stage1")
    ]


def test_no_recipe_of_a_paper_network_is_without_its_row() -> None:
    """Recipes that are named after a row of a table are in the ledger, with or without a number of their own."""
    ledgered = {row.recipe for row in ROWS}
    named_after_rows = [name for name in recipe_names() if name.endswith(("_resnet38", "_vgg16", "adaptseg_single"))]
    without = {name for name in named_after_rows if name not in ledgered}
    assert without == {"gta5_cityscapes/st_sp_resnet38", "gta5_cityscapes/st_sp_vgg16", "gta5_bdd100k/adaptseg_single"}
