"""The tables of ``docs/ledger.md``: every published row of the ledger, with the recipe that follows it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from segadapt.recipes.ledger import PublishedRow

BEGIN, END = "<!-- begin ledger -->", "<!-- end ledger -->"
TASKS = {
    "gta5_cityscapes": "GTA5 to Cityscapes",
    "synthia_cityscapes": "SYNTHIA to Cityscapes",
    "cityscapes_acdc": "Cityscapes to ACDC",
    "cityscapes_dark_zurich": "Cityscapes to Dark Zurich",
    "cityscapes_nthu_rome": "Cityscapes to Rome",
    "cityscapes_nthu_rio": "Cityscapes to Rio",
    "cityscapes_nthu_tokyo": "Cityscapes to Tokyo",
    "cityscapes_nthu_taipei": "Cityscapes to Taipei",
    "gta5_bddv": "GTA5 to BDD-V",
}
"""Tasks in the order of the page, with their headings."""


def section(rows: Sequence[PublishedRow]) -> str:
    """Write the generated part of the page: counts, then a heading per task and a table per table of a paper."""
    measured = sum(row.ours is not None for row in rows)
    parts = [
        f"{len(rows)} rows: {sum(bool(row.iou) for row in rows)} with the IoU of each class, "
        f"{sum(bool(row.recipe) for row in rows)} with a recipe, {measured} measured here."
    ]
    for task in sorted({row.task for row in rows}, key=list(TASKS).index):
        parts.append(f"## {TASKS[task]}")
        of_task = [row for row in rows if row.task == task]
        for (paper, where, test), found in groupby(of_task, key=lambda row: (row.paper, row.where, row.test)):
            server = "; on the test server's images" if test == "server" else ""
            parts += [f"### {paper}: {where}{server}", table(list(found))]
    return "\n\n".join(parts)


def table(rows: Sequence[PublishedRow]) -> str:
    """Write one table of a paper; columns that none of its rows fills are left out."""
    columns = {
        "method": [row.method + (" (quoted)" if row.quoted else "") for row in rows],
        "network": [row.network for row in rows],
        "recipe": [recipe(row) for row in rows],
        "mIoU": [beside(row.miou, row.averages) for row in rows],
        "mIoU of 13": [beside(row.miou13, row.averages13) for row in rows],
        "ours": [number(row.ours) for row in rows],
    }
    for place, name in enumerate(rows[0].names):
        columns[name] = [number(row.iou[place]) if row.iou else "" for row in rows]
    columns["remarks"] = ["; ".join(text for text in (row.differs, row.note) if text) for row in rows]
    shown = {name: cells for name, cells in columns.items() if any(cells)}
    return "\n".join(line(cells) for cells in [shown, ["---"] * len(shown), *zip(*shown.values(), strict=True)])


def line(cells: Iterable[str]) -> str:
    """Write one line of a table."""
    return f"| {' | '.join(cells)} |"


def recipe(row: PublishedRow) -> str:
    """Write the recipe of a row with the settings that it changes, and the stage whose score it is."""
    if not row.recipe:
        return ""
    stage = f", {row.stage}" if row.stage else ""
    return f"`{' '.join([row.recipe, *row.overrides])}`{stage}"


def beside(printed: float | None, averages: float | None) -> str:
    """Write a printed mean, and what the classes beside it average to where that is something else."""
    return number(printed) + ("" if averages is None else f" (classes: {averages:.1f})")


def number(value: float | None) -> str:
    """Write a score with one decimal, nothing for None."""
    return "" if value is None else f"{value:.1f}"
