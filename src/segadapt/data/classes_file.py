"""The small file that names the class of each value or colour in a user's masks.

Four ways to write it:

* YAML or JSON list of names: ``[road, car, sky]`` means ids 0, 1, 2.
* YAML or JSON mapping: ``{background: 0, tumour: 255}``, ``{0: background, 255: tumour}`` or
  ``{road: [128, 64, 128], car: [0, 0, 142]}``.
* YAML or JSON list of entries: ``[{name: road, id: 7, color: [128, 64, 128]}, ...]``.
* TXT or CSV, one class per line: ``name``, ``name,id`` or ``name,r,g,b``, also with semicolons or tabs; a CSV may
  have a header with ``name`` or ``class``, ``id``, ``r``, ``g``, ``b``.

A class named ``void`` or ``ignore`` marks pixels that belong to no class.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from segadapt.errors import RequestError
from segadapt.labels import Color, LabelSpace, distinct_colors

IGNORED_NAMES = ("void", "ignore")
_LARGEST_ID = 65535
_FORMATS = "a list of names, or name: id, or name: [r, g, b], or entries with name, id and color"


@dataclass(frozen=True)
class MaskClass:
    """One class of a user's masks.

    Attributes:
        name: class name; ``void`` and ``ignore`` belong to no class.
        id: value in index masks, or None when only a colour is given.
        color: RGB in colour masks and in pictures, or None.
    """

    name: str
    id: int | None = None
    color: Color | None = None

    @property
    def ignored(self) -> bool:
        """Whether its pixels belong to no class."""
        return self.name.lower() in IGNORED_NAMES


def read_classes(path: Path) -> tuple[MaskClass, ...]:
    """Read the classes of a file, in its order; train ids follow this order, ignored classes left out.

    Raises:
        RequestError: the file is missing, cannot be parsed, or names, ids or colours repeat.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as problem:
        raise RequestError(f"classes file {path} cannot be read: {problem.strerror}") from None
    except UnicodeDecodeError:
        raise RequestError(f"classes file {path} is not a text file") from None
    classes = _parser(path)(text, path)
    if all(c.id is None and c.color is None for c in classes):
        classes = tuple(MaskClass(c.name, i) for i, c in enumerate(classes))
    _check(classes, path)
    return classes


def space_of(name: str, classes: Sequence[MaskClass]) -> LabelSpace:
    """Return the label space of the classes that are not ignored; colours are made up where none are given."""
    kept = [c for c in classes if not c.ignored]
    spare = distinct_colors(len(kept))
    return LabelSpace(name, tuple(c.name for c in kept), tuple(c.color or spare[i] for i, c in enumerate(kept)))


def _parser(path: Path) -> Callable[[str, Path], tuple[MaskClass, ...]]:
    if path.suffix.lower() in (".yaml", ".yml", ".json"):
        return _from_tree
    if path.suffix.lower() in (".txt", ".csv"):
        return _from_lines
    raise RequestError(f"classes file {path}: write it as .yaml, .json, .txt or .csv")


def _from_tree(text: str, path: Path) -> tuple[MaskClass, ...]:
    try:
        tree = json.loads(text) if path.suffix.lower() == ".json" else yaml.safe_load(text)
    except (yaml.YAMLError, json.JSONDecodeError) as problem:
        raise RequestError(f"classes file {path} cannot be parsed: {' '.join(str(problem).split())}") from None
    if isinstance(tree, Mapping) and list(tree) == ["classes"]:
        tree = tree["classes"]
    if isinstance(tree, Mapping) and tree and all(str(k).isdigit() and isinstance(v, str) for k, v in tree.items()):
        return tuple(MaskClass(name, _id(number, name, path)) for number, name in tree.items())
    if isinstance(tree, Mapping):
        return tuple(_named(str(name), value, path) for name, value in tree.items())
    if isinstance(tree, list) and all(isinstance(entry, str) for entry in tree):
        return tuple(MaskClass(name) for name in tree)
    if isinstance(tree, list) and all(isinstance(entry, Mapping) and "name" in entry for entry in tree):
        return tuple(_entry(entry, path) for entry in tree)
    raise RequestError(f"classes file {path}: expected {_FORMATS}")


def _named(name: str, value: Any, path: Path) -> MaskClass:
    if isinstance(value, Mapping):
        return _entry({"name": name, **value}, path)
    return (
        MaskClass(name, color=_color(value, name, path))
        if _is_color(value)
        else MaskClass(name, _id(value, name, path))
    )


def _entry(entry: Mapping[str, Any], path: Path) -> MaskClass:
    unknown = set(entry) - {"name", "id", "color", "colour"}
    if unknown:
        raise RequestError(
            f"classes file {path}: '{entry['name']}' has the unknown key '{sorted(map(str, unknown))[0]}'; "
            "the keys are name, id and color"
        )
    name, color = str(entry["name"]), entry.get("color", entry.get("colour"))
    return MaskClass(
        name,
        None if entry.get("id") is None else _id(entry["id"], name, path),
        None if color is None else _color(color, name, path),
    )


def _from_lines(text: str, path: Path) -> tuple[MaskClass, ...]:
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    delimiter = next((d for d in ("\t", ";") if any(d in line for line in lines)), ",")
    rows = [[field.strip() for field in row] for row in csv.reader(lines, delimiter=delimiter)]
    if not rows:
        raise RequestError(f"classes file {path} is empty; write one class per line")
    header = ["name" if field.lower() == "class" else field.lower() for field in rows[0]]
    if len(header) > 1 and "name" in header and not any(field.isdigit() for field in header):
        return tuple(_from_row(dict(zip(header, row, strict=False)), path) for row in rows[1:])
    columns = {1: ["name"], 2: ["name", "id"], 4: ["name", "r", "g", "b"]}
    for row in rows:
        if len(row) not in columns:
            raise RequestError(f"classes file {path}: '{','.join(row)}' is not name, name,id or name,r,g,b")
    return tuple(_from_row(dict(zip(columns[len(row)], row, strict=True)), path) for row in rows)


def _from_row(row: Mapping[str, str], path: Path) -> MaskClass:
    name = row.get("name", "")
    given = {key: row[key] for key in ("r", "g", "b") if row.get(key)}
    color = _color(list(given.values()), name, path) if given else None
    return MaskClass(name, _id(row["id"], name, path) if row.get("id") else None, color)


def _is_color(value: Any) -> bool:
    return isinstance(value, list | tuple) or (isinstance(value, str) and value.startswith("#"))


def _id(value: Any, name: str, path: Path) -> int:
    try:
        number = int(str(value))
    except ValueError:
        number = -1
    if not 0 <= number <= _LARGEST_ID:
        raise RequestError(
            f"classes file {path}: '{name}' has the id '{value}'; an id is a number from 0 to {_LARGEST_ID}"
        )
    return number


def _color(value: Any, name: str, path: Path) -> Color:
    try:
        if isinstance(value, str) and len(value) == 7:
            parts = [int(value[i : i + 2], 16) for i in (1, 3, 5)]
        else:
            parts = [int(str(v)) for v in value]
    except (ValueError, TypeError):
        parts = []
    if len(parts) != 3 or not all(0 <= p <= 255 for p in parts):
        raise RequestError(
            f"classes file {path}: '{name}' has the color '{value}'; write [r, g, b] with numbers from 0 to 255"
        )
    return parts[0], parts[1], parts[2]


def _check(classes: Sequence[MaskClass], path: Path) -> None:
    if not any(not c.ignored for c in classes):
        raise RequestError(f"classes file {path} names no class; write {_FORMATS}")
    kinds: dict[str, list[Any]] = {
        "name": [c.name for c in classes],
        "id": [c.id for c in classes if c.id is not None],
        "color": [c.color for c in classes if c.color is not None],
    }
    for kind, values in kinds.items():
        twice = [v for i, v in enumerate(values) if v in values[:i]]
        if twice:
            raise RequestError(
                f"classes file {path}: the {kind} '{twice[0]}' stands there twice; each class needs its own"
            )
    for kind in ("id", "color"):
        lacking = [c.name for c in classes if getattr(c, kind) is None]
        if kinds[kind] and lacking and (kind == "id" or not kinds["id"]):
            raise RequestError(
                f"classes file {path}: '{lacking[0]}' has no {kind} but others have; give all of them one"
            )
    if any(not c.name for c in classes):
        raise RequestError(f"classes file {path}: a class has no name")
