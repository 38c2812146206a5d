"""The ledger: every published row of the methods here, with the recipe that follows it; see ``ledger.yaml``.

Reading it imports none of the heavy packages, so that ``segadapt recipes`` can show the numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from segadapt.recipes.merging import parse_yaml

FILE = Path(__file__).with_name("ledger.yaml")


@dataclass(frozen=True)
class PublishedRow:
    """A row of a table of a paper; scores in percent, None where the table has none.

    Attributes:
        source: key of the paper.
        paper: citation of the paper that the table is of.
        where: table and, where known, page.
        task: the task, as recipes name it.
        test: ``val``, or ``server`` for images whose labels are not public.
        space: name of the label space of the table.
        names: its classes; ``iou`` is in their order.
        thirteen: those of them that SYNTHIA's second protocol has.
        method: as the table names it.
        network: as the table names it.
        miou: mean IoU over ``names``.
        miou13: mean IoU over ``thirteen``.
        iou: of each class; empty where the table has none.
        recipe: recipe that follows the row; "" where there is none.
        stage: the stage of it whose score the row is; "" is the last one.
        overrides: settings of the recipe that the row changes.
        differs: what the recipe does otherwise than the row; "" where nothing is known.
        folds: number of folds that the row is the mean over; 0 where it is of one test set.
        quoted: whether the number is not the table's authors' own.
        averages: what ``iou`` averages to, where that is not the printed ``miou``; ``averages13`` of ``miou13``.
        note: one line on the row or its table.
        ours: our own number; None where none was measured.
    """

    source: str
    paper: str
    where: str
    task: str
    test: str
    space: str
    names: tuple[str, ...]
    thirteen: tuple[str, ...]
    method: str
    network: str
    miou: float | None = None
    miou13: float | None = None
    iou: tuple[float | None, ...] = ()
    recipe: str = ""
    stage: str = ""
    overrides: tuple[str, ...] = ()
    differs: str = ""
    folds: int = 0
    quoted: bool = False
    averages: float | None = None
    averages13: float | None = None
    note: str = field(default="", compare=False)
    ours: float | None = None

    @property
    def score(self) -> float | None:
        """The mean IoU of the row: over all classes of its table, or where it has none over 13."""
        return self.miou if self.miou is not None else self.miou13

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that :attr:`score` is the mean over."""
        return self.names if self.miou is not None else self.thirteen


@cache
def ledger() -> tuple[PublishedRow, ...]:
    """Return all rows, in the order of the file."""
    raw = parse_yaml(FILE.read_text(encoding="utf-8"))
    papers = {name: str(entry["paper"]) for name, entry in raw["sources"].items()}
    return tuple(_row(table, row, papers, raw["classes"]) for table in raw["tables"] for row in table["rows"])


def rows_of(recipe: str) -> tuple[PublishedRow, ...]:
    """Return the rows that a recipe follows: the authors' own before those that others quote."""
    return tuple(sorted((row for row in ledger() if row.recipe == recipe), key=lambda row: row.quoted))


@cache
def published() -> dict[str, PublishedRow]:
    """Return by recipe the row that its result stands beside: unchanged, the last stage, public labels if it can be."""
    found: dict[str, PublishedRow] = {}
    for row in sorted(ledger(), key=lambda row: (row.quoted, row.test == "server", _not_the_last(row))):
        if row.recipe and not row.overrides:
            found.setdefault(row.recipe, row)
    return found


def _not_the_last(row: PublishedRow) -> int:
    """Return how far a stage is from the last one, by the numbers in names of stages; 0 where there are none."""
    return -int(row.stage[-1]) if row.stage[-1:].isdigit() else 0


def _row(
    table: Mapping[str, Any], row: Mapping[str, Any], papers: Mapping[str, str], classes: Mapping[str, Any]
) -> PublishedRow:
    """Return a row with what its table says of all rows."""
    known = {key: value for key, value in row.items() if key not in ("iou", "overrides")}
    notes = [text for text in (row.get("note"), table.get("note")) if text]
    return PublishedRow(
        source=table["source"],
        paper=papers[table["source"]],
        where=table["where"],
        task=table["task"],
        test=table["test"],
        space=table["classes"],
        names=tuple(classes[table["classes"]]),
        thirteen=tuple(classes["nthu13"]),
        iou=tuple(row.get("iou", ())),
        overrides=tuple(row.get("overrides", "").split()),
        **{**known, "note": "; ".join(notes)},
    )
