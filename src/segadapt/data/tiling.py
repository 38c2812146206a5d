"""Cutting images too large to train on, and their masks, into tiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from segadapt.data.files.raster import Bands, Raster, Window
from segadapt.data.files.raster_picture import is_upright
from segadapt.data.files.raster_writing import write_raster
from segadapt.data.folders.gathering import images_in
from segadapt.data.folders.pairing import image_ids, masks_of
from segadapt.errors import RequestError

Numbers = npt.NDArray[Any]


@dataclass(frozen=True)
class TilingSummary:
    """The result of cutting images into tiles.

    Attributes:
        images: number of images.
        tiles: number of tiles of each that were written, in all.
        empty: tiles left out because they hold no data.
        output: folder of ``images`` and, where masks were given, ``labels``.
    """

    images: int
    tiles: int
    empty: int
    output: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def cut_into_tiles(
    images: Path,
    labels: Path | None,
    output: Path,
    tile: int = 1024,
    overlap: float = 0.0,
    *,
    overwrite: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> TilingSummary:
    """Cut images and their masks into tiles, ``images/NAME_ROW_COLUMN.tif`` and ``labels/NAME_ROW_COLUMN.tif``.

    The last tile of a row or column ends with the image, so all are of one size, and may show a part of the image
    again; a side shorter than a tile is not cut. A tile keeps bands, type, no-data number, palette and place on Earth.
    Only some rows of an image are in memory.

    Args:
        images: a folder of images, or one.
        labels: the folder of their masks, paired by name, or the mask of the one image; None without.
        output: folder for the results.
        tile: height and width of a tile in pixels.
        overlap: least share of a tile that the next one shows again, in [0, 1).
        overwrite: replace tiles that exist; otherwise their presence is an error.
        progress: called after every image with (done, total).

    Raises:
        RequestError: nothing to cut, images without masks, a mask of another size, or tiles in the way.
        DamagedFile: a file cannot be read.
        RunError: a tile cannot be written.
    """
    if tile < 1 or not 0 <= overlap < 1:
        raise RequestError(f"tiles of {tile} pixels with an overlap of {overlap} are none; give 0 <= overlap < 1")
    tiles = empty = 0
    pairs = _pairs(images, labels)
    for done, (name, image, mask) in enumerate(pairs, start=1):
        for written in _cut(name, image, mask, output, tile, overlap, overwrite):
            tiles, empty = tiles + written, empty + (not written)
        progress(done, len(pairs))
    return TilingSummary(len(pairs), tiles, empty, str(output))


def _pairs(images: Path, labels: Path | None) -> list[tuple[str, Path, Path | None]]:
    """Return the name of the tiles of each image, the image and its mask."""
    if images.is_file():
        if labels is not None and not labels.is_file():
            raise RequestError(f"'{images}' is one image, so its mask has to be one file, and '{labels}' is none")
        return [(images.stem, images, labels)]
    found = images_in(images, labels, "tile").images
    masks = masks_of(images, found, labels, "tile") if labels is not None else [None] * len(found)
    return list(zip(image_ids(images, found), found, masks, strict=True))


def _cut(
    name: str, image: Path, mask: Path | None, output: Path, tile: int, overlap: float, overwrite: bool
) -> Iterator[bool]:
    """Write the tiles of one image; yield for each whether it holds data."""
    if not is_upright(image):
        raise RequestError(f"{image} is to be turned before it is shown, says its orientation tag; save it upright")
    if mask is None:
        with Raster(image) as raster:
            for window, part, whole in _windows(raster, tile, overlap):
                yield _write(output / "images", name, window, raster, part, whole, overwrite)
        return
    with Raster(image) as raster, Raster(mask) as truth:
        if raster.size != truth.size:
            (height, width), (high, wide) = raster.size, truth.size
            raise RequestError(f"{image} is {width}x{height} and its mask {mask} is {wide}x{high}; give them one size")
        both = zip(_windows(raster, tile, overlap), _windows(truth, tile, overlap), strict=True)
        for (window, part, whole), (_, label, whole_label) in both:
            kept = _write(output / "images", name, window, raster, part, whole, overwrite)
            if kept:
                label = label._replace(valid=None)
                _write(output / "labels", name, window, truth, label, whole_label, overwrite)
            yield kept


def _write(
    folder: Path, name: str, window: Window, raster: Raster, part: Bands, values: Numbers, overwrite: bool
) -> bool:
    """Write a tile that holds data; return whether it does."""
    if part.valid is not None and not part.valid.any():
        return False
    digits = len(str(max(raster.size)))
    path = folder / f"{name}_{window.top:0{digits}d}_{window.left:0{digits}d}.tif"
    if path.exists() and not overwrite:
        raise RequestError(f"'{path}' exists; name another output folder, or allow overwriting (--overwrite)")
    write_raster(path, values, raster, (window.top, window.left), part.valid)
    return True


def _windows(raster: Raster, tile: int, overlap: float) -> Iterator[tuple[Window, Bands, Numbers]]:
    """Yield the tiles of a raster: place, bands without alpha, and all bands.

    A file that is compressed in rows is read in rows, so that each is decoded once.
    """
    height, width = (min(tile, side) for side in raster.size)
    for top in starts(raster.size[0], tile, overlap):
        rows = None
        if raster.block[1] == raster.size[1]:
            rows = _read(raster, Window(top, 0, height, raster.size[1]))
        for left in starts(raster.size[1], tile, overlap):
            window = Window(top, left, height, width)
            if rows is None:
                yield window, *_read(raster, window)
            else:
                bands, whole = rows
                here = slice(left, left + width)
                valid = None if bands.valid is None else bands.valid[:, here]
                yield window, Bands(bands.values[:, here], valid), whole[:, here]


def _read(raster: Raster, window: Window) -> tuple[Bands, Numbers]:
    bands = raster.read(window)
    if len(raster.channels) == raster.bands:
        return bands, bands.values
    return bands, raster.read(window, range(1, raster.bands + 1)).values


def starts(length: int, tile: int, overlap: float) -> list[int]:
    """Return where tiles begin that cover ``length`` pixels; the last one ends with them.

    Example:
        >>> starts(2500, 1024, 0.0), starts(1000, 1024, 0.5)
        ([0, 1024, 1476], [0])
    """
    if length <= tile:
        return [0]
    step = max(1, round(tile * (1 - overlap)))
    return [*range(0, length - tile, step), length - tile]
