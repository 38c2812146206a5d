"""Images as they are stored: what a file holds, told from its header, and its numbers.

TIFF files are read by rasterio (extra ``geo``); where it is missing, OpenCV reads those of up to four bands.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from segadapt.core.types import Size
from segadapt.data.dataset import DamagedFile
from segadapt.data.decode import decode, picture_size, stored_orientation
from segadapt.data.files.orientation import turned
from segadapt.data.files.raster import ALPHA, UNDEFINED, Bands, Raster, has_rasterio, import_rasterio, read_bands
from segadapt.data.files.tiff_head import TiffHead, tiff_head
from segadapt.errors import RequestError

_SHOWN_BY_VIEWERS = ("1", "P", "PA", "CMYK", "YCbCr", "LAB", "HSV")
"""Modes of Pillow that become RGB by a rule of their own, and are never bands."""
_OF_PILLOW = {"R": "red", "G": "green", "B": "blue", "A": ALPHA, "L": "gray", "I": "gray", "F": "gray"}


@dataclass(frozen=True)
class Stored:
    """The content of an image file.

    Attributes:
        size: (height, width).
        colours: what each band shows, ``alpha`` for transparency, ``undefined`` where nothing says.
        dtype: type of the numbers, e.g. ``uint16``.
        ordinary: whether a viewer's rule makes RGB of it: grey, RGB, palette; of 8 bits or of 16.
        masked: whether it may have pixels without data.
    """

    size: Size
    colours: tuple[str, ...]
    dtype: str
    ordinary: bool
    masked: bool

    @property
    def bands(self) -> int:
        """Number of bands, alpha included."""
        return len(self.colours)

    @property
    def channels(self) -> tuple[int, ...]:
        """Numbers, from 1, of the bands that are not alpha."""
        return tuple(number for number, colour in enumerate(self.colours, 1) if colour != ALPHA)


def stored(path: Path) -> Stored | None:
    """Return what a file holds, from its header; None where it cannot be told, as of a damaged file."""
    try:
        head = tiff_head(path)
        if head is None or (head.plain and not head.georeferenced):
            return _by_pillow(path)
        return _of_tiff(path, head)
    except (RequestError, OSError, SyntaxError, ValueError):
        return None


def read_stored(path: Path, bands: Sequence[int], shape: Size | None = None) -> Bands:
    """Read the numbers of bands of a file, turned as its orientation tag says.

    Args:
        path: an image file.
        bands: numbers from 1, in the order wanted; the file has them.
        shape: (height, width) of the result, at most that of the file: evenly spaced pixels; None takes all.

    Raises:
        DamagedFile: the file cannot be read.
        RequestError: it is a TIFF file that only rasterio can read, which is not installed.
    """
    if has_rasterio() and tiff_head(path) is not None:
        return _upright(read_bands(path, bands, shape), path)
    values = _numbers(path, max(bands))
    if shape is not None:
        rows, columns = (np.arange(n) * size // n for n, size in zip(shape, values.shape, strict=False))
        values = values[rows[:, None], columns[None, :]]
    values = values[..., [band - 1 for band in bands]]
    return Bands(values, ~np.isnan(values).any(2) if values.dtype.kind == "f" else None)


def _of_tiff(path: Path, head: TiffHead) -> Stored:
    if not has_rasterio():
        values = _numbers(path, 1)
        colours = {1: ("gray",), 3: ("red", "green", "blue")}.get(values.shape[2], (UNDEFINED,) * values.shape[2])
        return Stored(head.size, colours, str(values.dtype), ordinary=head.plain, masked=values.dtype.kind == "f")
    with Raster(path) as raster:
        masked = raster.masked or raster.nodata is not None or ALPHA in raster.colours or raster.dtype.kind == "f"
        usual = raster.dtype in (np.uint8, np.uint16) and raster.bands in (1, 3) and not masked
        return Stored(raster.size, raster.colours, str(raster.dtype), usual, masked)


def _by_pillow(path: Path) -> Stored:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path) as image:
            size, mode, names = picture_size(path), image.mode, image.getbands()
            layout = str([tile[3] for tile in getattr(image, "tile", [])[:1]])
    if mode in _SHOWN_BY_VIEWERS:
        return Stored(size, (UNDEFINED,) * 3, "uint8", ordinary=True, masked=False)
    deep = ";16" in layout or mode.startswith("I")
    colours = tuple(_OF_PILLOW.get(name[0], UNDEFINED) for name in names)
    return Stored(size, colours, "float32" if mode == "F" else "uint16" if deep else "uint8", mode != "F", masked=False)


def _numbers(path: Path, most: int) -> npt.NDArray[Any]:
    """Return the numbers [H, W, C] of a file without rasterio, of at least so many bands where it has them."""
    raster = tiff_head(path) is not None
    if not raster:
        values: Any = decode(path).values  # knows damage that OpenCV reads over; drops transparency
        values = values[..., None] if values.ndim == 2 else values
        if values.shape[2] >= most:
            return np.asarray(values)
    picture_size(path)  # refuses what is too large
    try:
        values = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    except (cv2.error, OSError):
        values = None
    if values is None:
        if raster:
            import_rasterio(path)  # says that it is missing
        raise DamagedFile(f"{path} is not an image that can be decoded; fetch it again, or save it as PNG")
    if values.ndim == 2:
        return np.asarray(values[..., None])
    order = [2, 1, 0, *range(3, values.shape[2])] if values.shape[2] >= 3 else [*range(values.shape[2])]
    return turned(values[..., order], 1 if raster else stored_orientation(path))  # OpenCV turns TIFF alone


def _upright(read: Bands, path: Path) -> Bands:
    """Turn what GDAL read, which leaves pictures as they are stored."""
    orientation = stored_orientation(path)
    if orientation == 1:
        return read
    return Bands(turned(read.values, orientation), None if read.valid is None else turned(read.valid, orientation))
