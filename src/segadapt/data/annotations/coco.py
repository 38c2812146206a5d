"""COCO: one JSON file of images, categories and annotations with polygons or run lengths.

COCO gives its annotations no order. Regions of crowds lie at the bottom and count as their category; of the others a
smaller one lies above a larger one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from segadapt.core.types import Size
from segadapt.data.annotations.regions import (
    Annotated,
    Annotations,
    Mask,
    Region,
    digest_of,
    require_near,
    size_of,
    small_on_top,
)
from segadapt.errors import RequestError

TOOL = "COCO"


def read_coco(file: Path, tree: Mapping[str, Any]) -> Annotations:
    """Read the content of a COCO file.

    Raises:
        RequestError: an annotation has no category, no image or no usable segmentation; only boxes.
    """
    categories = {c["id"]: str(c["name"]) for c in _entries(tree, "categories", ("id", "name"), file)}
    if not categories:
        raise RequestError(f"{file} has no categories; export it with the names of its classes")
    pictures = {image["id"]: image for image in _entries(tree, "images", ("id", "file_name"), file)}
    of: dict[Any, list[Mapping[str, Any]]] = {number: [] for number in pictures}
    annotations = _entries(tree, "annotations", ("image_id", "category_id"), file)
    _require_masks(annotations, file)
    for entry in annotations:
        for key, known in (("category_id", categories), ("image_id", pictures)):
            if entry[key] not in known:
                raise RequestError(f"{file}: annotation {_number(entry)} has the unknown {key} {entry[key]}")
        of[entry["image_id"]].append(entry)
    used = {entry["category_id"] for entry in annotations}
    parents = {str(c.get("supercategory")) for c in tree["categories"] if c["id"] in used}
    # Some exports have a category that is only the name of the group of all others.
    names = [
        name
        for i, name in sorted(categories.items(), key=lambda c: (isinstance(c[0], str), c[0]))
        if i in used or name not in parents
    ]
    return Annotations(
        TOOL,
        tuple(dict.fromkeys(names)),
        {
            str(image["file_name"]).replace("\\", "/"): _annotated(file, image, of[number], categories)
            for number, image in pictures.items()
        },
    )


def _entries(tree: Mapping[str, Any], key: str, needed: tuple[str, ...], file: Path) -> list[Mapping[str, Any]]:
    entries = tree.get(key)
    if not isinstance(entries, list) or not all(
        isinstance(e, Mapping) and all(isinstance(e.get(name), int | str) for name in needed) for e in entries
    ):
        raise RequestError(f"{file}: '{key}' must be a list of entries with {' and '.join(needed)}; export it again")
    if key != "annotations" and len({str(entry["id"]) for entry in entries}) < len(entries):
        raise RequestError(f"{file}: two entries of '{key}' have the same id; export it again")
    return entries


def _require_masks(annotations: list[Mapping[str, Any]], file: Path) -> None:
    lacking = [entry for entry in annotations if not entry.get("segmentation")]
    if lacking:
        raise RequestError(
            f"{file} holds boxes, not masks: {len(lacking)} of {len(annotations)} annotations have no segmentation, "
            f"the first is {_number(lacking[0])}; draw polygons, or remove these annotations"
        )


def _annotated(
    file: Path, image: Mapping[str, Any], entries: list[Mapping[str, Any]], categories: Mapping[Any, str]
) -> Annotated:
    size = size_of(image.get("height"), image.get("width"))
    if size is None:
        raise RequestError(f"{file}: the image {image['file_name']} has no height and width; export it again")
    layers: dict[bool, list[Region]] = {True: [], False: []}
    for entry in entries:
        rle = _encoded(entry["segmentation"], size, f"{file}: annotation {_number(entry)}")
        region = Region(categories[entry["category_id"]], partial(decoded, rle), _area(rle))
        layers[bool(entry.get("iscrowd"))].append(region)
    raw = [[categories[e["category_id"]], e["segmentation"], e.get("iscrowd", 0)] for e in entries]
    return Annotated(file, small_on_top(layers[True]) + small_on_top(layers[False]), size, digest_of([size, raw]))


def _number(entry: Mapping[str, Any]) -> str:
    return f"{entry.get('id', '?')} (of image {entry['image_id']})"


# ---- masks ----


def _tools() -> Any:
    try:
        from pycocotools import mask
    except ImportError:
        raise RequestError(
            "polygons and run lengths of COCO and CVAT need pycocotools; install it: pip install 'segadapt[convert]'"
        ) from None
    return mask


def decoded(rle: Mapping[str, Any], size: Size) -> Mask:
    """Return the mask of compressed run lengths; ``size`` was compared before."""
    return np.asarray(_tools().decode(dict(rle)), bool)


def of_polygons(polygons: list[list[float]], size: Size) -> dict[str, Any]:
    """Return the compressed run lengths of polygons ``[x, y, x, y, ...]``, united."""
    tools = _tools()
    merged: dict[str, Any] = tools.merge(tools.frPyObjects(polygons, *size))
    return merged


def _area(rle: Mapping[str, Any]) -> float:
    return float(_tools().area(dict(rle)))


def _encoded(segmentation: Any, size: Size, where: str) -> dict[str, Any]:
    if isinstance(segmentation, list):
        for polygon in segmentation:
            if not (isinstance(polygon, list) and len(polygon) >= 6 and len(polygon) % 2 == 0 and _finite(polygon)):
                raise RequestError(f"{where} has a polygon that is not x, y, x, y, ... of three points or more")
            require_near(max(map(abs, polygon)), size, where)
        return of_polygons(segmentation, size)
    counts = segmentation.get("counts") if isinstance(segmentation, Mapping) else None
    given = segmentation.get("size") if isinstance(segmentation, Mapping) else None
    if counts is None or not isinstance(given, list) or len(given) != 2:
        raise RequestError(f"{where} has a segmentation that is neither polygons nor run lengths with size and counts")
    if tuple(given) != size:
        raise RequestError(
            f"{where} has run lengths of {given[1]} x {given[0]} pixels but its image is {size[1]} x {size[0]}"
        )
    lengths = _lengths(counts) if isinstance(counts, str) else counts
    if (
        not isinstance(lengths, list)
        or not all(isinstance(n, int) and n >= 0 for n in lengths)
        or sum(lengths) != (size[0] * size[1])
    ):
        raise RequestError(f"{where} has run lengths that do not add up to its image; export it again")
    if isinstance(counts, str):
        return {"size": list(size), "counts": counts.encode()}
    rle: dict[str, Any] = _tools().frPyObjects({"size": list(size), "counts": counts}, *size)
    return rle


def _finite(numbers: list[Any]) -> bool:
    return all(isinstance(n, int | float) and math.isfinite(n) for n in numbers)


def _lengths(text: str) -> list[int]:
    """Return the run lengths that a compressed text holds; a wrong text gives wrong ones, and raises nothing.

    Each is written in groups of five bits from character 48 on, the lowest first, the sixth bit saying that more
    follow; from the fourth on, a length is the difference to the one before the last.
    """
    lengths: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
        value = shift = 0
    return lengths
