"""Class lists of annotation tools and frameworks, brought into one form.

Read are our own files (see :mod:`segadapt.data.masks.classes_file`), the legend beside our predictions, and

=====================================================  ==============================================================
labelme ``labels.txt``                                 ``__ignore__`` first is 255, ``_background_`` 0, the rest from 1
CVAT ``labelmap.txt``, raw labels                      colours; in index masks the place in the file
mmsegmentation ``.yaml``, ``.json`` or ``.py``         ``classes`` and ``palette``, also in ``METAINFO``
YOLO ``data.yaml``                                     ``names``, a list or ``{id: name}``
COCO                                                   ``categories`` with their ids
Supervisely ``meta.json``, Mapillary ``config.json``   ``classes`` with ``title`` and ``color``; ``labels``
Hasty, Roboflow ``_classes.csv``, Hugging Face         ``png_index``; ``Pixel Value``; ``id2label``
tables                                                 columns in any order, with or without a header
=====================================================  ==============================================================
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from segadapt.data.masks.class_tables import (
    CHANNEL_KEYS,
    COLOR_KEYS,
    ID_KEYS,
    NAME_KEYS,
    TRAIN_ID_KEYS,
    Entry,
    entries_of_lines,
    key_of,
    of_names,
)
from segadapt.data.masks.class_text import Number, parse_tree, read_text
from segadapt.data.masks.stamp import LEGEND_FORMAT
from segadapt.errors import RequestError

FORMATS = "a list of names, or name: id, or name: [r, g, b], or entries with name, ids and colors"
_TREES, _LINES, _PYTHON = (".yaml", ".yml", ".json"), (".txt", ".csv", ".tsv", ".names", ".lst"), (".py",)
_STRANGE = {
    ".xml": "an XML file, as Label Studio and VOC write it",
    ".xlsx": "an Excel workbook",
    ".xls": "an Excel workbook",
    ".ods": "a spreadsheet",
    ".pbtxt": "a label map of TensorFlow",
    ".toml": "a TOML file",
    ".docx": "a Word document",
}
"""Files that are not read, by their suffix."""
_FOREIGN = {
    "shapes": "labelme's annotation of one image; its class list is labels.txt",
    "_via_settings": "a project of VIA",
    "_via_img_metadata": "a project of VIA",
    "regions": "an annotation of VIA",
    "annotations": "annotations without the categories of COCO",
    "objects": "an annotation of one image",
    "media_attributes": "an export of Labelbox",
    "data_row": "an export of Labelbox",
}
"""Annotations that are no class lists, by a key of theirs."""
LABELS = "labels"
"""Key of further names that a class has in annotations."""
_OF_TOOLS = (
    *("supercategory", "isthing", "isstuff", "is_thing", "shape", "type", "attributes", "hotkey", "readable"),
    *("evaluate", "instances", "norder", "class_type", "description", "parts", "actions", "sublabels", "own_id"),
    *("geometry_config", "geometrytype", "opacity", "visible", "iscrowd", "keypoints", "skeleton", "has_instances"),
    *("ignore_in_eval", "ignoreineval", "hasinstances", "category_type", "active", "alpha", "a", "parent", "cat_id"),
)
"""Keys of tools that say nothing about masks."""
_OF_DATABASES = ("attributes", "geometry_config", "hotkey", "shape")
"""Keys of CVAT's raw labels and of Supervisely, where ``id`` is that of a data base and masks show colours."""


def entries_of(path: Path) -> list[Entry]:
    """Return the classes of a file: each with ``name``, and ``id`` and ``color`` where they are given.

    Raises:
        RequestError: the file cannot be read or parsed, or is of a form that is not known; the message names it.
    """
    suffix = path.suffix.lower()
    if suffix in _STRANGE:
        raise _refused(path, _STRANGE[suffix])
    if suffix not in (*_TREES, *_LINES, *_PYTHON):
        raise RequestError(f"classes file {path}: write it as .yaml, .json, .txt or .csv")
    text = read_text(path)
    if suffix in _LINES:
        return [_normal(entry, path, known=False) for entry in entries_of_lines(text, path)]
    tree = parse_tree(text, path) if suffix in _TREES else _assigned(text, path)
    return [_normal(entry, path, known=True) for entry in _of_tree(tree, path)]


def _refused(path: Path, what: str) -> RequestError:
    return RequestError(f"classes file {path} is {what}; write {FORMATS}, as YAML, JSON, TXT or CSV")


# ---- trees ----


def _of_tree(tree: Any, path: Path) -> list[Entry]:
    if isinstance(tree, Mapping):
        return _of_mapping(tree, path)
    if isinstance(tree, list) and all(isinstance(entry, str) for entry in tree):
        return of_names(tree, path)
    if isinstance(tree, list) and all(isinstance(entry, Mapping) for entry in tree):
        if all({key_of(str(k)) for k in entry} & set(NAME_KEYS) for entry in tree):
            return list(tree)
        if {"annotations", "data"} <= set(tree[0]):
            raise _refused(path, "an export of Label Studio")
        _require_list_of_classes(tree[0], path)
        if all(len(entry) == 1 for entry in tree):  # - road: 0
            return [_pair(name, value) for entry in tree for name, value in entry.items()]
    raise RequestError(f"classes file {path}: expected {FORMATS}")


def _of_mapping(tree: Mapping[Any, Any], path: Path) -> list[Entry]:
    parts = {key_of(str(key)): value for key, value in tree.items()}
    if isinstance(parts.get("metainfo"), Mapping):
        return _of_mapping(parts["metainfo"], path)
    if parts.get("format") == LEGEND_FORMAT:
        return _of_tree(parts.get("classes"), path)
    for key in ("classes", "names", "class_names", "categories", "labels", "label_names", "id2label"):
        listed = parts.get(key)
        if isinstance(listed, Mapping) or _is_list_of_classes(listed):
            inner = _of_tree(listed, path)
            colors = parts.get("palette")
            return inner if colors is None or key != "classes" else _coloured(inner, colors, path)
    _require_list_of_classes(parts, path)
    if all(map(_digits, tree)) and all(isinstance(value, str) for value in tree.values()):
        named = not all(isinstance(value, Number) for value in tree.values())
        if named:
            return [{"name": name, "id": number} for number, name in tree.items()]
    empty = next((name for name, value in tree.items() if _empty(value)), None)
    if empty is not None:
        raise RequestError(
            f"classes file {path}: '{empty}' has no id or colour; in YAML a colour such as '#ff0000' needs its "
            "quotation marks"
        )
    return [_pair(str(name), value) for name, value in tree.items()]


def _require_list_of_classes(parts: Mapping[Any, Any], path: Path) -> None:
    """Refuse annotations; a class may have one of their keys as its name, but then its value is no list of them."""
    if any(isinstance(value, Mapping) and "regions" in value for value in parts.values()):
        raise _refused(path, _FOREIGN["regions"])
    for key, what in _FOREIGN.items():
        value = parts.get(key)
        listed = isinstance(value, list) and any(isinstance(v, Mapping) for v in value)
        a_class = isinstance(value, Mapping) and {key_of(str(k)) for k in value} & {"id", "ids", "color", "colors"}
        if listed or (isinstance(value, Mapping) and not a_class):
            raise _refused(path, what)


def _is_list_of_classes(value: Any) -> bool:
    """Tell a list of names or of entries from an id, or from a colour of a class that has such a name."""
    return isinstance(value, list) and bool(value) and not all(isinstance(v, Number) for v in value)


def _pair(name: str, value: Any) -> Entry:
    if isinstance(value, Mapping):
        return {"name": name, **value}
    return {"name": name, "color": value} if _is_color(value) else {"name": name, "id": value}


def _coloured(entries: list[Entry], colors: Any, path: Path) -> list[Entry]:
    """Return the classes with the colours of a palette, one each."""
    if not isinstance(colors, list) or len(colors) != len(entries):
        count = len(colors) if isinstance(colors, list) else "no list of"
        raise RequestError(f"classes file {path} has {len(entries)} classes but {count} colours in 'palette'")
    return [{**entry, "color": color} for entry, color in zip(entries, colors, strict=True)]


def _digits(key: Any) -> bool:
    return str(key).isascii() and str(key).isdigit()


def _is_color(value: Any) -> bool:
    return isinstance(value, list | tuple) or (isinstance(value, str) and value.startswith("#"))


# ---- Python files of mmsegmentation ----


def _assigned(text: str, path: Path) -> dict[str, Any]:
    """Return ``classes`` and ``palette`` of a Python file; none of it is run."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise _refused(path, "not Python that can be parsed") from None
    found: dict[str, Any] = {}
    for key, node in _named_values(tree):
        if key_of(key) in ("classes", "palette"):
            try:
                value = ast.literal_eval(node)
            except (ValueError, RecursionError, TypeError):
                continue
            found.setdefault(key_of(key), _plain(value))
    if "classes" not in found:
        raise _refused(path, "a Python file without a list 'classes'")
    return found


def _named_values(tree: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            yield from ((target.id, node.value) for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.keyword) and node.arg is not None:
            yield node.arg, node.value
        elif isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            yield from ((str(k.value), v) for k, v in pairs if isinstance(k, ast.Constant))


def _plain(value: Any) -> Any:
    """Return lists of texts and :class:`Number`, as a YAML file would give them."""
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return Number(value) if isinstance(value, int) and not isinstance(value, bool) else value


# ---- one entry ----


def _normal(entry: Mapping[Any, Any], path: Path, known: bool) -> Entry:
    """Return an entry under our own keys: ``name``, ``id``, ``color`` and ``labels``.

    Args:
        entry: of a file.
        path: for messages.
        known: whether a key that is not known is a mistake; a table may have further columns.
    """
    parts = {key_of(str(key)): value for key, value in entry.items()}
    name_key = next((key for key in NAME_KEYS if key in parts), None)
    name = parts.get(name_key or "")
    if not isinstance(name, str) or not name.strip():
        raise RequestError(f"classes file {path}: a class has no name")
    made: Entry = {"name": name.strip()}
    if any(key in parts for key in ID_KEYS) and any(not _empty(parts.get(key)) for key in TRAIN_ID_KEYS):
        raise RequestError(
            f"classes file {path}: '{name}' has an id and a train id; keep the one that the masks have, as 'id'"
        )
    channels = [next((parts[key] for key in keys if key in parts), None) for keys in CHANNEL_KEYS]
    groups = {"id": (*ID_KEYS, *TRAIN_ID_KEYS), "color": COLOR_KEYS}
    for goal, keys in groups.items():
        given = [key for key in keys if key in parts and not _empty(parts[key])]
        if len(given) > 1:
            what = "in the singular and in the plural" if set(given) <= {goal, f"{goal}s"} else f"as {given}"
            raise RequestError(f"classes file {path}: '{name}' has {goal}s twice, {what}")
        if given:
            made[goal] = parts[given[0]]
    if not any(map(_empty, channels)) and "color" not in made:
        made["color"] = channels
    if "color" in made and not parts.keys().isdisjoint(_OF_DATABASES):
        made.pop("id", None)
    if known and parts.get(LABELS) is not None:
        made[LABELS] = parts[LABELS]
    allowed = (
        LABELS,
        *NAME_KEYS,
        *ID_KEYS,
        *TRAIN_ID_KEYS,
        *COLOR_KEYS,
        *_OF_TOOLS,
        *(k for keys in CHANNEL_KEYS for k in keys),
    )
    strange = next((key for key in parts if key not in allowed), None)
    if known and strange is not None:
        raise RequestError(
            f"classes file {path}: '{name}' has the unknown key '{strange}'; the keys are name, ids, colors and labels"
        )
    return made


def _empty(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value.strip().casefold() in ("", "~", "null", "none", "nan"))


def color_parts(value: Any) -> Sequence[Any]:
    """Split a colour written as text: ``#rrggbb``, ``#rrggbbaa``, ``r,g,b``, ``r g b`` or ``rgb(r, g, b)``."""
    if not isinstance(value, str):
        return value if isinstance(value, list | tuple) else ()
    text = value.strip().casefold()
    digits = re.fullmatch(r"#?([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})?", text)
    if digits:
        return [int(part, 16) for part in digits.groups()[:3]]
    inner = re.fullmatch(r"(?:rgb)?\s*[(\[]?\s*(\d+)[\s,]+(\d+)[\s,]+(\d+)\s*[)\]]?", text)
    return inner.groups() if inner else ()
