"""Sizes, cells and windows of two resolutions of one image (HRDA)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from torch import Tensor

from segadapt.core.types import Size
from segadapt.errors import RequestError
from segadapt.models.inference import window_positions
from segadapt.pieces.fusion import Box

FINEST_SCALE = 64
"""Scales are read as fractions with at most this denominator."""


class Geometry:
    """Sizes and grids of a network on an image, and on the same image made smaller (the context).

    Sizes are (height, width) in pixels of the image; grids are (rows, columns) in cells.

    Args:
        stride: pixels per cell of the network.
        scale: scale of the context, in (0, 1].
        detail: size of details; a float is a share of the image in (0, 1], integers are pixels.
        divisor: all sides and positions are multiples of this many pixels. None takes the smallest
            number for which both grids have whole cells.
        overlap: share of a window that the next one covers again, in [0, 1).

    Raises:
        RequestError: ``divisor`` or ``detail`` does not fit the grids.
    """

    def __init__(
        self, stride: int, scale: float, detail: float | Sequence[int], divisor: int | None, overlap: float
    ) -> None:
        self.stride = stride
        self.scale = Fraction(scale).limit_denominator(FINEST_SCALE)
        least = math.lcm((Fraction(stride) / self.scale).numerator, stride)
        if divisor is not None and (divisor < 1 or divisor % least):
            raise RequestError(
                f"hrda: divisor is {divisor}; with stride {stride} and scale {scale} give a multiple of {least}"
            )
        self.divisor = divisor or least
        self.detail = self._checked(detail)
        self.overlap = overlap

    def _checked(self, detail: float | Sequence[int]) -> float | Size:
        if isinstance(detail, float):
            if not 0 < detail <= 1:
                raise RequestError(f"hrda: detail is {detail}; give a share above 0 and at most 1, or whole pixels")
            return detail
        size = (detail, detail) if isinstance(detail, int) else tuple(detail)
        if len(size) != 2 or any(not isinstance(side, int) or side < 1 or side % self.divisor for side in size):
            raise RequestError(
                f"hrda: detail is {detail}; give pixels that are a multiple of {self.divisor}, or a share like 0.5"
            )
        return size[0], size[1]

    def fits(self, size: Size) -> bool:
        """Return whether both grids have whole cells in an image."""
        return size[0] % self.divisor == 0 and size[1] % self.divisor == 0

    def context(self, size: Size) -> Size:
        """Return the size of the context of an image, in pixels of the context."""
        return int(size[0] * self.scale), int(size[1] * self.scale)

    def fine(self, size: Size) -> Size:
        """Return the grid of the network on the image."""
        return size[0] // self.stride, size[1] // self.stride

    def coarse(self, size: Size) -> Size:
        """Return the grid of the network on the context."""
        return self.fine(self.context(size))

    def detail_size(self, size: Size) -> Size:
        """Return the size of the details of an image."""
        if not isinstance(self.detail, float):
            return self.detail
        side = [max(self.divisor, int(length * self.detail) // self.divisor * self.divisor) for length in size]
        return side[0], side[1]

    def training_detail(self, size: Size) -> Size:
        """Return the size of the random crop; RequestError if the image has no room for it."""
        detail, shown = self.detail_size(size), f"hrda: training images have {size[0]} x {size[1]} pixels"
        if not self.fits(size):
            raise RequestError(f"{shown}; set augmentation.crop to multiples of {self.divisor}")
        if detail == size or detail[0] > size[0] or detail[1] > size[1]:
            raise RequestError(
                f"{shown}, detail crops {detail[0]} x {detail[1]}; set augmentation.crop to larger multiples "
                f"of {self.divisor}, or make the network's argument 'detail' smaller"
            )
        return detail

    def windows(self, size: Size) -> list[Box]:
        """Return boxes in pixels that together cover an image, row by row; the image must fit the grids."""
        height, width = (min(pair) for pair in zip(self.detail_size(size), size, strict=True))
        tops = window_positions(size[0], height, self.overlap, self.stride)
        lefts = window_positions(size[1], width, self.overlap, self.stride)
        return [(top, left, top + height, left + width) for top in tops for left in lefts]


def size_of(maps: Tensor) -> Size:
    """Return (height, width) of images or maps [..., H, W]."""
    return maps.shape[-2], maps.shape[-1]
