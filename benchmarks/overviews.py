"""Generated overviews: the results on the home page, the lists of methods, recipes and pieces."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import groupby
from pathlib import Path
from posixpath import relpath

from benchmarks.method_pages import TASKS, Row, Table, cell, oracle_of, read
from segadapt.bench.pages import control_of, source_of
from segadapt.core.markdown import grid
from segadapt.methods.catalogue import OWN
from segadapt.pieces import _TOPICS
from segadapt.recipes import recipe_names

OWN_METHOD, BEST_PUBLISHED = "best", "best published method"


def blocks(root: Path) -> dict[Path, tuple[str, str]]:
    """Return name and content of the overview of each page, of those pages that there are."""
    made: Mapping[str, tuple[str, Callable[[], str]]] = {
        "docs/index.md": ("headline", lambda: headline(tables(root))),
        "docs/methods/README.md": ("methods", methods),
        "docs/recipes.md": ("recipes", recipes),
        "docs/pieces.md": ("pieces", pieces),
    }
    return {root / page: (name, write()) for page, (name, write) in made.items() if (root / page).is_file()}


def tables(root: Path) -> dict[str, Table]:
    """Return the measured table of each task."""
    return {task: read(root / f"benchmarks/{task}.json")["table"] for task in TASKS}


def headline(measured: Mapping[str, Table]) -> str:
    """Write the bounds, the controls, the best published method of each task and the library's own."""
    rows: dict[str, Callable[[Table], Row | None]] = {
        "trained on the source alone": source_of,
        "the same, as many steps as a method": control_of,
        "the same with strong colours": lambda table: named(table, "strong"),
        BEST_PUBLISHED: best_published,
        "**`best`, the library's own**": lambda table: named(table, OWN_METHOD),
        "trained with the target's labels": oracle_of,
    }
    lines = [[title, *(shown(table, row(table), title) for table in measured.values())] for title, row in rows.items()]
    return grid(["mIoU (against as many steps on the source)", *TASKS.values()], lines)


def shown(table: Table, row: Row | None, title: str) -> str:
    """Write the score of a row, with its name where the line does not say it."""
    if row is None:
        return ""
    text = cell(table, row["method"], row["title"])
    return f"{row['title']}: {text}" if title == BEST_PUBLISHED else text


def named(table: Table, name: str) -> Row | None:
    """Return the result of a row by the name of the row; None where it was not run."""
    return next((row for row in table["rows"] if row["method"] == name and row["result"]), None)


def best_published(table: Table) -> Row:
    """Return the result with the highest score among the published methods."""
    rows = (row for row in table["rows"] if row["role"] == "adapted" and row["result"] and not row["control"])
    return max((row for row in rows if row["method"] != OWN_METHOD), key=lambda row: row["miou"])


def methods() -> str:
    """Write every method with its paper and its page."""
    lines = []
    for paper, group in groupby(OWN.items(), key=lambda item: item[1].paper):
        for name, info in group:
            page = relpath(paper.page, "docs/methods") if paper and paper.page else ""
            link = f"[{info.title}]({page})" if page else info.title
            lines.append([f"`{name}`", link, info.summary, paper.citation if paper else ""])
    return grid(["name", "page", "what it does", "paper"], lines)


def recipes() -> str:
    """Write the recipes of each task."""
    names = [name.split("/") for name in recipe_names()]
    lines = [
        [f"`{task}`", ", ".join(f"`{name}`" for _, name in group)]
        for task, group in groupby(names, key=lambda parts: parts[0])
    ]
    return grid(["task", "recipes"], lines)


def pieces() -> str:
    """Write the pieces of each module."""
    lines = [
        [f"[{module}](../src/segadapt/pieces/{module}.py)", ", ".join(f"`{name}`" for name in names)]
        for module, names in _TOPICS.items()
    ]
    return grid(["module", "pieces"], lines)
