"""Named regions of images, which is what annotation files of every tool hold."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from segadapt.core.types import Size
from segadapt.errors import RequestError

Mask = npt.NDArray[np.bool_]
"""[H, W], whether a pixel belongs to a region."""
Points = npt.NDArray[np.float64]
"""[n, 2] corners (x, y) in pixels."""


@dataclass(frozen=True)
class Region:
    """A part of an image that has one class.

    Args:
        name: of its class.
        draw: (height, width) of the image -> its :data:`Mask`; a plain function or a partial of one.
        area: in pixels, about; orders regions where the tool gives no order.
        reach: largest coordinate of its points, whatever their sign.
    """

    name: str
    draw: Callable[[Size], Mask]
    area: float = 0.0
    reach: float = 0.0


@dataclass(frozen=True)
class Annotated:
    """The regions of one image.

    Args:
        file: that says so.
        regions: the bottom one first; a later one hides an earlier one.
        size: (height, width) of the image as the file says; None where it does not.
        digest: of what the file says.
    """

    file: Path
    regions: tuple[Region, ...]
    size: Size | None
    digest: str


LONGEST_SIDE = 1 << 20
"""Sides of images above this are no sizes."""


class Annotations(NamedTuple):
    """All that annotation files say.

    Attributes:
        tool: whose files they are, e.g. ``COCO``.
        names: class names, in the order of the tool.
        pictures: by path of the image: below the image folder, or the end of that; with or without suffix.
        absent_is_empty: whether an image without an entry has no objects, rather than not being annotated yet.
        notes: what was left out, one line each.
        numbers: number of each class that has no name but one made of its number.
    """

    tool: str
    names: tuple[str, ...]
    pictures: Mapping[str, Annotated]
    absent_is_empty: bool = False
    notes: tuple[str, ...] = ()
    numbers: Mapping[str, int] = MappingProxyType({})


def digest_of(raw: Any) -> str:
    """Return sixteen hexadecimal digits for a JSON value."""
    return hashlib.sha256(json.dumps(raw, sort_keys=True).encode()).hexdigest()[:16]


def small_on_top(regions: Iterable[Region]) -> tuple[Region, ...]:
    """Return regions with the largest first, so that small ones stay visible; equal ones keep their order."""
    return tuple(sorted(regions, key=lambda region: -region.area))


def points_of(values: Any, where: str, least: int = 1) -> Points:
    """Return the points of a list of pairs.

    Args:
        values: ``[[x, y], ...]``.
        where: names the file and the region, for the message.
        least: number of points that are needed.

    Raises:
        RequestError: it is something else, has fewer points, or numbers that are not finite.
    """
    try:
        points = np.array(values, np.float64)
    except (TypeError, ValueError):
        points = np.empty((0, 0))
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < least or not np.isfinite(points).all():
        raise RequestError(f"{where} has no list of at least {least} points [x, y]; draw it again, or remove it")
    return points


def reach_of(points: Points) -> float:
    """Return the largest coordinate of points, whatever their sign."""
    return float(np.abs(points).max(initial=0))


def require_near(reach: float, size: Size, where: str) -> None:
    """Raise RequestError where a region reaches far beyond its image, which painters take long for, or forever."""
    if reach > 4 * max(size) + 1000:
        raise RequestError(
            f"{where} has points far outside its image of {size[1]} x {size[0]} pixels; draw it again, or remove it"
        )


def area_of(points: Points) -> float:
    """Return the area of a polygon in square pixels."""
    x, y = points[:, 0], points[:, 1]
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2


def filled(outer: Points, holes: Sequence[Points], size: Size) -> Mask:
    """Return the pixels of a polygon without its holes, its edges included, as OpenCV fills them.

    Points name pixels: the pixel that a point lies in is the corner.
    """
    mask = np.zeros(size, np.uint8)
    # Files have numbers of few digits, so that 122.9999 stands for 123.
    corners = [np.floor(points + 0.01).astype(np.int32).reshape(-1, 1, 2) for points in (outer, *holes)]
    cv2.fillPoly(mask, corners[:1], 1)
    if holes:
        cv2.fillPoly(mask, corners[1:], 0)
    return mask > 0


def placed(part: Mask, x: int, y: int, size: Size, where: str) -> Mask:
    """Return a mask of the whole image from one of a part of it whose upper left pixel is (x, y).

    Raises:
        RequestError: the part does not lie within the image.
    """
    height, width = part.shape
    if x < 0 or y < 0 or y + height > size[0] or x + width > size[1]:
        raise RequestError(
            f"{where} is a mask of {width} x {height} pixels at x {x}, y {y}, beyond its image of "
            f"{size[1]} x {size[0]}; export it again"
        )
    mask = np.zeros(size, bool)
    mask[y : y + height, x : x + width] = part
    return mask


def size_of(height: Any, width: Any) -> Size | None:
    """Return (height, width) of an entry; None where it does not say them."""
    known = all(isinstance(v, int | float) and 1 <= v <= LONGEST_SIDE for v in (height, width))
    return (int(height), int(width)) if known else None
