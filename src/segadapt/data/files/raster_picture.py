"""Rasters as pictures: which bands are red, green and blue, and which numbers are black and white.

One file alone is shown as a GIS viewer shows it. A data set of rasters has one scaling, measured over all of its files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from segadapt.data.dataset import Picture
from segadapt.data.files.raster import PALETTE, Raster, Window
from segadapt.data.files.tiff_head import tiff_head
from segadapt.data.scaling import Range, measured_range, to_bytes

SAMPLE = 1024
"""Longest side of the thinned raster on which black and white are measured."""
_ORIENTATION = 274


class Shown(NamedTuple):
    """A part of a raster as a picture.

    Attributes:
        picture: [H, W, 3] uint8, or as many channels as the reader gives.
        valid: [H, W] bool, False for no-data; None if all pixels are data.
    """

    picture: Picture
    valid: npt.NDArray[np.bool_] | None


Reader = Callable[[Raster, Window | None], Shown]
"""Reads a window of a raster as the network is to see it."""


class Viewer:
    """Shows a raster as a GIS viewer does; a :data:`Reader` with one scaling for all windows.

    Bands tagged red, green and blue are these colours; else the first three bands are, and fewer give grey. Numbers
    become bytes by the rule of :mod:`segadapt.data.scaling`, measured on this file alone.

    Args:
        raster: on which the scaling is measured.
    """

    def __init__(self, raster: Raster) -> None:
        self.bands = colour_bands(raster.colours, raster.channels)
        self.palette = raster.palette
        self._range = None if self._as_stored(raster) else _range(raster, self.bands)

    def __call__(self, raster: Raster, window: Window | None = None) -> Shown:
        """Return a window, or all, of the raster."""
        values, valid = raster.read(window, self.bands)
        if self.palette is not None:
            return Shown(self.palette[np.clip(values[..., 0], 0, len(self.palette) - 1)], valid)
        if self._range is not None:
            values = to_bytes(values, self._range)
        return Shown(values if values.shape[2] == 3 else np.repeat(values, 3, axis=2), valid)

    def _as_stored(self, raster: Raster) -> bool:
        return self.palette is not None or (raster.dtype == np.uint8 and raster.bits == 8)


def colour_bands(colours: Sequence[str], channels: Sequence[int]) -> tuple[int, ...]:
    """Return the numbers, from 1, of the bands that are red, green and blue, or of the one that is grey.

    Args:
        colours: what each band shows.
        channels: numbers of the bands that are not alpha.
    """
    if all(colour in colours for colour in ("red", "green", "blue")):
        return tuple(colours.index(colour) + 1 for colour in ("red", "green", "blue"))
    bands = tuple(channels) or (1,)
    return bands[:3] if len(bands) >= 3 and colours[0] != PALETTE else bands[:1]


def read_raster(path: Path) -> Shown:
    """Read a whole raster as a picture.

    Raises:
        RequestError: rasterio is not installed.
        DamagedFile: it cannot be read, or has more pixels than are decoded as a whole.
    """
    with Raster(path) as raster:
        raster.require_whole()
        return Viewer(raster)(raster)


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


def _range(raster: Raster, bands: tuple[int, ...]) -> Range:
    """Return the numbers of each band that become black and white, by the rule of :mod:`segadapt.data.scaling`."""
    if raster.dtype.kind == "u" and raster.bits not in (8, 16, 32, 64):
        return Range((0.0,) * len(bands), (float((1 << raster.bits) - 1),) * len(bands))  # the file says it
    thin = max(1.0, max(raster.size) / SAMPLE)
    shape = (max(1, round(raster.size[0] / thin)), max(1, round(raster.size[1] / thin)))
    values, valid = raster.read(None, bands, shape)
    pixels = values.reshape(-1, len(bands)) if valid is None else values[valid]
    pixels = pixels[np.isfinite(pixels).all(1)] if pixels.dtype.kind == "f" else pixels
    if not len(pixels):
        return Range((0.0,) * len(bands), (1.0,) * len(bands))
    return measured_range([pixels[:, place] for place in range(len(bands))])
