"""Puts raw samples, each of its own size, into one batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from segadapt.core.types import Size
from segadapt.data.augment import Grid, Window, crop_labels, grid_of, pad_batch, regions
from segadapt.labels import LabelMap


class Raw(NamedTuple):
    """One sample as it was read, with the choices and the random numbers that belong to it."""

    image: npt.NDArray[np.uint8]
    label: LabelMap
    window: Window
    crop: Size
    domain: int
    jitter: float
    draws: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float16] | None
    strong_draws: npt.NDArray[np.float32]
    part: int
    extra_draws: npt.NDArray[np.float32]
    colours: npt.NDArray[np.float32] | None
    id: str
    damaged: tuple[str, ...]


class Extra(NamedTuple):
    """Samples of a batch that come from one part, and the numbers [N, n] for its further augmentations."""

    part: int
    samples: list[int]
    draws: Tensor


class Recoloured(NamedTuple):
    """Samples of a batch that take the colours of other images, and the statistics [N, 2, 2, C] of both images."""

    samples: list[int]
    statistics: Tensor


class Collated(NamedTuple):
    """A batch of samples on the CPU.

    Attributes:
        images: [B, C, H, W] uint8: the parts that crops touch, or the whole images, zeros beside smaller ones.
        grid: where the crops lie in ``images``.
        labels: [B, h, w] uint8, cropped.
    """

    images: Tensor
    grid: Grid
    labels: Tensor
    windows: list[Window]
    sizes: list[Size]
    domain: Tensor
    jitter: Tensor
    draws: Tensor
    scores: Tensor | None
    strong_draws: npt.NDArray[np.float32]
    extra: list[Extra]
    recoloured: Recoloured | None
    ids: list[str]
    damaged: list[str]


def collate(raws: list[Raw], whole: bool = False) -> Collated:
    """Put samples into one batch; smaller images are padded at the bottom and the right.

    Runs in the decoding process, so that only what the step needs goes to the training process.

    Args:
        raws: the samples.
        whole: keep the whole images, for methods that need them; else the parts that the crops touch.
    """
    crops = {raw.crop for raw in raws}
    crop = crops.pop() if len(crops) == 1 else (max(c[0] for c in crops), max(c[1] for c in crops))
    windows = [_widened(raw.window, raw.crop, crop) for raw in raws]
    sizes = [(raw.image.shape[0], raw.image.shape[1]) for raw in raws]
    pictures, grid = [raw.image for raw in raws], grid_of(windows, sizes, crop)
    if not whole:
        parts, grid = regions(grid)
        pictures = [picture[part] for picture, part in zip(pictures, parts, strict=True)]
    return Collated(
        images=pad_batch(pictures),
        grid=grid,
        labels=crop_labels([raw.label for raw in raws], windows, crop),
        windows=windows,
        sizes=sizes,
        domain=torch.tensor([raw.domain for raw in raws]),
        jitter=torch.tensor([raw.jitter for raw in raws]),
        draws=torch.from_numpy(np.stack([raw.draws for raw in raws])),
        scores=_stacked_scores([raw.scores for raw in raws]),
        strong_draws=np.stack([raw.strong_draws for raw in raws]),
        extra=_extra(raws),
        recoloured=_recoloured(raws),
        ids=[raw.id for raw in raws],
        damaged=[d for raw in raws for d in raw.damaged],
    )


def size_in_bytes(value: object) -> int:
    """Return the bytes of all arrays and tensors in a batch, which a decoding process hands over in shared memory."""
    if isinstance(value, Tensor):
        return value.nbytes
    if isinstance(value, np.ndarray):
        return value.nbytes
    return sum(map(size_in_bytes, value)) if isinstance(value, (tuple, list)) else 0


def _extra(raws: Sequence[Raw]) -> list[Extra]:
    found = []
    for part in sorted({raw.part for raw in raws}):
        samples = [i for i, raw in enumerate(raws) if raw.part == part]
        found.append(Extra(part, samples, torch.from_numpy(np.stack([raws[i].extra_draws for i in samples]))))
    return found


def _recoloured(raws: Sequence[Raw]) -> Recoloured | None:
    found = {i: raw.colours for i, raw in enumerate(raws) if raw.colours is not None}
    return Recoloured(list(found), torch.from_numpy(np.stack(list(found.values())))) if found else None


def _stacked_scores(maps: Sequence[npt.NDArray[np.float16] | None]) -> Tensor | None:
    """Stack score maps into one tensor [B, K, h, w]; zero for samples without one.

    Only places relative to the image matter, so maps of other shapes are enlarged to the largest.
    """
    given = [m for m in maps if m is not None]
    if not given:
        return None
    size = (max(m.shape[1] for m in given), max(m.shape[2] for m in given))
    stacked = torch.zeros((len(maps), given[0].shape[0], *size), dtype=torch.float16)
    for place, found in zip(stacked, maps, strict=True):
        if found is not None:
            scores = torch.from_numpy(found)
            if scores.shape[1:] != size:
                scores = F.interpolate(scores[None].float(), size, mode="bilinear")[0].half()
            place.copy_(scores)
    return stacked


def _widened(window: Window, crop: Size, output: Size) -> Window:
    """Return the window of a larger output at the same scale; images of several sizes are padded, not stretched."""
    if crop == output:
        return window
    height, width = window.height * output[0] / crop[0], window.width * output[1] / crop[1]
    left = window.left + window.width - width if window.flip else window.left  # mirrored, it grows to the left
    return Window(window.top, left, height, width, window.flip)
