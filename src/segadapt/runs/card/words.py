"""Words that several sections of a model card share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from segadapt.core.markdown import plain
from segadapt.methods.registry import METHODS
from segadapt.runs.card.facts import without_folders


def listed_names(names: Sequence[str]) -> str:
    """Return names in a row, as Markdown."""
    return ", ".join(map(plain, names))


def number(value: float | None) -> str:
    """Return a score with one digit; a dash where there is none."""
    return "-" if value is None else f"{value:.1f}"


def text_of(value: Any) -> str:
    """Return a value as text; nothing for none."""
    return "" if value is None else str(value)


def listed(value: Any) -> str:
    """Return several values in a row, not yet as Markdown."""
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else text_of(value)


def size_of(size: Any) -> str:
    """Return a working size in words, not yet as Markdown."""
    if size is None:
        return "as it is"
    if isinstance(size, (list, tuple)) and len(size) == 2:
        return " x ".join("in proportion" if side is None else str(side) for side in size)
    return f"longest side at most {size}"


def place_of(spec: Mapping[str, Any]) -> str:
    """Return a data set in words, not yet as Markdown: a reader with its split, or the name of a folder; no path."""
    reader = text_of(spec.get("reader", "folder"))
    if reader == "python":
        return "given by a script"
    if reader == "folder":
        return f"folder {without_folders(text_of(spec.get('images')))}"
    split = text_of(spec.get("split"))
    return f"{reader}, split {split}" if split else reader


def method_of(row: Mapping[str, Any]) -> str:
    """Return the title of a method and its paper, as Markdown."""
    name = text_of(row.get("method"))
    info = METHODS.get(name)
    title = text_of(row.get("title")) or (info.title if info is not None else name)
    paper = info.paper.citation if info is not None and info.paper is not None else ""
    return plain(f"{title} ({name}{': ' * bool(paper)}{paper})")
