"""labelme: a JSON file per image, with shapes that are painted in their order.

Lines are 10 pixels wide and points discs of radius 5, as labelme's own export paints them.
"""

from __future__ import annotations

import base64
import binascii
import io
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from segadapt.core.types import Size
from segadapt.data.annotations.regions import (
    Annotated,
    Annotations,
    Mask,
    Points,
    Region,
    digest_of,
    placed,
    points_of,
    reach_of,
    size_of,
)
from segadapt.errors import RequestError

TOOL = "labelme"
LINE_WIDTH, POINT_RADIUS = 10, 5
_LEAST = {
    "polygon": 3,
    "oriented_rectangle": 4,
    "rectangle": 2,
    "circle": 2,
    "line": 2,
    "linestrip": 2,
    "point": 1,
    "points": 1,
    "mask": 2,
}
"""Shapes that can be read, and how many points each has at least."""


def read_labelme(files: Mapping[Path, Annotated], folder: Path) -> Annotations:
    """Return all that labelme's files say, each parsed by :func:`labelme_picture`.

    Args:
        files: what each file says.
        folder: above the files.
    """
    names = sorted({region.name for picture in files.values() for region in picture.regions})
    keys = {file.relative_to(folder).with_suffix("").as_posix(): picture for file, picture in files.items()}
    return Annotations(TOOL, tuple(names), keys)


def labelme_picture(file: Path, tree: Mapping[str, Any]) -> Annotated:
    """Read the content of one file.

    Raises:
        RequestError: a shape is of an unknown type, or its points or its mask cannot be used.
    """
    shapes = tree["shapes"]
    regions = tuple(_region(shape, f"{file}: shape {number}") for number, shape in enumerate(shapes, 1))
    size = size_of(tree.get("imageHeight"), tree.get("imageWidth"))
    kept = [[s["label"], s.get("shape_type"), s["points"], s.get("mask")] for s in shapes]
    return Annotated(file, regions, size, digest_of([size, kept]))


def _region(shape: Any, where: str) -> Region:
    if not isinstance(shape, Mapping) or not isinstance(shape.get("label"), str) or "points" not in shape:
        raise RequestError(f"{where} has no label and points; save it with labelme again")
    kind = shape.get("shape_type") or "polygon"
    where = f"{where} ('{shape['label']}', {kind})"
    if not isinstance(kind, str) or kind not in _LEAST:
        raise RequestError(f"{where} is of a type that cannot be read; known are {', '.join(_LEAST)}")
    points = points_of(shape["points"], where, _LEAST[kind])
    if kind == "mask":
        left, top = (int(v) for v in points[0].round())
        return Region(shape["label"], partial(placed, _png(shape.get("mask"), where), left, top, where=where))
    return Region(shape["label"], partial(_draw, kind, points), reach=reach_of(points))


def _png(text: Any, where: str) -> Mask:
    try:
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=["PNG"]) as image:
            return np.asarray(image.convert("L")) > 0
    except (binascii.Error, TypeError, ValueError, OSError, SyntaxError):
        raise RequestError(f"{where} has a mask that is no PNG in base64; save it with labelme again") from None


def _draw(kind: str, points: Points, size: Size) -> Mask:
    image = Image.new("1", (size[1], size[0]))
    draw = ImageDraw.Draw(image)
    corners = [(float(x), float(y)) for x, y in points]
    if kind in ("polygon", "oriented_rectangle"):
        draw.polygon(corners, fill=1, outline=1)
    elif kind == "rectangle":
        (left, top), (right, bottom) = points.min(0).tolist(), points.max(0).tolist()
        draw.rectangle((left, top, right, bottom), fill=1, outline=1)
    elif kind in ("line", "linestrip"):
        draw.line(corners, fill=1, width=LINE_WIDTH)
    else:
        radius = math.dist(corners[0], corners[1]) if kind == "circle" else POINT_RADIUS
        for x, y in corners[:1] if kind == "circle" else corners:
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=1, outline=1)
    return np.array(image, bool)
