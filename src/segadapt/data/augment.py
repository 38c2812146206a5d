"""Augmentation: windows drawn and cut out per sample beside the decoding, scaled per batch on the device.

A :class:`Window` is a rectangle of the source image. Images and labels are sampled at the same places, images
bilinearly and labels by the nearest pixel, with pixel centres at half integers. This is the geometry of scaling the
image first and slicing a crop out of it afterwards, without ever making the scaled image.

Only the pixels that a window touches (:func:`regions`) travel to the device, with the numbers of the pixels that each
row and column of the crop lies between (:class:`Grid`). Those are worked out in double precision from the window
alone, so a crop has the same bits whatever else is in its batch, and whether its image came whole or cut.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from segadapt.core.moving import sent
from segadapt.core.types import Size
from segadapt.labels import IGNORE, LabelMap


class Window(NamedTuple):
    """A rectangle [top, top + height) x [left, left + width) of an image, in its pixels.

    It may reach beyond the image. ``flip`` mirrors the crop left to right.
    """

    top: float
    left: float
    height: float
    width: float
    flip: bool = False


def draw_window(
    rng: np.random.Generator,
    size: Size,
    crop: Size,
    scales: tuple[float, float] = (1.0, 1.0),
    flip: bool = False,
    focus: tuple[int, int] | None = None,
) -> Window:
    """Draw a random window: scale s ~ U[scales], place uniform, mirrored with probability 1/2.

    Think of the image enlarged by s: a crop of the wanted size at a whole pixel of the enlarged image
    covers ``crop / s`` pixels of the image itself. Where the scaled image is smaller than the crop, it lies
    wholly and at a random place within the window.

    Args:
        rng: consumed by the same four numbers whatever the other arguments are.
        size: (height, width) of the image.
        crop: (height, width) of the output.
        scales: lowest and highest scale.
        flip: whether to mirror half of the windows.
        focus: pixel (y, x) at the centre of the window, which is moved back inside the image where
            it would leave it (mining of hard classes as in CRST, Zou et al. 2019).
    """
    scale = float(rng.uniform(*scales))
    places = rng.random(2)
    mirrored = bool(rng.random() < 0.5) and flip
    corner = []
    for axis in (0, 1):
        spare = size[axis] * scale - crop[axis]
        first, last = min(0.0, spare), max(0.0, spare)
        if focus is None:
            start: float = math.ceil(first) + int(places[axis] * (math.floor(last) - math.ceil(first) + 1))
        else:
            start = min(max(round((focus[axis] + 0.5) * scale - crop[axis] / 2), first), last)
        corner.append(start / scale)
    return Window(corner[0], corner[1], crop[0] / scale, crop[1] / scale, mirrored)


def focus_pixel(rng: np.random.Generator, label: LabelMap, wanted_classes: Sequence[int]) -> tuple[int, int] | None:
    """Draw a pixel (y, x) of a wanted class: first one of the wanted classes present, then one of its pixels.

    None when no wanted class is in the label map [H, W].
    """
    counts = np.bincount(label.ravel(), minlength=IGNORE + 1)
    present = [c for c in wanted_classes if counts[c] > 0]
    if not present:
        return None
    chosen = present[int(rng.integers(len(present)))]
    place = int(rng.integers(counts[chosen]))
    y, x = divmod(int(np.flatnonzero(label == chosen)[place]), label.shape[1])
    return y, x


def pad_batch(images: Sequence[npt.NDArray[np.uint8]]) -> Tensor:
    """Put images [H, W, C] of any sizes into one uint8 tensor [B, C, H, W], zeros at the bottom and the right."""
    height, width = (max(image.shape[axis] for image in images) for axis in (0, 1))
    batch = np.zeros((len(images), height, width, images[0].shape[2]), np.uint8)
    for place, image in zip(batch, images, strict=True):
        place[: image.shape[0], : image.shape[1]] = image
    return torch.from_numpy(batch).permute(0, 3, 1, 2)


class Axis(NamedTuple):
    """Where the n rows, or columns, of the crops of B images lie.

    Attributes:
        pixels: [2, B, n] int64, the pixels before and after each, in the image or the part of it that is at hand.
        weights: [2, B, n] float32: how far it lies on the way from one to the other, and 1 within the image, else 0.
    """

    pixels: Tensor
    weights: Tensor

    def at(self, device: torch.device) -> Axis:
        """Return it on a device, without waiting for it."""
        return Axis(*(sent(tensor, device) for tensor in self))


class Grid(NamedTuple):
    """Where the pixels of the crops of a batch lie in its images; see :func:`grid_of`."""

    rows: Axis
    columns: Axis


Region = tuple[slice, slice]
"""Rows and columns of an image."""


def grid_of(windows: Sequence[Window], sizes: Sequence[Size], output: Size) -> Grid:
    """Return where the crops of windows lie in their images.

    Args:
        windows: one window per image, in pixels of the image.
        sizes: (height, width) of each image.
        output: (height, width) of the crops.
    """
    return Grid(*(_axis(centres, sizes, axis) for axis, centres in enumerate(_centres(windows, output))))


def regions(grid: Grid) -> tuple[list[Region], Grid]:
    """Return the part of each image that its crop touches, and where the crop lies in that part."""
    parts = []
    for axis in grid:
        first, last = axis.pixels[0].amin(1), axis.pixels[1].amax(1)
        spans = [slice(low, high + 1) for low, high in zip(first.tolist(), last.tolist(), strict=True)]
        parts.append((spans, Axis(axis.pixels - first[:, None], axis.weights)))
    (rows, row_axis), (columns, column_axis) = parts
    return list(zip(rows, columns, strict=True)), Grid(row_axis, column_axis)


def crop_images(images: Tensor, grid: Grid) -> Tensor:
    """Sample a crop of each image, bilinearly and without anti-aliasing.

    Equals ``cv2.resize(image, INTER_LINEAR)`` of the whole image followed by slicing. Places beside the image are zero;
    at its border, sampling sees its own border pixels and not the padding of the batch.

    Args:
        images: [B, C, H, W] uint8 as from :func:`pad_batch`.
        grid: of the crops, on the same device.

    Returns:
        [B, C, height, width] float32 in [0, 1].
    """
    (above, below), (down, inside_rows) = grid.rows
    (left, right), (across, inside_columns) = grid.columns
    channels, height, width = images.shape[1], above.shape[1], images.shape[3]

    def lines(pixels: Tensor) -> Tensor:
        return images.gather(2, pixels[:, None, :, None].expand(-1, channels, -1, width)).float()

    mixed = torch.lerp(lines(above), lines(below), down[:, None, :, None])

    def points(pixels: Tensor) -> Tensor:
        return mixed.gather(3, pixels[:, None, None, :].expand(-1, channels, height, -1))

    cut = torch.lerp(points(left), points(right), across[:, None, None, :])
    inside: Tensor = inside_rows[:, None, :, None] * inside_columns[:, None, None, :]
    return (cut / 255).clamp_(0, 1) * inside


def crop_labels(labels: Sequence[LabelMap], windows: Sequence[Window], output: Size) -> Tensor:
    """Cut the same windows out of label maps [H, W]: nearest pixel, IGNORE beside the image.

    Returns:
        [B, height, width] uint8.
    """
    cut = np.full((len(labels), *output), IGNORE, np.uint8)
    for place, label, window in zip(cut, labels, windows, strict=True):
        taken, inside = _taken(label, window, output)
        place[np.ix_(*inside)] = taken
    return torch.from_numpy(cut)


def class_counts(label: LabelMap, window: Window, output: Size) -> npt.NDArray[np.int64]:
    """Count the pixels [256] of each value that :func:`crop_labels` would cut out; beside the label map is IGNORE."""
    taken, _ = _taken(label, window, output)
    counts = np.bincount(taken.ravel(), minlength=IGNORE + 1)
    counts[IGNORE] += output[0] * output[1] - taken.size
    return counts


_Floats = npt.NDArray[np.float64]


def _taken(label: LabelMap, window: Window, output: Size) -> tuple[LabelMap, list[npt.NDArray[np.bool_]]]:
    """Return the pixels of a crop within the label map, and which of its rows and columns they are."""
    size = [(label.shape[0], label.shape[1])]
    taken, inside = label, []
    for axis, centres in enumerate(_centres([window], output)):
        inside.append(_inside(centres, size, axis)[0])
        taken = taken.take(_nearest(centres, size, axis)[0, inside[-1]], axis)
    return taken, inside


def _axis(centres: _Floats, sizes: Sequence[Size], axis: int) -> Axis:
    """Return where centres [B, n] lie between the pixels of their images."""
    kept = _kept(centres, sizes, axis) - 0.5
    before = np.floor(kept)
    after = np.minimum(before + 1, _extent(sizes, axis) - 1)
    weights = np.stack([kept - before, _inside(centres, sizes, axis)]).astype(np.float32)
    return Axis(torch.from_numpy(np.stack([before, after]).astype(np.int64)), torch.from_numpy(weights))


def _centres(windows: Sequence[Window], output: Size) -> tuple[_Floats, _Floats]:
    """Return the centres of the output's rows [B, h] and columns [B, w] in each image; a pixel i is [i, i + 1)."""
    table = np.array([w[:4] for w in windows], np.float64)
    steps = [(np.arange(n) + 0.5) / n for n in output]
    rows = table[:, 0:1] + steps[0] * table[:, 2:3]
    columns = table[:, 1:2] + steps[1] * table[:, 3:4]
    flipped = np.array([w.flip for w in windows], bool)
    columns[flipped] = columns[flipped, ::-1]
    return rows, columns


def _extent(sizes: Sequence[Size], axis: int) -> _Floats:
    return np.array([s[axis] for s in sizes], np.float64)[:, None]


def _inside(centres: _Floats, sizes: Sequence[Size], axis: int) -> npt.NDArray[np.bool_]:
    return (centres >= 0) & (centres < _extent(sizes, axis))


def _nearest(centres: _Floats, sizes: Sequence[Size], axis: int) -> npt.NDArray[np.int64]:
    return np.clip(np.floor(centres), 0, _extent(sizes, axis) - 1).astype(np.int64)


def _kept(centres: _Floats, sizes: Sequence[Size], axis: int) -> _Floats:
    """Move centres to the nearest place at which bilinear sampling sees pixels of the image alone."""
    return np.clip(centres, 0.5, _extent(sizes, axis) - 0.5)
