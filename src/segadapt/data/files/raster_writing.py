"""Writing rasters row by row: GeoTIFF in compressed tiles, at the place on Earth of the raster that they show."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from segadapt.core.files import replacing
from segadapt.core.types import Size
from segadapt.data.dataset import DamagedFile
from segadapt.data.files.raster import Raster, Window, first_cause, gdal_environment, import_rasterio

BLOCK = 256
"""Side of the tiles in which files are compressed."""
RGB = ("red", "green", "blue")
_R = TypeVar("_R")


class RasterRows:
    """Takes the rows of a raster from the top down and writes them in whole tiles.

    Attributes:
        mask: writes what is data [H, W] in all of the raster.
    """

    def __init__(
        self, write: Callable[[int, npt.NDArray[Any]], None], mask: Callable[[npt.NDArray[np.bool_]], None]
    ) -> None:
        self._write, self.mask = write, mask
        self._top, self._rows = 0, 0
        self._waiting: list[npt.NDArray[Any]] = []

    def add(self, rows: npt.NDArray[Any]) -> None:
        """Add rows [n, W] or [n, W, C] below those that came before."""
        self._waiting.append(rows)
        self._rows += len(rows)
        if self._rows >= BLOCK:
            whole = self._rows // BLOCK * BLOCK
            waiting = np.concatenate(self._waiting)
            self._out(waiting[:whole])
            self._waiting, self._rows = [waiting[whole:].copy()], self._rows - whole

    def finish(self) -> None:
        """Write the last rows."""
        if self._rows:
            self._out(np.concatenate(self._waiting))
            self._waiting, self._rows = [], 0

    def _out(self, rows: npt.NDArray[Any]) -> None:
        self._write(self._top, rows)
        self._top += len(rows)


@contextmanager
def raster_rows(
    path: Path,
    size: Size,
    like: Raster | None = None,
    *,
    colours: Sequence[str] = ("gray",),
    dtype: str = "uint8",
    nodata: float | None = None,
    palette: npt.NDArray[np.uint8] | None = None,
    shift: Size = (0, 0),
    description: str = "",
) -> Iterator[RasterRows]:
    """Write a GeoTIFF of which only some rows are in memory; it is there in whole, or not at all.

    Args:
        path: the file, replaced if it exists.
        size: (height, width).
        like: the raster whose coordinate system and transformation the file gets; None gives it no place.
        colours: meaning of each band, see :class:`~segadapt.data.files.raster.Raster`.
        dtype: type of the numbers.
        nodata: number that stands for no data.
        palette: colours [256, 3] of the values of one band.
        shift: (row, column) in ``like`` of the first pixel.
        description: ASCII text that the file says about itself.

    Yields:
        An object that takes all rows from the top down.

    Raises:
        RequestError: rasterio is not installed.
        RunError: the file cannot be written, e.g. because the disk is full.
    """
    rasterio = import_rasterio()
    from rasterio.windows import Window as Rectangle

    settings: dict[str, Any] = {
        "driver": "GTiff",
        "height": size[0],
        "width": size[1],
        "count": len(colours),
        "dtype": dtype,
        "nodata": nodata,
        "tiled": True,
        "blockxsize": BLOCK,
        "blockysize": BLOCK,
        "interleave": "pixel",
        "compress": "deflate",
        "BIGTIFF": "IF_SAFER",
    }
    if like is not None and like.georeferenced:
        settings |= {"crs": like.crs, "transform": moved(like.transform, shift)}
    if palette is None:
        settings["photometric"] = "RGB" if tuple(colours[:3]) == RGB else "MINISBLACK"
    with replacing(path) as temporary, gdal_environment():
        file = _written(lambda: rasterio.open(temporary, "w", **settings))
        try:
            _written(lambda: _describe(file, colours, palette, description))

            def write(top: int, rows: npt.NDArray[Any]) -> None:
                place = Rectangle(0, top, size[1], len(rows))
                stored = rows[None] if rows.ndim == 2 else np.ascontiguousarray(np.moveaxis(rows, -1, 0))
                _written(lambda: file.write(stored, window=place))

            out = RasterRows(write, lambda valid: _written(lambda: file.write_mask(valid)))
            yield out
            out.finish()
        finally:
            _written(file.close)
        _require_whole(temporary, size)


def write_raster(
    path: Path,
    values: npt.NDArray[Any],
    like: Raster,
    shift: Size = (0, 0),
    valid: npt.NDArray[np.bool_] | None = None,
) -> None:
    """Write a part of a raster as a GeoTIFF of its own, with the colours, no-data number and place that it has there.

    Args:
        path: the file.
        values: [H, W, C], all bands of ``like``.
        like: the raster that they come from.
        shift: (row, column) in it of the first pixel.
        valid: [H, W] what is data, for rasters that bring a mask.

    Raises:
        RunError: the file cannot be written.
    """
    with raster_rows(
        path,
        (values.shape[0], values.shape[1]),
        like,
        colours=like.colours,
        dtype=str(like.dtype),
        nodata=like.nodata,
        palette=like.palette,
        shift=shift,
    ) as rows:
        if like.masked and valid is not None:
            rows.mask(valid)
        rows.add(values)


def _describe(file: Any, colours: Sequence[str], palette: npt.NDArray[np.uint8] | None, description: str) -> None:
    """Tell an open file what its bands mean."""
    from rasterio.enums import ColorInterp

    if palette is not None:
        file.write_colormap(1, {n: tuple(map(int, colour)) for n, colour in enumerate(palette)})
    elif len(colours) > 1:
        file.colorinterp = [ColorInterp[colour] for colour in colours]
    if description:
        file.update_tags(TIFFTAG_IMAGEDESCRIPTION=description)


def _require_whole(path: Path, size: Size) -> None:
    """Raise OSError if a file cannot be read back: GDAL closes files without a word on a disk that became full."""
    try:
        with Raster(path) as written:
            for top in range(0, size[0], BLOCK):
                written.read(Window(top, 0, min(BLOCK, size[0] - top), size[1]))
    except DamagedFile as problem:
        raise OSError(f"not all of it arrived on the disk ({first_cause(problem)})") from None


def moved(transform: Any, shift: Size) -> Any:
    """Return the transformation of a part of a raster that begins at (row, column)."""
    row, column = shift
    x, y = transform.a * column + transform.b * row, transform.d * column + transform.e * row
    return type(transform)(transform.a, transform.b, transform.c + x, transform.d, transform.e, transform.f + y)


def _written(work: Callable[[], _R]) -> _R:
    """Return the result of ``work``; whatever GDAL complains of becomes an OSError that says the cause."""
    try:
        return work()
    except MemoryError:
        raise
    except Exception as problem:
        raise OSError(first_cause(problem)) from None
