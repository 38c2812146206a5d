"""Class lists with one class per line: plain names, tables, and the text files of labelme, CVAT and VOC."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segadapt.errors import RequestError

Entry = dict[str, Any]
"""``name``, and where they are known ``id`` and ``color``."""
Rows = Sequence[Sequence[str]]
OTHERS = "others"
"""Stands for all ids or colours that no class names."""
IGNORE_OF_LABELME, BACKGROUND_OF_LABELME = "__ignore__", "_background_"
_ID_OF_IGNORED = 255

NAME_KEYS = ("name", "class_name", "class", "title", "label", "label_name", "category", "category_name")
ID_KEYS = (
    *("id", "ids", "value", "pixel_value", "png_index", "index", "idx", "class_id", "label_id", "category_id"),
    *("class_index", "gray", "grey", "gray_value", "grey_value", "number"),
)
TRAIN_ID_KEYS = ("train_id", "trainid")
COLOR_KEYS = (
    *("color", "colors", "colour", "colours", "rgb", "color_rgb", "rgb_color", "hex", "hex_color", "hexcolor"),
    "color_hex",
)
CHANNEL_KEYS = (("r", "red"), ("g", "green"), ("b", "blue"))
"""Words for the parts of an entry, with small letters and underscores; the first ones are our own."""

_HEX = re.compile(r"#[0-9a-fA-F]{6}([0-9a-fA-F]{2})?\b")
_CVAT = re.compile(r"[^:]+:\s*(\d+\s*,\s*\d+\s*,\s*\d+)?\s*:[^:]*:[^:]*")
_SPACED = (
    re.compile(r"(?P<id>\d+)\s+(?P<name>\S.*?)\s+(?P<color>\d+\s+\d+\s+\d+)(\s+\d+)?"),  # id name r g b
    re.compile(r"(?P<name>\S.*?)\s+(?P<color>\d+\s+\d+\s+\d+)"),  # name r g b
    re.compile(r"(?P<color>\d+\s+\d+\s+\d+)\s+(?P<name>\S.*)"),  # r g b name
    re.compile(r"(?P<id>\d+)\s*:\s*(?P<name>\S.*)"),  # id: name
    re.compile(r"(?P<name>[^:]*[^:\s])\s*:\s*(?P<id>\d+)"),  # name: id
    re.compile(r"(?P<id>\d+)\s+(?P<name>\S.*)"),  # id name
)
"""Lines without a separator, tried in this order; all lines of a file must have the same form."""


def key_of(text: str) -> str:
    """Return a column's or a key's name with small letters and underscores."""
    return re.sub(r"[\s_-]+", "_", text.strip().strip("\"'")).casefold()


def entries_of_lines(text: str, path: Path) -> list[Entry]:
    """Return the classes of a file with one class per line.

    Raises:
        RequestError: the file is empty, or its lines are not understood.
    """
    lines = [line.strip("\r\n") for line in text.splitlines() if line.strip()]
    lines = lines[1:] if lines and re.fullmatch(r"sep=.", lines[0].strip()) else lines  # of Excel
    first = lines[0].lstrip("# ").casefold() if lines else ""
    lines = [line for line in lines if not line.lstrip().startswith("#") or _HEX.match(line.lstrip())]
    if not lines:
        raise RequestError(f"classes file {path} is empty; write one class per line")
    if first.startswith("label:color_rgb") or all(_CVAT.fullmatch(line.strip()) for line in lines):
        return _of_cvat(lines, path)
    delimiter = _delimiter(lines)
    if delimiter in (None, "\t"):
        spaced = _of_spaced([" ".join(line.split()) for line in lines])
        if spaced is not None:
            return spaced
    if delimiter is None:
        return of_names([line.strip() for line in lines], path)
    try:
        rows = [[field.strip() for field in row] for row in csv.reader(lines, delimiter=delimiter, strict=False)]
    except csv.Error as problem:
        raise RequestError(f"classes file {path} cannot be parsed: {problem}") from None
    if any(key_of(field) in (*NAME_KEYS, *ID_KEYS) for field in rows[0]) and not any(map(_number, rows[0])):
        return _of_table(rows, path)
    return _of_rows(rows, path)


def _delimiter(lines: Sequence[str]) -> str | None:
    """Return the sign that separates the columns: one that all lines have, or else some; names may hold the others."""
    for has in (all, any):
        for sign in ("\t", ";", ","):
            if has(sign in line for line in lines):
                return sign
    return None


def of_names(names: Sequence[str], path: Path) -> list[Entry]:
    """Return the classes of names alone, numbered from 0; as labelme numbers them where ``__ignore__`` comes first.

    Raises:
        RequestError: ``__ignore__`` or ``_background_`` stands where labelme has it not, or each name ends in a number
            that may be its id.
    """
    first = int(names[:1] == [IGNORE_OF_LABELME])
    places = {BACKGROUND_OF_LABELME: first, IGNORE_OF_LABELME: 0}
    for name, place in places.items():
        here = first or name in names
        if here and (name not in names[place : place + 1] or names.count(name) > 1):
            raise RequestError(
                f"classes file {path}: '{name}' is not where labelme has it ({IGNORE_OF_LABELME} first, then "
                f"{BACKGROUND_OF_LABELME}); write name,id in each line"
            )
    ended = [re.fullmatch(r"(.*\S)[\s=]+(\d+)", name) for name in names]
    if len(names) > 1 and all(ended) and len({found[1] for found in ended if found}) == len(names):
        raise RequestError(
            f"classes file {path}: '{names[0]}' may be a name or a name with its id; write name,id in each line"
        )
    ignored: list[Entry] = [{"name": names[0], "id": _ID_OF_IGNORED}] if first else []
    return ignored + [{"name": name, "id": place} for place, name in enumerate(names[first:])]


def _of_cvat(lines: Sequence[str], path: Path) -> list[Entry]:
    """Return the classes of CVAT's ``labelmap.txt``, numbered from 0; its masks show the colours."""
    entries: list[Entry] = []
    for line in lines:
        name, _, rest = line.partition(":")
        color = rest.partition(":")[0]
        if not color.strip():
            raise RequestError(
                f"classes file {path}: CVAT's class '{name}' has no colour; write name:r,g,b:: in its line"
            )
        entries.append({"name": name.strip(), "id": len(entries), "color": color.split(",")})
    return entries


def _of_spaced(lines: Sequence[str]) -> list[Entry] | None:
    for form in _SPACED:
        found = [form.fullmatch(line) for line in lines]
        parts = [match.groupdict() for match in found if match is not None]
        if len(parts) == len({p["name"] for p in parts}) == len(lines):  # else "2 wheeler" and "4 wheeler" are names
            return [
                {"name": p["name"].strip("\"'"), "id": p.get("id"), "color": (p.get("color") or "").split() or None}
                for p in parts
            ]
    return None


def _of_table(rows: Rows, path: Path) -> list[Entry]:
    """Return the classes of a table whose first row names its columns; columns that say nothing here are left out."""
    keys = [key_of(field) for field in rows[0]]
    twice = next((key for key, count in Counter(keys).items() if key and count > 1), None)
    if twice:
        raise RequestError(f"classes file {path} has two columns '{twice}'; keep one of them")
    return [dict(zip(keys, row, strict=False)) for row in rows[1:]]


def _of_rows(rows: Rows, path: Path) -> list[Entry]:
    """Return the classes of a table without a header, whose columns are told by what they hold."""
    while all(row and not row[-1] for row in rows):
        rows = [row[:-1] for row in rows]
    widths = {len(row) for row in rows}
    columns = list(zip(*rows, strict=False))
    texts = [i for i, column in enumerate(columns) if not all(map(_numeric, column))]
    if len(widths) == 1 and not texts and len(columns) == 2:
        if rows and all(a == b for a, b in rows):
            texts = [0]
        else:
            raise RequestError(
                f"classes file {path}: '{','.join(rows[0])}' does not tell the name from the id; write the line "
                "name,id above"
            )
    numbers = [i for i in range(len(columns)) if i not in texts]
    if len(widths) > 1 or len(texts) != 1 or len(numbers) not in (1, 3, 4):
        wrong = next((row for row in rows if len(row) not in (1, 2, 4, 5)), rows[0])
        raise RequestError(
            f"classes file {path}: '{','.join(wrong)[:80]}' is not name, name,id or name,r,g,b, and no known header; "
            "write the line name,id or name,r,g,b above the others"
        )
    ids, colors = (numbers[:1], numbers[1:]) if len(numbers) in (1, 4) else ([], numbers)
    if len(numbers) == 1 and rows[0][numbers[0]].startswith("#"):
        ids, colors = [], numbers
    return [
        {
            "name": row[texts[0]],
            "id": row[ids[0]] if ids else None,
            "color": [row[i] for i in colors] if len(colors) == 3 else row[colors[0]] if colors else None,
        }
        for row in rows
    ]


def _number(field: str) -> bool:
    return field.isdigit()


def _numeric(field: str) -> bool:
    return field.isdigit() or field == OTHERS or _HEX.fullmatch(field) is not None
