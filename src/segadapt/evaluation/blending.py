"""Weighted means of the class probabilities of overlapping tiles, for the rows of one row of tiles.

Sums are kept as logarithms, so that no probability is rounded to zero.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from segadapt.errors import RequestError
from segadapt.evaluation.tiling import Axis

FULL_BYTES = 512 << 20
"""Memory up to which sums are kept in float32; above it in float16."""
MOST_BYTES = 1 << 30


class Blend:
    """Sums of weights, and the logarithms of sums of weighted probabilities on the cells of some rows of units.

    Args:
        classes: K.
        y, x: plan of the tiles.
        device: where to keep them.
        dtype: from :meth:`type_for`.
    """

    def __init__(self, classes: int, y: Axis, x: Axis, device: torch.device, dtype: torch.dtype) -> None:
        self._y, self._x, self._first = y, x, 0
        self._logs = torch.zeros((classes, 0, x.units * x.cells), dtype=dtype, device=device)
        self._weights = torch.zeros((0, x.units * x.cells), device=device)
        self._taper = taper(y.tile * y.cells, device)[:, None] * taper(x.tile * x.cells, device)

    @staticmethod
    def type_for(classes: int, y: Axis, x: Axis, path: Path) -> torch.dtype:
        """Return the type in which the sums of one row of tiles fit into memory; RequestError if they do not."""
        numbers = classes * (y.tile + 2) * y.cells * x.units * x.cells
        if 4 * numbers <= FULL_BYTES:
            return torch.float32
        if 2 * numbers <= MOST_BYTES:
            return torch.float16
        raise RequestError(
            f"{path}: the scores of {classes} classes over a row of tiles, {x.length} pixels wide, need "
            f"{2 * numbers / 2**30:.1f} GB; give a smaller --window, or cut the image into parts: segadapt data tile"
        )

    def move_to(self, first: int, last: int) -> None:
        """Forget the units before ``first``, and make room for those before ``last``."""
        cells = self._y.cells
        start = (first - self._first) * cells
        more = (last - first) * cells - (len(self._weights) - start)
        self._logs = F.pad(self._logs[:, start:], (0, 0, 0, more), value=-math.inf)
        self._weights = F.pad(self._weights[start:], (0, 0, 0, more))
        self._first = first

    def add(self, top: int, left: int, log: Tensor) -> None:
        """Add the log probabilities [K, h, w] of the tile whose first unit is (top, left)."""
        y, x = (top - self._first) * self._y.cells, left * self._x.cells
        height, width = self._taper.shape
        rows, columns = slice(y, y + height), slice(x, x + width)
        place = self._logs[:, rows, columns]
        place.copy_(torch.logaddexp(place.float(), log + self._taper.log()))
        self._weights[rows, columns] += self._taper

    def log_mean(self, rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
        """Return the log of the mean probabilities [K, h, w] of a block of units; all alike where no tile is."""
        top, bottom = ((unit - self._first) * self._y.cells for unit in rows)
        left, right = (unit * self._x.cells for unit in columns)
        weights = self._weights[top:bottom, left:right]
        log = self._logs[:, top:bottom, left:right].float() - weights.log()
        return torch.where(weights > 0, log, 0.0)


def taper(cells: int, device: torch.device) -> Tensor:
    """Return weights [cells] that fall from the middle of a tile to its borders, where they are small but not 0."""
    place = torch.arange(cells, device=device) + 0.5
    return torch.minimum(place, cells - place) / (cells / 2)
