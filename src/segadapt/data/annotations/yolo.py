"""YOLO: a text file per image, a line per object: the number of its class and a polygon in shares of the image.

YOLO gives its objects no order; a smaller one lies above a larger one. An image without a text file has no objects.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from segadapt.core.reading import read_file
from segadapt.core.types import Size
from segadapt.data.annotations.regions import (
    Annotated,
    Annotations,
    Mask,
    Points,
    Region,
    area_of,
    digest_of,
    filled,
    small_on_top,
)
from segadapt.data.folders.listing import LARGEST_LIST
from segadapt.errors import RequestError

TOOL = "YOLO"
_LISTS = ("classes.txt", "obj.names", "labels.txt")
_FOLDERS_UP = 2


def is_yolo(text: str) -> bool:
    """Return whether each line of a text is at least five numbers; one without lines has no objects."""
    return all(len(row) >= 5 and _numbers(row) is not None for row in _rows(text))


def read_yolo(texts: Mapping[Path, str], folder: Path, names: Mapping[int, str]) -> Annotations:
    """Read text files.

    Args:
        texts: content of each file.
        folder: above the files.
        names: of classes by their number; without any they are named by their number.

    Raises:
        RequestError: a file holds boxes, or numbers that are no polygon.
    """
    pictures, numbers = {}, set(names)
    for file, text in texts.items():
        objects = [_object(row, f"{file}, line {i}", names) for i, row in enumerate(_rows(text), 1)]
        numbers |= {number for number, _ in objects}
        key = file.relative_to(folder).with_suffix("").as_posix()
        pictures[key] = Annotated(file, small_on_top(region for _, region in objects), None, digest_of(text.split()))
    named = [_name(number, names) for number in sorted(numbers)]
    numbered = {_name(number, names): number for number in numbers if number not in names}
    return Annotations(TOOL, tuple(dict.fromkeys(named)), pictures, absent_is_empty=True, numbers=numbered)


def names_near(places: Sequence[Path]) -> dict[int, str]:
    """Return class names by number of the first ``*.yaml`` with ``names``, or class list, in or above the folders."""
    for place in places:
        for folder in (place, *place.absolute().parents[:_FOLDERS_UP]):
            for file in sorted((*folder.glob("*.yaml"), *folder.glob("*.yml"))):
                found = _of_yaml(file)
                if found:
                    return found
            for file in (folder / name for name in _LISTS):
                if file.is_file():
                    lines = [line.strip() for line in _text(file).splitlines()]
                    return dict(enumerate(line for line in lines if line))
    return {}


def _of_yaml(file: Path) -> dict[int, str]:
    try:
        tree: Any = yaml.load(_text(file), yaml.BaseLoader)  # every value stays text: a class may be named no
    except yaml.YAMLError:
        return {}
    names = tree.get("names") if isinstance(tree, Mapping) else None
    if isinstance(names, Mapping) and all(str(number).isdigit() for number in names):
        return {int(number): str(name) for number, name in names.items()}
    return dict(enumerate(map(str, names))) if isinstance(names, list) else {}


def _text(file: Path) -> str:
    try:
        return read_file(file, LARGEST_LIST).decode("utf-8-sig", "replace")
    except OSError:
        return ""


def _rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if line.strip()]


def _numbers(row: Sequence[str]) -> list[float] | None:
    try:
        numbers = [float(part) for part in row]
    except ValueError:
        return None
    return numbers if all(map(math.isfinite, numbers)) else None


def _name(number: int, names: Mapping[int, str]) -> str:
    return names.get(number, f"class_{number}")


def _object(row: Sequence[str], where: str, names: Mapping[int, str]) -> tuple[int, Region]:
    numbers = _numbers(row)
    if numbers is None or len(row) < 5 or not row[0].isdigit():
        raise RequestError(f"{where}: '{' '.join(row)[:40]}' is not the number of a class and a polygon x y x y ...")
    if len(row) == 5:
        raise RequestError(f"{where} holds a box, not a mask; export the segmentation, with polygons x y x y ...")
    if len(row) < 7 or len(row) % 2 == 0:
        raise RequestError(
            f"{where} has {len(row) - 1} numbers behind the class; a polygon has x y of three points or more"
        )
    points = np.array(numbers[1:]).reshape(-1, 2)
    if points.min() < -0.01 or points.max() > 1.01:
        raise RequestError(f"{where} has numbers outside 0 .. 1; YOLO gives points in shares of width and height")
    if names and int(row[0]) not in names:
        known = ", ".join(map(str, sorted(names)))
        raise RequestError(f"{where} has the class {row[0]}, which the list of classes lacks: it has {known}")
    return int(row[0]), Region(_name(int(row[0]), names), partial(_draw, points), area_of(points))


def _draw(points: Points, size: Size) -> Mask:
    return filled(points * (size[1], size[0]), (), size)
