"""The picture of a mosaic, read from the top down, of which only some rows are in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from segadapt.core.types import Size
from segadapt.data.dataset import Picture
from segadapt.data.files.raster import Raster, Window
from segadapt.data.files.raster_picture import Reader
from segadapt.data.resize import resize_image
from segadapt.data.streaming import ordered_map
from segadapt.evaluation.tiling import Axis
from segadapt.labels import IGNORE, LabelMap

READ_BYTES = 32 << 20
"""Bytes of a file that are read at a time, at least one unit of rows."""
OVERVIEW = 2000
"""Longest side of an overview, in pixels."""


class Overview:
    """A small picture of a mosaic and its labels, of every n-th pixel.

    Args:
        size: (height, width) of the mosaic.

    Attributes:
        step: n.
        picture: [h, w, 3]; ``labels``: [h, w].
    """

    def __init__(self, size: Size) -> None:
        self.step = -(-max(size) // OVERVIEW)
        small = (-(-size[0] // self.step), -(-size[1] // self.step))
        self.picture = np.zeros((*small, 3), np.uint8)
        self.labels = np.full(small, IGNORE, np.uint8)

    def add_picture(self, first: int, rows: Picture) -> None:
        """Take over rows of pixels [n, W, C] from the one numbered ``first``; of one or two bands the first as grey."""
        if rows.shape[2] not in (1, 2):
            self._add(self.picture, first, rows[..., :3])
        else:
            self._add(self.picture, first, rows[..., :1])

    def add_labels(self, first: int, rows: LabelMap) -> None:
        """Take over rows of labels [n, W] from the one numbered ``first``."""
        self._add(self.labels, first, rows)

    def _add(self, small: npt.NDArray[np.uint8], first: int, rows: npt.NDArray[np.uint8]) -> None:
        start = -first % self.step
        taken = rows[start :: self.step, :: self.step]
        place = (first + start) // self.step
        small[place : place + len(taken)] = taken


class _Chunk(NamedTuple):
    """Some units of rows.

    Attributes:
        last: unit that follows.
        rows: picture at the network's scale, of whole units.
        mask: what is data, packed; ``masked``: whether the file says so.
        filled: [units, units of a row], which units have data.
    """

    last: int
    rows: Picture
    mask: npt.NDArray[np.uint8]
    filled: npt.NDArray[np.bool_]
    masked: bool


class Strips:
    """Rows of the picture and of what is data in it; rows are read once and forgotten when they are no longer needed.

    A thread reads the rows to come; :meth:`close` waits for it, and must be called before the file is closed.

    Args:
        raster: the open file.
        reader: shows a window of it.
        y, x: plan of the tiles.
        overview: gets every n-th pixel.
    """

    def __init__(self, raster: Raster, reader: Reader, y: Axis, x: Axis, overview: Overview) -> None:
        self._raster, self._reader, self._y, self._x, self._overview = raster, reader, y, x, overview
        self._read = 0  # units
        self._chunks = ordered_map(self._chunk, self._plan(), threads=1, ahead=1)
        self._first, self._rows = 0, [np.zeros((0, 0, 0), np.uint8)]
        self._filled = np.zeros((0, x.units), bool)
        self._masked = False
        self._masked_from, self._masks = 0, [np.zeros((0, -(-x.length // 8)), np.uint8)]

    def close(self) -> None:
        """Stop reading."""
        self._chunks.close()

    def read_to(self, last: int) -> None:
        """Wait until all units before ``last`` are in memory; called for the end of each row of tiles, in order."""
        while self._read < last:
            self._append(next(self._chunks))

    def _plan(self) -> Iterator[tuple[int, int]]:
        """Yield first and last unit of what is read at a time, up to the end of each row of tiles."""
        row = self._y.pixels * self._x.length * self._raster.dtype.itemsize * self._raster.bands
        step = max(1, READ_BYTES // row)
        block = -(-self._raster.block[0] // self._y.pixels)
        if block * row <= 4 * READ_BYTES:
            step = max(step, block)  # so that no block is decoded more than twice
        read = 0
        for end in (top + self._y.tile for top in self._y.starts):
            while read < end:
                yield read, min(read + step, end)
                read = min(read + step, end)

    def tile(self, top: int, left: int) -> Picture | None:
        """Return the tile [h, w, C] whose first unit is (top, left), at the network's scale; None without any data."""
        y, x = self._y, self._x
        if not self._filled[top - self._first : top - self._first + y.tile, left : left + x.tile].any():
            return None
        rows = self._joined(self._rows)
        start = (top - self._first) * y.kept
        part = rows[start : start + y.tile * y.kept, left * x.kept : (left + x.tile) * x.kept]
        return np.ascontiguousarray(resize_image(part, (y.tile * y.shown, x.tile * x.shown)))

    def valid(self, first: int, count: int) -> npt.NDArray[np.bool_] | None:
        """Return what is data [count, W] in rows of pixels; None if all is."""
        start = first - self._masked_from
        packed = self._joined(self._masks)[start : start + count]
        if not self._masked:
            return None
        return np.unpackbits(packed, axis=1, count=self._x.length).astype(bool)

    def forget(self, first: int, written: int) -> None:
        """Forget the picture before unit ``first``, and what is data before unit ``written``."""
        gone = first - self._first
        self._rows = [self._joined(self._rows)[gone * self._y.kept :].copy()]
        self._filled = self._filled[gone:].copy()
        self._first = first
        masked = min(written * self._y.pixels, self._y.length)
        self._masks = [self._joined(self._masks)[masked - self._masked_from :].copy()]
        self._masked_from = masked

    def _chunk(self, units: tuple[int, int]) -> _Chunk:
        """Read some units of rows, in a thread."""
        (first, last), y, x = units, self._y, self._x
        top, bottom = first * y.pixels, min(last * y.pixels, y.length)
        picture, valid = self._reader(self._raster, Window(top, 0, bottom - top, x.length))
        self._overview.add_picture(top, picture)
        missing = (last * y.pixels - bottom, x.units * x.pixels - x.length)
        if any(missing):
            picture = np.pad(picture, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
        kept = ((last - first) * y.kept, x.units * x.kept)
        mask = np.ones((bottom - top, x.length), bool) if valid is None else valid
        whole = np.pad(mask, ((0, missing[0]), (0, missing[1])))
        filled = np.asarray(whole.reshape(last - first, y.pixels, x.units, x.pixels).any((1, 3)))
        rows = resize_image(np.ascontiguousarray(picture), kept)
        return _Chunk(last, rows, np.packbits(mask, axis=1), filled, valid is not None)

    def _append(self, chunk: _Chunk) -> None:
        """Take over what was read."""
        self._rows.append(chunk.rows)
        self._masks.append(chunk.mask)
        self._masked = self._masked or chunk.masked
        self._filled = np.concatenate([self._filled, chunk.filled])
        self._read = chunk.last

    @staticmethod
    def _joined(parts: list[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
        """Return the rows in one piece, and keep them so."""
        if len(parts) > 1:
            parts[:] = [np.concatenate([part for part in parts if part.size])]
        return parts[0]
