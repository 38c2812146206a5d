"""From the numbers of a sensor to 8 bits: one range per band, measured over a set of images.

    y = 255 (x - low) / (high - low), rounded and cut off at 0 and 255

The range is chosen by this rule, the same for all sets:

1. Numbers that use the range of their type by convention keep their meaning: 8 bits as they are; 16 bits over
   0 .. 65535, where the 99.9th percentile of all bands is beyond what a sensor of 14 bits counts to; floats over 0 .. 1
   or 0 .. 255, where it lies in the upper half.
2. All others (12 bits in 16, reflectances, heights, radar) are stretched per band, from the 0.1th to the 99.9th
   percentile of the set.

Percentiles of the whole set, not of each image, keep what is dark in one image darker than what is bright in another.
Source and target are measured apart: two sensors that count in other units then show the same ground in about the same
numbers, which is the part of the gap between domains that needs no learning.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[Any]

LOWEST, HIGHEST = 0.1, 99.9
"""Percentiles of a band that become 0 and 255."""
_CONVENTIONS: dict[str, tuple[tuple[float, float], ...]] = {
    "u2": ((65535.0, 16384.0),),
    "f": ((1.0, 0.5), (255.0, 127.5)),
}
"""Upper ends of the ranges, from 0, that types of numbers use by convention, and what is reached by data that do."""


class Range(NamedTuple):
    """The numbers of each band that become 0 and 255."""

    low: tuple[float, ...]
    high: tuple[float, ...]


def measured_range(bands: Sequence[Numbers]) -> Range:
    """Choose the range of each band by the rule of this module.

    Args:
        bands: the numbers of each band over the set, [N] without no-data, at least one in each; all of one type.

    Example:
        >>> measured_range([np.array([0, 1000, 4095], np.uint16)]).low
        (2.0,)
    """
    usual = conventional(bands)
    if usual is not None:
        return Range((0.0,) * len(bands), (usual,) * len(bands))
    ends = [np.percentile(band.astype(np.float64), (LOWEST, HIGHEST)) for band in bands]
    return Range(tuple(float(low) for low, _ in ends), tuple(float(high) for _, high in ends))


def conventional(bands: Sequence[Numbers]) -> float | None:
    """Return the upper end of the range, from 0, that the numbers use by convention; None where they use none.

    Args:
        bands: see :func:`measured_range`.

    Example:
        >>> conventional([np.array([0, 60000], np.uint16)]), conventional([np.array([0, 4095], np.uint16)])
        (65535.0, None)
    """
    kind = bands[0].dtype
    if kind == np.uint8:
        return 255.0
    least, most = min(float(band.min()) for band in bands), max(float(band.max()) for band in bands)
    reached = float(np.percentile(np.concatenate(bands), HIGHEST))
    for end, full in _CONVENTIONS.get(kind.str[1:], _CONVENTIONS.get(kind.kind, ())):
        if least >= 0 and most <= end and reached >= full:
            return end
    return None


def to_bytes(values: Numbers, scale: Range, valid: npt.NDArray[np.bool_] | None = None) -> npt.NDArray[np.uint8]:
    """Bring the numbers of bands to 8 bits.

    Args:
        values: [H, W, C].
        scale: C ranges; numbers beyond them are cut off.
        valid: [H, W], False where there is no data; the result is 0 there, as it is for NaN. None takes all.

    Example:
        >>> to_bytes(np.array([[[0], [2048], [9999]]], np.uint16), Range((0.0,), (4096.0,))).flatten().tolist()
        [0, 128, 255]
    """
    if values.dtype == np.uint8 and scale == Range((0.0,) * values.shape[2], (255.0,) * values.shape[2]):
        picture = np.array(values)
    else:
        exact = np.float32 if values.dtype.itemsize <= 2 else np.float64  # large numbers with a small range
        low, high = np.array(scale.low, exact), np.array(scale.high, exact)
        span = np.maximum(high - low, np.finfo(exact).tiny)  # a band that is the same everywhere
        with np.errstate(over="ignore", invalid="ignore"):
            shares = (values.astype(exact) - low) / span
        if values.dtype.kind == "f":
            shares = np.nan_to_num(shares, nan=0.0)
        picture = np.rint(shares.clip(0, 1) * 255).astype(np.uint8)
    if valid is not None:
        picture[~valid] = 0
    return picture
