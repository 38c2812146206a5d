"""The small file that names the class of each value or colour in a user's masks.

Four ways to write it, besides those of other tools (:mod:`segadapt.data.masks.class_lists`):

* YAML or JSON list of names: ``[road, car, sky]`` means ids 0, 1, 2.
* YAML or JSON mapping: ``{background: 0, tumour: 255}``, ``{0: background, 255: tumour}`` or
  ``{road: [128, 64, 128], car: [0, 0, 142]}``.
* YAML or JSON list of entries: ``[{name: road, ids: [7, 8], colors: [[128, 64, 128]]}, ...]``; ``id`` and ``color``
  mean the same.
* TXT or CSV, one class per line: ``name``, ``name,id`` or ``name,r,g,b``, also with semicolons or tabs, and with a
  header that names the columns.

Names are text as it stands there: ``no``, ``1e3`` and ``2024-01-01`` are names. A class named ``void`` or ``ignore``
marks pixels that belong to no class. The id or colour ``others`` stands for all that no class names:
``ignore: others``. In an entry, ids and colours may differ between the parts of a run:
``{name: road, ids: {source: [7, 8], test: 0}}``; see :data:`PARTS`. ``labels`` lists further names that the class has
in annotations: ``{name: vehicle, labels: [car, bus]}``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from segadapt.data.masks.class_lists import FORMATS, color_parts, entries_of
from segadapt.data.masks.class_tables import OTHERS
from segadapt.errors import RequestError, nearest
from segadapt.labels import IGNORE, IGNORED_NAMES, LARGEST_ID, MAX_CLASSES, Color, LabelSpace, distinct_colors

PARTS: dict[str, tuple[str, ...]] = {
    "source": ("source",),
    "target": ("target", "test"),
    "test": ("test", "target"),
}
"""Each part of a run, and the parts whose ids its masks may have; the first one that a class names counts."""
_OWN_PARTS = ("test", "target", "source")
"""Parts whose id or colour is a class's own, in which predictions are written; the first one that has one counts."""
_MOST_LISTED = 4096

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
        own_id: the id in which it is written, the same in every part of a run; None for the first of ``ids``.
        own_color: its colour in the same sense.
    """

    name: str
    ids: tuple[int, ...] | None = None
    colors: tuple[Color, ...] | None = None
    others: bool = False
    labels: tuple[str, ...] = ()
    own_id: int | None = None
    own_color: Color | None = None

    @property
    def ignored(self) -> bool:
        """Whether its pixels belong to no class."""
        return self.name.lower() in IGNORED_NAMES

    @property
    def first_id(self) -> int | None:
        """The id in which it is written; None where it has none."""
        return self.own_id if self.own_id is not None else next(iter(self.ids or ()), None)

    @property
    def first_color(self) -> Color | None:
        """The colour in which it is written; None where it has none."""
        return self.own_color if self.own_color is not None else next(iter(self.colors or ()), None)


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
    entries = entries_of(path)
    if len(entries) > _MOST_LISTED:
        raise RequestError(f"classes file {path} lists {len(entries)} classes; 1 to {MAX_CLASSES} can be used")
    classes = tuple(_entry(entry, _Place(path, part)) for entry in entries)
    if classes and all(c.ids is None and c.colors is None for c in classes):
        if len(entries) > 1 and any(e.keys() & {"id", "color"} for e in entries):
            raise RequestError(f"classes file {path}: no class has an id or colour; give each one")
        classes = tuple(replace(c, ids=(i,)) for i, c in enumerate(classes))
    _check(classes, path)
    return classes


def space_of(name: str, classes: Sequence[MaskClass], ignore_ids: Sequence[int] = (IGNORE,)) -> LabelSpace:
    """Return the label space of the classes that are not ignored; colours are made up where none are given.

    Args:
        name: of the space.
        classes: of a file or of masks.
        ignore_ids: further values of pixels of no class.
    """
    kept = [c for c in classes if not c.ignored]
    left_out = [c for c in classes if c.ignored]
    colors = _colors(kept)
    ids = _without_repeats(c.first_id for c in kept)
    free = [i for i in (*(c.first_id for c in left_out), *ignore_ids) if i is not None and i not in ids]
    return LabelSpace(
        name,
        tuple(c.name for c in kept),
        colors,
        ids=ids,
        ignore_id=next((i for i in free if 0 <= i <= LARGEST_ID), None),
        ignore_color=next((c.first_color for c in left_out if c.first_color is not None), None),
    )


def _colors(classes: Sequence[MaskClass]) -> tuple[Color, ...]:
    """Return a colour for each class; made-up ones differ from those that are given."""
    given = {c.first_color for c in classes}
    spare = iter(color for color in distinct_colors(2 * len(classes)) if color not in given)
    return tuple(c.first_color or next(spare) for c in classes)


def _without_repeats(ids: Iterable[int | None]) -> tuple[int | None, ...]:
    """Return ids with None for one that a class before has; it may have it in another part of the run."""
    kept: list[int | None] = []
    for number in ids:
        kept.append(None if number in kept else number)
    return tuple(kept)


@dataclass(frozen=True)
class _Place:
    """The file that is read, for messages, and the part of the run whose masks it is read for."""

    path: Path
    part: str | None

    def wrong(self, name: str, what: str) -> RequestError:
        return RequestError(f"classes file {self.path}: '{name}' {what}")


def _entry(entry: Mapping[str, Any], place: _Place) -> MaskClass:
    name = entry["name"]
    if not name.isprintable():
        raise RequestError(
            f"classes file {place.path}: the name {ascii(name)[:60]} has signs that cannot be printed; write "
            "another one"
        )
    given = {key: _of_part(entry[key], name, place) for key in ("id", "color", "labels") if key in entry}
    labels = given.pop("labels", ())
    own_id = _own(entry.get("id"), _id, name, place)
    own_color = _own(entry.get("color"), _color, name, place)
    return MaskClass(
        name,
        _several(given["id"], _id, name, place) if "id" in given else None,
        _several(given["color"], _color, name, place) if "color" in given else None,
        any(isinstance(value, str) and value == OTHERS for value in given.values()),
        tuple(map(str, labels)) if isinstance(labels, list | tuple) else (str(labels),),
        own_id,
        own_color,
    )


def _own(value: Any, read: Callable[[Any, str, _Place], T], name: str, place: _Place) -> T | None:
    """Return the id or colour in which a class is written where they differ between parts; else None."""
    if not isinstance(value, Mapping):
        return None
    found = (_several(value[part], read, name, place) for part in _OWN_PARTS if part in value)
    return next((several[0] for several in found if several), None)


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
    if isinstance(value, str) and value == OTHERS:
        return ()
    single = not isinstance(value, list | tuple) or (read is _color and value and not _is_color(value[0]))
    return tuple(dict.fromkeys(read(one, name, place) for one in ([value] if single else value)))


def _is_color(value: Any) -> bool:
    return isinstance(value, list | tuple) or (isinstance(value, str) and not value.isdigit())


def _id(value: Any, name: str, place: _Place) -> int:
    text = re.sub(r"\.0+$", "", str(value).strip()) if isinstance(value, str | int) else ""  # 7.0 of a spreadsheet
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= LARGEST_ID):
        shown = str(value)[:40]
        raise place.wrong(name, f"has the id '{shown}'; an id is a number from 0 to {LARGEST_ID}")
    return int(text)


def _color(value: Any, name: str, place: _Place) -> Color:
    parts = [str(v).strip() for v in color_parts(value)]
    if len(parts) != 3 or not all(p.isascii() and p.isdigit() and len(p) < 20 and int(p) <= IGNORE for p in parts):
        raise place.wrong(
            name,
            f"has the color '{_shown(value)}'; write [r, g, b] with numbers from 0 to 255, and several ids as "
            "{ids: [1, 2]}",
        )
    return int(parts[0]), int(parts[1]), int(parts[2])


def _shown(value: Any) -> str:
    text = f"[{', '.join(map(str, value))}]" if isinstance(value, list | tuple) else str(value)
    return text[:60]


def _check(classes: Sequence[MaskClass], path: Path) -> None:
    kept = sum(not c.ignored for c in classes)
    if not kept:
        raise RequestError(f"classes file {path} names no class; write {FORMATS}")
    if kept > MAX_CLASSES:
        raise RequestError(f"classes file {path} lists {kept} classes; 1 to {MAX_CLASSES} can be used")
    kinds: dict[str, list[Any]] = {
        "name": [c.name for c in classes],
        "id": [i for c in classes for i in c.ids or ()],
        "color": [color for c in classes for color in c.colors or ()],
        "name in annotations": [label for c in classes for label in dict.fromkeys((c.name, *c.labels))],
        "place of all others": [OTHERS for c in classes if c.others],
    }
    for kind, values in kinds.items():
        value, count = next(iter(Counter(values).most_common(1)), (None, 0))
        if count > 1:
            raise RequestError(
                f"classes file {path}: the {kind} '{value}' stands there twice; each class needs its own"
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
