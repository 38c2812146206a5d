"""Rasters as pictures: which bands are red, green and blue, and which numbers are black and white.

One file alone is shown as a GIS viewer shows it. A data set of rasters has one scaling, measured over all of its files.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from segadapt.core.types import Size
from segadapt.data.dataset import DamagedFile, Picture
from segadapt.data.files.raster import PALETTE, Raster, Window
from segadapt.data.files.tiff_head import tiff_head

MOST_PIXELS = 1 << 30
"""Most pixels of a raster that is read as a whole."""
SAMPLE = 1024
"""Longest side of the thinned raster on which black and white are measured."""
CUT = (2.0, 98.0)
"""Percentiles that become black and white, the usual choice of GIS viewers."""
_ORIENTATION = 274
_FULL = 16384
"""A 16-bit file with a number this large uses the whole range; sensors of 10 to 14 bits and reflectances stay below."""


class Shown(NamedTuple):
    """A part of a raster as a picture.

    Attributes:
        picture: [H, W, 3] uint8, or as many channels as the reader gives.
        valid: [H, W] bool, False for no-data; None if all pixels are data.
    """

    picture: Picture
    valid: npt.NDArray[np.bool_] | None


Limits = tuple[Any, Any]
"""The numbers that become black and white, of all bands or [C]."""
Reader = Callable[[Raster, Window | None], Shown]
"""Reads a window of a raster as the network is to see it."""


class Viewer:
    """Shows a raster as a GIS viewer does; a :data:`Reader` with one scaling for all windows.

    Bands tagged red, green and blue are these colours; else the first three bands are, and fewer give grey. 8 bits
    stay as they are; 16 bits that use their range become 8, as do fractions from 0 to 1; anything else is stretched,
    each band from its 2nd to its 98th percentile.

    Args:
        raster: on which the scaling is measured.
    """

    def __init__(self, raster: Raster) -> None:
        self.bands = colour_bands(raster)
        self.palette = raster.palette
        self._limits: Limits = (0.0, 255.0) if self._as_stored(raster) else _limits(raster, self.bands)

    def __call__(self, raster: Raster, window: Window | None = None) -> Shown:
        """Return a window, or all, of the raster."""
        values, valid = raster.read(window, self.bands)
        if self.palette is not None:
            return Shown(self.palette[np.clip(values[..., 0], 0, len(self.palette) - 1)], valid)
        if not self._as_stored(raster):
            values = stretched(values, *self._limits)
        return Shown(values if values.shape[2] == 3 else np.repeat(values, 3, axis=2), valid)

    def _as_stored(self, raster: Raster) -> bool:
        return self.palette is not None or (raster.dtype == np.uint8 and raster.bits == 8)


def colour_bands(raster: Raster) -> tuple[int, ...]:
    """Return the numbers, from 1, of the bands that are red, green and blue, or of the one that is grey."""
    if all(colour in raster.colours for colour in ("red", "green", "blue")):
        return tuple(raster.colours.index(colour) + 1 for colour in ("red", "green", "blue"))
    bands = raster.channels or (1,)
    return bands[:3] if len(bands) >= 3 and raster.colours[0] != PALETTE else bands[:1]


def stretched(values: npt.NDArray[Any], low: Any, high: Any) -> Picture:
    """Return numbers [..., C] as bytes: ``low`` and below become 0, ``high`` and above 255, not-a-number 0."""
    span = np.maximum(np.asarray(high, np.float32) - np.asarray(low, np.float32), np.finfo(np.float32).tiny)
    scaled = (values.astype(np.float32) - np.asarray(low, np.float32)) * (255.0 / span)
    bytes_ = np.nan_to_num(scaled, nan=0.0, posinf=255.0, neginf=0.0).clip(0, 255)
    return np.asarray(np.rint(bytes_), np.uint8)


def read_raster(path: Path) -> Shown:
    """Read a whole raster as a picture.

    Raises:
        RequestError: rasterio is not installed.
        DamagedFile: it cannot be read, or has more than :data:`MOST_PIXELS`.
    """
    with Raster(path) as raster:
        if raster.size[0] * raster.size[1] > MOST_PIXELS:
            raise DamagedFile(too_large(path, raster.size))
        return Viewer(raster)(raster)


def too_large(path: Path, size: Size) -> str:
    """Return the line about an image that is too large to be held in memory."""
    return (
        f"{path} has {size[1]} x {size[0]} pixels, too many to decode; cut it into tiles: "
        "segadapt data tile IMAGES --out TILES"
    )


def is_upright(path: Path) -> bool:
    """Return whether an image is to be shown as it is stored; GDAL does not obey the orientation tag of photographs.

    A raster on Earth is upright, and so is whatever Pillow cannot open.
    """
    head = tiff_head(path)
    if head is not None and head.georeferenced:
        return True
    try:
        with Image.open(path) as image:
            return bool(image.getexif().get(_ORIENTATION, 1) == 1)
    # Pillow raises OSError, SyntaxError, ValueError and others.
    except Exception:
        return True


def _limits(raster: Raster, bands: tuple[int, ...]) -> Limits:
    """Return the numbers, of all bands or of each, that become black and white."""
    if raster.dtype.kind == "u" and raster.bits not in (8, 16, 32, 64):
        return 0.0, float((1 << raster.bits) - 1)  # the file says how many bits are used
    thin = max(1.0, max(raster.size) / SAMPLE)
    shape = (max(1, round(raster.size[0] / thin)), max(1, round(raster.size[1] / thin)))
    values, valid = raster.read(None, bands, shape)
    pixels = values.reshape(-1, len(bands)) if valid is None else values[valid]
    pixels = pixels[np.isfinite(pixels).all(1)].astype(np.float64)
    if not len(pixels):
        return 0.0, 1.0
    least, most = pixels.min(), pixels.max()
    if raster.dtype == np.uint16 and most >= _FULL:
        return 0.0, 65535.0
    if raster.dtype.kind == "f" and least >= 0 and most <= 1:
        return 0.0, 1.0
    low, high = np.percentile(pixels, CUT, axis=0)
    return low, np.where(high > low, high, low + 1)
