"""Predictions of images that are larger than memory, or lie somewhere on Earth: in tiles, row of tiles by row of tiles.

Tiles overlap. Their class probabilities are averaged with weights that fall towards the borders of a tile, on the grid
of the network's scores, and what is enlarged to pixels is the average; so there are no seams. Only the rows of one row
of tiles are in memory: of the picture, and of the grid. Each row of the file is read once, from the top down, because a
PNG or JPEG file can be read in no other order.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from segadapt.core.files import write_bytes
from segadapt.core.types import Size
from segadapt.data.bands import BandReader
from segadapt.data.dataset import DamagedFile, Picture
from segadapt.data.decode import picture_size
from segadapt.data.files.raster import Raster, has_rasterio
from segadapt.data.files.raster_picture import Reader, Viewer, is_upright
from segadapt.data.files.tiff_head import tiff_head
from segadapt.data.files.writing import encode_picture
from segadapt.data.resize import Resize, resize_image
from segadapt.data.streaming import Behind, size_of
from segadapt.evaluation.blending import Blend
from segadapt.evaluation.placing import Places
from segadapt.evaluation.raster_outputs import RasterOutputs
from segadapt.evaluation.results import JPEG_QUALITY, Look
from segadapt.evaluation.strips import Overview, Strips
from segadapt.evaluation.tiling import OVERLAP, View, plan_axis, view_by_size
from segadapt.labels import IGNORE, LabelMap
from segadapt.models.inference import InferenceConfig, predict_labels, scores
from segadapt.models.segmenter import Segmenter
from segadapt.pieces.confidence import labels_and_confidence
from segadapt.pieces.images import to_batch
from segadapt.pieces.resizing import upsample

MOSAIC_PIXELS = 1 << 27
"""Images with more pixels are predicted in tiles; 134 million of them take 400 MB as RGB."""
_SLICE = 1 << 23
"""Pixels of the result that are made at a time."""
_SCORES = 64 << 20
"""Bytes of class scores at the size of pixels that exist at a time."""


class Rows(NamedTuple):
    """The prediction of some rows of pixels.

    Attributes:
        first: number of the first row.
        labels: [n, W] train ids.
        confidence: [n, W] in 255ths.
        valid: [n, W] what is data; None if all is.
    """

    first: int
    labels: LabelMap
    confidence: npt.NDArray[np.uint8]
    valid: npt.NDArray[np.bool_] | None


def is_mosaic(path: Path) -> bool:
    """Return whether an image is predicted in tiles: it has more than :data:`MOSAIC_PIXELS`, or is a GeoTIFF.

    A GeoTIFF that is an ordinary picture is none where rasterio is missing. A photograph that has to be turned is none.
    """
    head = tiff_head(path)
    if head is not None:
        large = head.size[0] * head.size[1] > MOSAIC_PIXELS
        return large or (head.georeferenced and (has_rasterio() or not head.plain))
    height, width = _size_of(path)
    return height * width > MOSAIC_PIXELS and is_upright(path)


def without_place(images: Sequence[Path]) -> tuple[str, ...]:
    """Return a line where results of GeoTIFF lose their place on Earth, as rasterio is missing."""
    lost = [] if has_rasterio() else [p for p in images if (head := tiff_head(p)) is not None and head.georeferenced]
    line = f"{len(lost)} GeoTIFF give PNG files without a place, the first is {lost[0]}" if lost else ""
    return (f'{line}; for GeoTIFF results: pip install "segadapt[geo]"',) if lost else ()


def _size_of(path: Path) -> Size:
    """Return (height, width) of an image, also of one that is too large to decode; (0, 0) of no image."""
    try:
        return picture_size(path)
    except DamagedFile:
        if not has_rasterio():
            return 0, 0
    try:
        with Raster(path) as raster:
            return raster.size
    except DamagedFile:
        return 0, 0


def with_rasters(places: Places, mosaics: Collection[Path]) -> Places:
    """Return the names of results with GeoTIFF files instead of PNG for mosaics."""
    return {
        path: {k: file.with_suffix(".tif") if file.suffix == ".png" else file for k, file in files.items()}
        if path in mosaics
        else files
        for path, files in places.items()
    }


def plan_mosaics(
    images: Iterable[Path],
    model: Segmenter,
    config: InferenceConfig | None = None,
    view: View | None = None,
    size: Resize = None,
    reader: BandReader | None = None,
) -> tuple[dict[Path, Mosaic], dict[Path, str], list[Path]]:
    """Return the plans of images that are mosaics, a line for each that cannot be opened, and all other images."""
    plans, damaged, others = {}, {}, []
    windows = reader.window if reader is not None else None
    for path in images:
        if is_mosaic(path):
            try:
                plans[path] = Mosaic(path, model, config or InferenceConfig(), view, size, windows)
            except DamagedFile as problem:
                damaged[path] = str(problem)
        else:
            others.append(path)
    return plans, damaged, others


def predict_mosaics(
    mosaics: Mapping[Path, Mosaic], places: Places, look: Look, progress: Callable[[], None]
) -> dict[str, str]:
    """Predict mosaics, see :meth:`Mosaic.predict`; return a line for each of them that is damaged."""
    damaged = {}
    for path, mosaic in mosaics.items():
        try:
            mosaic.predict(places[path], look, progress)
        except DamagedFile as problem:
            damaged[str(path)] = str(problem)
    return damaged


class Mosaic:
    """One large image and the plan of its tiles.

    Args:
        path: the file.
        model: the network, on its device.
        config: how each tile is predicted; its window is the size of the tiles, its overlap that of windows.
        view: scale and tiles; None for ``size``.
        size: working size to which the whole image is brought, as any other image; None leaves its pixels.
        reader: how bands become the network's input; None shows the raster as a viewer does.

    Raises:
        RequestError: rasterio is not installed, or the scores of a row of tiles do not fit into memory.
        DamagedFile: the file cannot be opened.
    """

    def __init__(
        self,
        path: Path,
        model: Segmenter,
        config: InferenceConfig,
        view: View | None = None,
        size: Resize = None,
        reader: Reader | None = None,
    ) -> None:
        self.path, self._model, self._reader = path, model, reader
        with Raster(path) as raster:
            self.size: Size = raster.size
        self._view = view or view_by_size(self.size, size if size is not None else config.size, config.window)
        overlap = config.overlap if config.window is not None else OVERLAP
        self._y, self._x = (
            plan_axis(self.size[a], self._view.scale[a], self._view.tile[a], overlap, model.stride) for a in (0, 1)
        )
        self._config = config.model_copy(update={"window": None, "size": None})
        self._device = next(model.parameters()).device
        self._sums = Blend.type_for(model.classes, self._y, self._x, path)

    @property
    def tiles(self) -> int:
        """Number of tiles."""
        return len(self._y.starts) * len(self._x.starts)

    @property
    def _alone(self) -> bool:
        """Whether one tile shows all, of a size that any image may have."""
        return self.tiles == 1 and self.size[0] * self.size[1] <= MOSAIC_PIXELS

    @property
    def _shown(self) -> Size:
        """Size of the whole to the network."""
        height, width = (max(1, round(self.size[a] * self._view.scale[a])) for a in (0, 1))
        return height, width

    def __str__(self) -> str:
        high, wide = self._shown if self._alone else (a.tile * a.shown for a in (self._y, self._x))
        tile = f"{wide}x{high}"
        count = f"{self.tiles} tiles, each" if self.tiles > 1 else "one tile,"
        scale = " and ".join(dict.fromkeys(f"{axis.scale:.3g}" for axis in (self._y, self._x)))
        return (
            f"{self.path.name}: {self.size[1]}x{self.size[0]} pixels in {count} {tile} to the network; scale {scale}, "
            f"{self._view.why}"
        )

    def predict(
        self,
        files: Mapping[str, Path],
        look: Look,
        progress: Callable[[], None] = lambda: None,
    ) -> None:
        """Predict the mosaic and write its results.

        Args:
            files: results by kind: ``index`` and ``confidence``, GeoTIFF of one band of bytes; ``color``, GeoTIFF of
                three; ``overlay``, a JPEG of the whole at most some 2000 pixels large. They have the coordinate system
                and transformation of the image. Where it has no data, the index is 255 (or the id that ``look``
                has for it) and the confidence 0.
            look: classes, colours, and the ids to write.
            progress: called after every tile.

        Raises:
            DamagedFile: the file cannot be read; nothing is written.
            RunError: a result cannot be written; no half file is left.
        """
        with Raster(self.path) as raster, ExitStack() as stack:
            overview = Overview(self.size)
            reader = self._reader or Viewer(raster)
            outputs = RasterOutputs(stack, files, raster, look)

            def write(rows: Rows) -> None:
                if rows.valid is not None:
                    rows.labels[~rows.valid], rows.confidence[~rows.valid] = IGNORE, 0
                overview.add_labels(rows.first, rows.labels)
                outputs.add(rows.labels, rows.confidence)

            behind = stack.enter_context(Behind(threads=1))  # one, as rows are written from the top down
            for rows in stack.enter_context(closing(self._rows(raster, reader, overview, progress))):
                behind.add(partial(write, rows), holds=size_of(rows))
        if "overlay" in files:
            shown = look.overlay(overview.picture, overview.labels)
            write_bytes(files["overlay"], encode_picture(".jpg", shown, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]))

    def _rows(
        self, raster: Raster, reader: Reader, overview: Overview, progress: Callable[[], None]
    ) -> Generator[Rows]:
        """Yield all rows of pixels in their order, as soon as all tiles that show them are predicted."""
        if self._alone:
            yield self._whole(raster, reader, overview)
            progress()
            return
        with closing(Strips(raster, reader, self._y, self._x, overview)) as strips:
            yield from self._tiled(strips, progress)

    def _tiled(self, strips: Strips, progress: Callable[[], None]) -> Iterator[Rows]:
        """Yield all rows of pixels of several tiles."""
        blended = Blend(self._model.classes, self._y, self._x, self._device, self._sums)
        done = 0
        for top, after in zip(self._y.starts, (*self._y.starts[1:], None), strict=True):
            strips.read_to(top + self._y.tile)
            blended.move_to(max(0, done - 1), top + self._y.tile)
            for left in self._x.starts:
                tile = strips.tile(top, left)
                if tile is not None:
                    blended.add(top, left, self._log_probabilities(tile))
                progress()
            # Enlarging a unit needs its neighbours, so the last finished one waits.
            ready = self._y.units if after is None else max(done, after - 1)
            for rows in self._pixels(blended, done, ready):
                yield rows._replace(valid=strips.valid(rows.first, len(rows.labels)))
            done = ready
            strips.forget(self._y.units if after is None else after, done)

    def _whole(self, raster: Raster, reader: Reader, overview: Overview) -> Rows:
        """Predict an image that one tile shows, exactly as any other image is predicted."""
        picture, valid = reader(raster, None)
        overview.add_picture(0, picture)
        batch = to_batch(resize_image(picture, self._shown), self._device)
        label, confidence = predict_labels(self._model, batch, self.size, self._config)
        return Rows(0, label[0].cpu().numpy(), _bytes(confidence[0]), valid)

    def _log_probabilities(self, tile: Picture) -> Tensor:
        """Return the log class probabilities [K, h, w] of a tile on the grid of the mosaic's cells."""
        cells = (self._y.tile * self._y.cells, self._x.tile * self._x.cells)
        log = scores(self._model, to_batch(tile, self._device), self._config)
        return upsample(log, cells, self._config.align_corners)[0].log_softmax(0)

    def _pixels(self, blended: Blend, first: int, last: int) -> Iterator[Rows]:
        """Yield the pixels of some rows of units."""
        (height, width), y, x = self.size, self._y, self._x
        step = max(1, _SLICE // (y.pixels * width))
        for top in range(first, last, step):
            bottom = min(top + step, last)
            here = min(bottom * y.pixels, height) - top * y.pixels
            labels, confidence = np.empty((here, width), np.uint8), np.empty((here, width), np.uint8)
            column = 4 * self._model.classes * (bottom - top + 2) * y.pixels * x.pixels
            columns = max(1, _SCORES // column - 2)
            for left in range(0, x.units, columns):
                right = min(left + columns, x.units)
                label, sure = self._block(blended, (top, bottom), (left, right))
                place = slice(left * x.pixels, min(right * x.pixels, width))
                wide = place.stop - place.start
                labels[:, place] = label[:here, :wide].cpu().numpy()
                confidence[:, place] = _bytes(sure[:here, :wide])
            yield Rows(top * y.pixels, labels, confidence, None)

    def _block(self, blended: Blend, rows: tuple[int, int], columns: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Enlarge a block of units, with a neighbour on each side that is cut off again."""
        (top, bottom), (left, right), y, x = rows, columns, self._y, self._x
        above, below = min(1, top), min(1, y.units - bottom)
        before, behind = min(1, left), min(1, x.units - right)
        log = blended.log_mean((top - above, bottom + below), (left - before, right + behind))
        size = ((bottom - top + above + below) * y.pixels, (right - left + before + behind) * x.pixels)
        label, confidence = labels_and_confidence(log[None], size, dtype=torch.uint8)
        inside = (
            slice(above * y.pixels, size[0] - below * y.pixels),
            slice(before * x.pixels, size[1] - behind * x.pixels),
        )
        return label[0][inside], confidence[0][inside]


def _bytes(confidence: Tensor) -> npt.NDArray[np.uint8]:
    return np.asarray((confidence * 255).round().byte().cpu().numpy())
