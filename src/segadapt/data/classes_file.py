"""The small file that names the class of each value or colour in a user's masks.

Four ways to write it:

* YAML or JSON list of names: ``[road, car, sky]`` means ids 0, 1, 2.
* YAML or JSON mapping: ``{background: 0, tumour: 255}``, ``{0: background, 255: tumour}`` or
  ``{road: [128, 64, 128], car: [0, 0, 142]}``.
* YAML or JSON list of entries: ``[{name: road, ids: [7, 8], colors: [[128, 64, 128]]}, ...]``; ``id`` and ``color``
  mean the same.
* TXT or CSV, one class per line: ``name``, ``name,id`` or ``name,r,g,b``, also with semicolons or tabs; a CSV may
  have a header with ``name`` or ``class``, ``id``, ``r``, ``g``, ``b``.

A class named ``void`` or ``ignore`` marks pixels that belong to no class. The id or colour ``others`` stands for all
that no class names: ``ignore: others``. In an entry, ids and colours may differ between the parts of a run:
``{name: road, ids: {source: [7, 8], test: 0}}``; see :data:`PARTS`. ``labels`` lists further names that the class has
in annotations: ``{name: vehicle, labels: [car, bus]}``.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import yaml

from segadapt.errors import RequestError, nearest
from segadapt.labels import Color, LabelSpace, distinct_colors

IGNORED_NAMES = ("void", "ignore")
OTHERS = "others"
"""Stands for all ids or colours that no class names."""
PARTS: dict[str, tuple[str, ...]] = {
    "source": ("source",),
    "target": ("target", "test"),
    "test": ("test", "target"),
}
"""Each part of a run, and the parts whose ids its masks may have; the first one that a class names counts."""
_LARGEST_ID = 65535
_FORMATS = "a list of names, or name: id, or name: [r, g, b], or entries with name, ids and colors"
_KEYS = {"id": "ids", "ids": "ids", "color": "colors", "colour": "colors", "colors": "colors", "colours": "colors"}
_KEYS["labels"] = "labels"

T = TypeVar("T")


@dataclass(frozen=True)
class MaskClass:
    """One class of a user's masks.

    Attributes:
        name: class name; ``void`` and ``ignore`` belong to no class.
        ids: its values in index masks, none where it does not occur; None when only colours are given.
        colors: its RGB colours in colour masks, the first one also in pictures; None when only ids are given.
        others: whether all values and colours that no class has belong to it.
        labels: its other names in annotations (COCO, labelme, ...).
    """

    name: str
    ids: tuple[int, ...] | None = None
    colors: tuple[Color, ...] | None = None
    others: bool = False
    labels: tuple[str, ...] = ()

    @property
    def ignored(self) -> bool:
        """Whether its pixels belong to no class."""
        return self.name.lower() in IGNORED_NAMES


def read_classes(path: Path, part: str | None = None) -> tuple[MaskClass, ...]:
    """Read the classes of a file, in its order; train ids follow this order, ignored classes left out.

    Args:
        path: the file.
        part: whose masks they are, a key of :data:`PARTS`; None for a file that makes no difference between them.

    Raises:
        RequestError: the file is missing, cannot be parsed, names, ids or colours repeat, or ids differ between parts
            and ``part`` is None.
    """
    if part is not None and part not in PARTS:
        raise RequestError(f"no part '{part}'{nearest(part, PARTS)} of a run has masks; parts: {', '.join(PARTS)}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as problem:
        raise RequestError(f"classes file {path} cannot be read: {problem.strerror}") from None
    except UnicodeDecodeError:
        raise RequestError(f"classes file {path} is not a text file") from None
    classes = _parser(path)(text, _Place(path, part))
    if all(c.ids is None and c.colors is None for c in classes):
        classes = tuple(replace(c, ids=(i,)) for i, c in enumerate(classes))
    _check(classes, path)
    return classes


def space_of(name: str, classes: Sequence[MaskClass]) -> LabelSpace:
    """Return the label space of the classes that are not ignored; colours are made up where none are given."""
    kept = [c for c in classes if not c.ignored]
    spare = distinct_colors(len(kept))
    return LabelSpace(
        name, tuple(c.name for c in kept), tuple(c.colors[0] if c.colors else spare[i] for i, c in enumerate(kept))
    )


@dataclass(frozen=True)
class _Place:
    """The file that is read, for messages, and the part of the run whose masks it is read for."""

    path: Path
    part: str | None

    def wrong(self, name: str, what: str) -> RequestError:
        return RequestError(f"classes file {self.path}: '{name}' {what}")


def _parser(path: Path) -> Callable[[str, _Place], tuple[MaskClass, ...]]:
    if path.suffix.lower() in (".yaml", ".yml", ".json"):
        return _from_tree
    if path.suffix.lower() in (".txt", ".csv"):
        return _from_lines
    raise RequestError(f"classes file {path}: write it as .yaml, .json, .txt or .csv")


def _from_tree(text: str, place: _Place) -> tuple[MaskClass, ...]:
    path = place.path
    try:
        tree = json.loads(text) if path.suffix.lower() == ".json" else yaml.safe_load(text)
    except (yaml.YAMLError, json.JSONDecodeError) as problem:
        raise RequestError(f"classes file {path} cannot be parsed: {' '.join(str(problem).split())}") from None
    if isinstance(tree, Mapping) and list(tree) == ["classes"]:
        tree = tree["classes"]
    if isinstance(tree, Mapping) and tree and all(str(k).isdigit() and isinstance(v, str) for k, v in tree.items()):
        return tuple(_entry({"name": name, "id": number}, place) for number, name in tree.items())
    if isinstance(tree, Mapping):
        return tuple(_named(str(name), value, place) for name, value in tree.items())
    if isinstance(tree, list) and all(isinstance(entry, str) for entry in tree):
        return tuple(MaskClass(name) for name in tree)
    if isinstance(tree, list) and all(isinstance(entry, Mapping) and "name" in entry for entry in tree):
        return tuple(_entry(entry, place) for entry in tree)
    raise RequestError(f"classes file {path}: expected {_FORMATS}")


def _named(name: str, value: Any, place: _Place) -> MaskClass:
    if isinstance(value, Mapping):
        return _entry({"name": name, **value}, place)
    return _entry({"name": name, "color": value} if _is_color(value) else {"name": name, "id": str(value)}, place)


def _entry(entry: Mapping[str, Any], place: _Place) -> MaskClass:
    name, given = str(entry["name"]), {}
    for key, value in entry.items():
        if key != "name" and key not in _KEYS:
            raise place.wrong(name, f"has the unknown key '{key}'; the keys are name, ids, colors and labels")
        if key == "name" or value is None:
            continue
        if _KEYS[key] in given:
            raise place.wrong(name, f"has {_KEYS[key]} twice, in the singular and in the plural")
        given[_KEYS[key]] = _of_part(value, name, place)
    return MaskClass(
        name,
        _several(given["ids"], _id, name, place) if "ids" in given else None,
        _several(given["colors"], _color, name, place) if "colors" in given else None,
        OTHERS in given.values(),
        _several(given["labels"], lambda label, *_: str(label), name, place) if "labels" in given else (),
    )


def _of_part(value: Any, name: str, place: _Place) -> Any:
    """Return the ids or colours that count for the part of the run; none where the class does not occur in it."""
    if not isinstance(value, Mapping):
        return value
    for key in value:
        if key not in PARTS:
            raise place.wrong(name, f"names the part '{key}'{nearest(str(key), PARTS)}; parts: {', '.join(PARTS)}")
    if place.part is None:
        raise place.wrong(
            name, f"differs between the parts of a run; say with --part which masks these are: {', '.join(PARTS)}"
        )
    return next((value[part] for part in PARTS[place.part] if part in value), ())


def _several(value: Any, read: Callable[[Any, str, _Place], T], name: str, place: _Place) -> tuple[T, ...]:
    """Return one id or colour, or each of a list of them; none of its own for a class of all others."""
    if value == OTHERS:
        return ()
    single = not isinstance(value, list | tuple) or (read is _color and value and not _is_color(value[0]))
    return tuple(read(one, name, place) for one in ([value] if single else value))


def _from_lines(text: str, place: _Place) -> tuple[MaskClass, ...]:
    path = place.path
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    delimiter = next((d for d in ("\t", ";") if any(d in line for line in lines)), ",")
    rows = [[field.strip() for field in row] for row in csv.reader(lines, delimiter=delimiter)]
    if not rows:
        raise RequestError(f"classes file {path} is empty; write one class per line")
    header = ["name" if field.lower() == "class" else field.lower() for field in rows[0]]
    if len(header) > 1 and "name" in header and not any(field.isdigit() for field in header):
        return tuple(_from_row(dict(zip(header, row, strict=False)), place) for row in rows[1:])
    columns = {1: ["name"], 2: ["name", "id"], 4: ["name", "r", "g", "b"]}
    for row in rows:
        if len(row) not in columns:
            raise RequestError(f"classes file {path}: '{','.join(row)}' is not name, name,id or name,r,g,b")
    return tuple(_from_row(dict(zip(columns[len(row)], row, strict=True)), place) for row in rows)


def _from_row(row: Mapping[str, str], place: _Place) -> MaskClass:
    color = [row[key] for key in ("r", "g", "b") if row.get(key)]
    return _entry({"name": row.get("name", ""), "id": row.get("id") or None, "color": color or None}, place)


def _is_color(value: Any) -> bool:
    return isinstance(value, list | tuple) or (isinstance(value, str) and value.startswith("#"))


def _id(value: Any, name: str, place: _Place) -> int:
    try:
        number = int(str(value))
    except ValueError:
        number = -1
    if not 0 <= number <= _LARGEST_ID:
        raise place.wrong(name, f"has the id '{value}'; an id is a number from 0 to {_LARGEST_ID}")
    return number


def _color(value: Any, name: str, place: _Place) -> Color:
    try:
        if isinstance(value, str) and len(value) == 7:
            parts = [int(value[i : i + 2], 16) for i in (1, 3, 5)]
        else:
            parts = [int(str(v)) for v in value]
    except (ValueError, TypeError):
        parts = []
    if len(parts) != 3 or not all(0 <= p <= 255 for p in parts):
        raise place.wrong(
            name,
            f"has the color '{value}'; write [r, g, b] with numbers from 0 to 255, and several ids as {{ids: [1, 2]}}",
        )
    return parts[0], parts[1], parts[2]


def _check(classes: Sequence[MaskClass], path: Path) -> None:
    if not any(not c.ignored for c in classes):
        raise RequestError(f"classes file {path} names no class; write {_FORMATS}")
    kinds: dict[str, list[Any]] = {
        "name": [c.name for c in classes],
        "id": [i for c in classes for i in c.ids or ()],
        "color": [color for c in classes for color in c.colors or ()],
        "name in annotations": [label for c in classes for label in dict.fromkeys((c.name, *c.labels))],
        "place of all others": [OTHERS for c in classes if c.others],
    }
    for kind, values in kinds.items():
        twice = [v for i, v in enumerate(values) if v in values[:i]]
        if twice:
            raise RequestError(
                f"classes file {path}: the {kind} '{twice[0]}' stands there twice; each class needs its own"
            )
    if not kinds["id"] and not kinds["color"]:
        raise RequestError(f"classes file {path}: no class has an id or colour of these masks; give them ids")
    ids_lacking = [c.name for c in classes if c.ids is None and not (c.others or c.labels)]
    colors_lacking = [c.name for c in classes if c.colors is None and not (c.others or c.labels)]
    for kind, lacking in (("id", ids_lacking), ("color", colors_lacking)):
        if kinds[kind] and lacking and (kind == "id" or not kinds["id"]):
            raise RequestError(
                f"classes file {path}: '{lacking[0]}' has no {kind} but others have; give all of them one"
            )
    if any(not c.name for c in classes):
        raise RequestError(f"classes file {path}: a class has no name")
