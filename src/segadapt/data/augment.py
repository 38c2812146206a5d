"""Augmentation: windows drawn per sample on the CPU, cut out per batch on the device.

A :class:`Window` is a rectangle of the source image. Drawing one costs microseconds, so it happens
beside the decoding; cutting and scaling happen for the whole batch at once on the device of the network.
Images and labels are sampled at the same places, images bilinearly and labels by the nearest
pixel, with pixel centres at half integers. This is the geometry of scaling the image first and
slicing a crop out of it afterwards, without ever making the scaled image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
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


def pad_batch(arrays: Sequence[npt.NDArray[np.uint8]]) -> tuple[Tensor, list[Size]]:
    """Put images or label maps of any sizes into one uint8 tensor, with zeros at the bottom and the right.

    Args:
        arrays: all [H, W, C] or all [H, W].

    Returns:
        [B, C, H, W] or [B, H, W], and the (height, width) of each array.
    """
    sizes = [(int(a.shape[0]), int(a.shape[1])) for a in arrays]
    height, width = max(s[0] for s in sizes), max(s[1] for s in sizes)
    batch = np.zeros((len(arrays), height, width, *arrays[0].shape[2:]), np.uint8)
    for place, array, (h, w) in zip(batch, arrays, sizes, strict=True):
        place[:h, :w] = array
    tensor = torch.from_numpy(batch)
    return (tensor.permute(0, 3, 1, 2), sizes) if tensor.ndim == 4 else (tensor, sizes)


def crop_batch(images: Tensor, windows: Sequence[Window], sizes: Sequence[Size], output: Size) -> Tensor:
    """Cut one window out of each image and scale it, bilinearly and without anti-aliasing.

    Equals ``cv2.resize(image, INTER_LINEAR)`` of the whole image followed by slicing. Places
    beside the image are zero; at its border, bilinear sampling sees its own border pixels and not the
    padding of the batch.

    Args:
        images: [B, C, H, W] uint8 as from :func:`pad_batch`.
        windows: one window per image, in pixels of the image.
        sizes: (height, width) of each image within the batch.
        output: (height, width) of the result.

    Returns:
        [B, C, height, width] float32 in [0, 1].
    """
    rows, columns = _centres(windows, output)
    inside = _on(images.device, _inside(rows, sizes, 0)[:, :, None] & _inside(columns, sizes, 1)[:, None, :])
    rows, columns = _kept(rows, sizes, 0), _kept(columns, sizes, 1)
    # Only the part of the batch that some window touches is made floating point.
    (top, bottom), (left, right) = _span(rows), _span(columns)
    images = images[:, :, top:bottom, left:right]
    y = _on(images.device, _normalised(rows - top, bottom - top))[:, :, None]
    x = _on(images.device, _normalised(columns - left, right - left))[:, None, :]
    grid = torch.stack([x.expand(-1, output[0], -1), y.expand(-1, -1, output[1])], -1)
    cut = F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
    return (cut / 255).clamp_(0, 1) * inside[:, None]


def crop_labels(labels: Tensor, windows: Sequence[Window], sizes: Sequence[Size], output: Size) -> Tensor:
    """Cut the same windows out of label maps: nearest pixel, IGNORE beside the image.

    Args:
        labels: [B, H, W] uint8.
        windows, sizes, output: as for :func:`crop_batch`.

    Returns:
        [B, height, width] int64.
    """
    rows, columns = _centres(windows, output)
    inside = _on(labels.device, _inside(rows, sizes, 0)[:, :, None] & _inside(columns, sizes, 1)[:, None, :])
    y = _on(labels.device, _nearest(rows, sizes, 0))[:, :, None]
    x = _on(labels.device, _nearest(columns, sizes, 1))[:, None, :]
    sample = torch.arange(len(labels), device=labels.device)[:, None, None]
    return labels[sample, y, x].long().masked_fill(~inside, IGNORE)


def class_counts(label: LabelMap, window: Window, output: Size) -> npt.NDArray[np.int64]:
    """Count the pixels [256] of each value that :func:`crop_labels` would cut out; beside the label map is IGNORE."""
    size = [(label.shape[0], label.shape[1])]
    taken = label
    for axis, centres in enumerate(_centres([window], output)):
        taken = taken.take(_nearest(centres, size, axis)[_inside(centres, size, axis)], axis)
    counts = np.bincount(taken.ravel(), minlength=IGNORE + 1)
    counts[IGNORE] += output[0] * output[1] - taken.size
    return counts


_Floats = npt.NDArray[np.float64]


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


def _span(centres: _Floats) -> tuple[int, int]:
    """Return the first and last (exclusive) pixel that bilinear sampling at the centres touches in any image."""
    return math.floor(centres.min() - 0.5), math.ceil(centres.max() + 0.5)


def _normalised(centres: _Floats, full: int) -> npt.NDArray[np.float32]:
    """Return centres on an axis of ``full`` pixels in the coordinates of ``grid_sample``, -1 .. 1."""
    return np.asarray(2 * centres / full - 1, np.float32)


def _on(device: torch.device, array: npt.NDArray[np.generic]) -> Tensor:
    return sent(torch.from_numpy(np.ascontiguousarray(array)), device)
