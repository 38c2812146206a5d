"""CVAT: one XML file ("CVAT for images 1.1") of polygons and masks, painted by ``z_order`` and then in their order."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from segadapt.core.types import Size
from segadapt.data.annotations.coco import decoded, of_polygons
from segadapt.data.annotations.regions import (
    Annotated,
    Annotations,
    Mask,
    Region,
    digest_of,
    placed,
    points_of,
    reach_of,
    require_near,
    size_of,
)
from segadapt.errors import RequestError

TOOL = "CVAT"


def read_cvat(file: Path, root: ElementTree.Element) -> Annotations:
    """Read the content of a file.

    Raises:
        RequestError: a shape is neither polygon nor mask, or cannot be used.
    """
    declared = [label.findtext("name") or "" for label in root.iterfind("meta//labels/label")]
    pictures = {image.get("name", "").replace("\\", "/"): _annotated(file, image) for image in root.iterfind("image")}
    used = sorted({region.name for picture in pictures.values() for region in picture.regions})
    return Annotations(TOOL, tuple(dict.fromkeys([*filter(None, declared), *used])), pictures)


def _annotated(file: Path, image: ElementTree.Element) -> Annotated:
    where = f"{file}: image {image.get('name')}"
    try:
        size = size_of(int(image.get("height", "")), int(image.get("width", "")))
    except ValueError:
        size = None
    if size is None:
        raise RequestError(f"{where} has no width and height; export it again")
    shapes = sorted((shape for shape in image if shape.tag != "tag"), key=_layer)
    regions = tuple(_region(shape, size, where) for shape in shapes)
    return Annotated(file, regions, size, digest_of([size, [ElementTree.tostring(s, "unicode") for s in shapes]]))


def _layer(shape: ElementTree.Element) -> int:
    order = shape.get("z_order", "0")
    return int(order) if order.lstrip("-").isdigit() else 0


def _region(shape: ElementTree.Element, size: Size, where: str) -> Region:
    name = shape.get("label", "")
    where = f"{where}, {shape.tag} '{name}'"
    if shape.tag == "box":
        raise RequestError(f"{where}: a box, not a mask; draw polygons or masks, or remove the boxes")
    if shape.tag not in ("polygon", "mask"):
        raise RequestError(f"{where}: this shape cannot be read; known are polygon and mask")
    try:
        if shape.tag == "polygon":
            corners = [[float(v) for v in pair.split(",")] for pair in shape.get("points", "").split(";")]
            points = points_of(corners, where, 3)
            require_near(reach_of(points), size, where)
            polygon = points.ravel().tolist()
            return Region(name, partial(decoded, of_polygons([polygon], size)))
        left, top, width, height = (int(float(shape.get(key, ""))) for key in ("left", "top", "width", "height"))
        lengths = [int(v) for v in shape.get("rle", "").split(",")]
        require_near(max(width, height), size, where)
    except ValueError:
        raise RequestError(f"{where} has numbers that cannot be read; export it again") from None
    return Region(name, partial(placed, _unpacked(lengths, (height, width), where), left, top, where=where))


def _unpacked(lengths: list[int], size: Size, where: str) -> Mask:
    """Return the mask of run lengths that go along rows, outside and inside by turns, outside first."""
    if min(lengths) < 0 or min(size) < 1 or sum(lengths) != size[0] * size[1]:
        raise RequestError(f"{where} has run lengths that do not add up to its box; export it again")
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(size)
