"""How a mosaic is cut into the tiles that a network sees: at which scale, how large, and where.

What fixes the scale of a mosaic is the ground: a house must have as many pixels as in training. The working size of a
run is a size of whole training images, so it gives a *scale*, working size / size of the training images, and a mosaic
of any extent is shown at this scale.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from segadapt.core.spacing import evenly_spaced
from segadapt.core.types import Size
from segadapt.data.dataset import DamagedFile, Dataset
from segadapt.data.decode import picture_size
from segadapt.data.resize import Resize, working_size
from segadapt.models.inference import window_positions
from segadapt.models.store import LoadedModel

TILE = 512
"""Side of a tile, in pixels of the network's input, where nothing says how large training images were."""
LARGEST_TILE = 1024
OVERLAP = 0.25
"""Least share of a tile that the next one covers again."""
_LOOKED_AT = 32
"""Images of a data set whose size is read."""
_EXACT = 0.01
"""Relative error of the scale that is tolerated, so that tiles begin at whole pixels and whole cells."""


class View(NamedTuple):
    """How a network sees a mosaic.

    Attributes:
        scale: pixels of the network's input per pixel of the file, along height and width.
        tile: (height, width) of a tile in pixels of the network's input.
        why: the reason, for people.
    """

    scale: tuple[float, float]
    tile: Size
    why: str


class Axis(NamedTuple):
    """One side of a mosaic, in units: so many ``pixels`` of the file as become whole numbers of pixels and of cells.

    The last unit may reach beyond the image.

    Attributes:
        length: of the image, in pixels of the file.
        pixels: of the file in a unit; ``shown``: pixels of the network's input; ``cells``: of its scores.
        units: that cover it.
        tile: units that a tile has.
        starts: first unit of each tile; the last tile ends with the last unit.
    """

    length: int
    pixels: int
    shown: int
    cells: int
    units: int
    tile: int
    starts: tuple[int, ...]

    @property
    def kept(self) -> int:
        """Pixels per unit that are kept in memory: those of the file, or of the network's input if these are fewer."""
        return min(self.pixels, self.shown)

    @property
    def scale(self) -> float:
        """The exact scale."""
        return self.shown / self.pixels


def plan_axis(length: int, scale: float, tile: int, overlap: float, stride: int) -> Axis:
    """Cut one side of a mosaic into tiles.

    Args:
        length: in pixels of the file.
        scale: pixels of the network's input per pixel of the file, above 0; met within 1 %.
        tile: pixels of the network's input; rounded up to whole units, and a little more where one tile then suffices.
        overlap: least share of a tile that the next one covers again.
        stride: of the network.

    Example:
        >>> plan_axis(3000, 1.0, 512, 0.25, 8).starts
        (0, 48, 96, 144, 192, 240, 288, 311)
    """
    pixels, shown = _unit(scale, stride)
    units = -(-length // pixels)
    wide = max(1, -(-tile // shown))
    if units - wide <= wide // 8:
        wide = units
    starts = tuple(window_positions(units, wide, overlap))
    return Axis(length, pixels, shown, shown // stride, units, wide, starts)


def _unit(scale: float, stride: int) -> tuple[int, int]:
    """Return the smallest whole numbers of pixels of the file and of the input that have the scale, nearly."""
    best, smallest = (1, stride), float("inf")
    for cells in range(1, 65):
        shown = cells * stride
        pixels = max(1, round(shown / scale))
        error = abs(shown / pixels / scale - 1)
        if error < smallest:
            best, smallest = (pixels, shown), error
        if error <= _EXACT:
            break
    return best


def view_of(loaded: LoadedModel, window: Size | None) -> View:
    """Return how a trained network sees mosaics: at the scale of the images of its run.

    Args:
        loaded: a model; ``pictures`` in its provenance is the (height, width) of its run's images.
        window: sliding window of its evaluation, if it has one; the size of the tiles.
    """
    pictures = loaded.provenance.get("pictures")
    if not pictures:
        return View((1.0, 1.0), window or (TILE, TILE), "the file's own, as the model knows no other")
    height, width = pictures
    shown = working_size(height, width, loaded.working_size)
    tile = window or (min(shown[0], LARGEST_TILE), min(shown[1], LARGEST_TILE))
    return View((shown[0] / height, shown[1] / width), tile, f"at which its run showed images of {width}x{height}")


def view_by_size(image: Size, size: Resize, window: Size | None) -> View:
    """Return how a mosaic is seen if a working size was asked for: as any image, brought to it as a whole."""
    shown = working_size(*image, size)
    tile = window or (min(shown[0], LARGEST_TILE), min(shown[1], LARGEST_TILE))
    why = "the file's own" if size is None else f"the whole brought to {shown[1]}x{shown[0]}"
    return View((shown[0] / image[0], shown[1] / image[1]), tile, why)


def usual_size(dataset: Dataset) -> Size | None:
    """Return the median (height, width) of the images of a data set, from some of them; None without any."""
    places = evenly_spaced(len(dataset), _LOOKED_AT)
    sizes = [size for place in places if (size := _size_of(dataset, place)) is not None]
    if not sizes:
        return None
    height, width = np.median(sizes, axis=0).round().astype(int).tolist()
    return height, width


def _size_of(dataset: Dataset, index: int) -> Size | None:
    place = dataset.items[index].image
    if isinstance(place, Path):
        try:
            return picture_size(place)
        except DamagedFile:
            return None  # who trains with data.skip_damaged knows of it
    height, width = dataset.image(index).shape[:2]
    return height, width
