"""Class probabilities from a network: whole images or sliding windows, several scales, mirrored views.

Everything goes through one compact form, *scores*: the logarithm of the mean probability on the
network's own coarse grid. Enlarging scores bilinearly and taking the softmax gives the
probabilities at any size. With one scale and no mirroring the result is exactly the softmax of the
enlarged logits: scores and logits differ only by one constant per grid cell, an enlarged constant is
still the same for all classes of a pixel, and the softmax removes it. Pseudo labels are stored as
compact scores, some 60 times smaller than full-size probabilities.

Windows that overlap are averaged on that grid too, unless ``windows_at`` is ``pixels``: where a window ends, enlarging
the average mixes cells that one window saw with cells that two saw, and enlarging each window first does not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import chain
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from segadapt.core.faults import Ways, in_words
from segadapt.core.settings import Settings
from segadapt.core.types import Size
from segadapt.models.segmenter import Segmenter
from segadapt.pieces.confidence import labels_and_confidence
from segadapt.pieces.resizing import upsample

Positive = Annotated[int, Field(gt=0)]


class InferenceConfig(Settings):
    """Settings of prediction.

    Attributes:
        scales: multiples of the working size at which the network sees the image, each above 0.
        flip: also show every view mirrored left to right.
        window: height and width in pixels of sliding windows; null shows whole images. An image
            smaller than the window is shown whole.
        overlap: least share of a window that the next one covers again, in [0, 1).
        windows_at: overlapping windows are averaged on the network's ``grid`` and enlarged together, or each is
            enlarged to ``pixels`` first, as the code of HRDA does. Probabilities along the borders of windows
            differ by up to 0.05, and 0.04 to 0.33 % of the labels; scores of ``pixels`` have the size of the
            image, 159 MB for 19 classes of 2048x1024.
        size: height and width in pixels to which images are resized first; null keeps their size.
        average: average ``probabilities`` or ``logits`` over views and overlapping windows.
        align_corners: convention of the bilinear resizing of class scores. ``false`` (corner edges
            coincide) is the convention of current networks; ``true`` (corner centres coincide)
            reproduces numbers of networks from before torch 0.4, which had no other convention.
    """

    scales: tuple[Annotated[float, Field(gt=0)], ...] = Field(default=(1.0,), min_length=1)
    flip: bool = False
    window: tuple[Positive, Positive] | None = None
    overlap: float = Field(default=1 / 3, ge=0, lt=1)
    windows_at: Literal["grid", "pixels"] = "grid"
    size: tuple[Positive, Positive] | None = None
    average: Literal["probabilities", "logits"] = "probabilities"
    align_corners: bool = False

    @model_validator(mode="after")
    def _no_scale_twice(self) -> InferenceConfig:
        if len(set(self.scales)) != len(self.scales):
            raise ValueError(f"scales names a scale twice: {self.scales}")
        return self


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Run ``model`` in eval mode and restore the training flag of every submodule afterwards.

    Submodules are restored one by one, because a frozen normalisation layer inside a training network
    is in eval mode and must stay in it.
    """
    flags = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in flags:
            module.training = training


def scores(model: Segmenter, images: Tensor, config: InferenceConfig) -> Tensor:
    """Compute the log of the mean class probability on the network's own grid.

    Args:
        model: the network; its training flags are restored afterwards.
        images: [B, 3, H, W] RGB in [0, 1], on the model's device.
        config: see :class:`InferenceConfig`.

    Returns:
        [B, K, h, w] float32, at most 0; ``exp`` sums to 1 over the classes. (h, w) is the grid of
        the network's logits for the image at scale 1, or of its pixels if windows are averaged at pixels;
        other scales are interpolated to it. The tensor may be a constant in a graph. Enlarge it with :func:`upsample`.

    Example:
        >>> compact = scores(model, images, InferenceConfig(scales=(0.75, 1.0), flip=True))
        >>> probabilities = upsample(compact, (1024, 2048)).softmax(1)
    """
    # Cloned, because autograd refuses to save an inference tensor for a backward pass.
    # Cloned, because autograd refuses to save an inference tensor for a backward pass.
    with _in_words(model, images, config):
        with evaluation_mode(model), torch.inference_mode():
            result = _scores(model, images, config)
        return result.clone()


def predict_labels(model: Segmenter, images: Tensor, size: Size, config: InferenceConfig) -> tuple[Tensor, Tensor]:
    """Predict the most probable class of every pixel, and its probability.

    Only the enlarged scores of one image exist at a time, and their softmax never does.

    Args:
        model: the network; its training flags are restored afterwards.
        images: [B, 3, h, w] RGB in [0, 1], on the model's device.
        size: (H, W) of the result in pixels.
        config: see :class:`InferenceConfig`.

    Returns:
        labels [B, H, W] uint8 train ids, and confidence [B, H, W] float32 in (0, 1].

    Example:
        >>> labels, confidence = predict_labels(model, images, (1024, 2048), InferenceConfig())
        >>> labels[confidence < 0.9] = 255  # ignore uncertain pixels
    """
    with _in_words(model, images, config):
        return labels_and_confidence(scores(model, images, config), size, config.align_corners, torch.uint8)


def _in_words(model: Segmenter, images: Tensor, config: InferenceConfig) -> AbstractContextManager[None]:
    """Name sizes and settings where memory runs out, or where images are too small for the network."""
    facts = {
        "network": model.architecture.get("name"),
        "image": tuple(images.shape[-2:]),
        "window": config.window or "none",
        "scales": list(config.scales),
    }
    return in_words("prediction", facts, _WAYS)


_WAYS = Ways(
    memory="a window (--window 512x1024; in a run evaluation.window and STAGE.inference.window), fewer scales, or a "
    "smaller size (--size, data.target.size, data.test.size)",
    size="a larger --size, scale or window",
)


# ---- views ----


def _scores(model: Segmenter, images: Tensor, config: InferenceConfig) -> Tensor:
    """Average over scales and mirrored views, on the grid of scale 1."""
    if config.size is not None:
        images = resize_images(images, config.size)
    full = _size(images)
    grid: Size | None = None
    total: Tensor | None = None
    # Scale 1, or the scale nearest to it, goes first and decides the grid.
    for scale in sorted(config.scales, key=lambda s: abs(math.log(s))):
        shown = (max(1, round(full[0] * scale)), max(1, round(full[1] * scale)))
        scaled = resize_images(images, shown)
        for mirrored in (False, True) if config.flip else (False,):
            view = _view(model, scaled.flip(3) if mirrored else scaled, config)
            view = view.flip(3) if mirrored else view
            if grid is None:
                grid = _grid(_size(view), shown, full, config.align_corners)
            view = _averaged_form(upsample(view, grid, config.align_corners), config)
            total = view if total is None else _accumulated(total, view, config)
    assert total is not None
    views = len(config.scales) * (2 if config.flip else 1)
    return (total / views if config.average == "logits" else total).log_softmax(1)


def _averaged_form(logits: Tensor, config: InferenceConfig) -> Tensor:
    """Return the logits, or log probabilities if probabilities are averaged."""
    return logits if config.average == "logits" else logits.log_softmax(1)


def _accumulated(total: Tensor, more: Tensor, config: InferenceConfig) -> Tensor:
    """Add logits, or probabilities given by their logs; no probability is rounded to zero."""
    return total + more if config.average == "logits" else torch.logaddexp(total, more)


def _view(model: Segmenter, images: Tensor, config: InferenceConfig) -> Tensor:
    """Compute logits (or values with the same softmax) of one view of the images on the network's grid."""
    height, width = _size(images)
    window = (height, width) if config.window is None else (min(config.window[0], height), min(config.window[1], width))
    if window == (height, width):
        logits: Tensor = model(images).logits
        return logits.float()
    return (_sliding if config.windows_at == "grid" else _sliding_at_pixels)(model, images, window, config)


# ---- sliding windows ----


def _sliding(model: Segmenter, images: Tensor, window: Size, config: InferenceConfig) -> Tensor:
    """Average over overlapping windows, on one grid with the cells of the windows' outputs.

    Every window's output is sampled at those cells of the common grid whose centres lie in the
    window. Window positions are multiples of the network's stride wherever possible, so for the
    usual sizes the sampling is a copy.
    """
    full, places = _size(images), _places(model, images, window, config)
    outputs = (logits.float() for logits in model.window_logits(images, window, places))
    first = next(outputs)
    grid = _grid(_size(first), window, full, config.align_corners)
    ys, xs = (_centres(grid[a], full[a], config.align_corners) for a in (0, 1))
    total = first.new_full((*first.shape[:2], *grid), 0.0 if config.average == "logits" else -math.inf)
    count = first.new_zeros(grid)
    for (top, left), logits in zip(places, chain((first,), outputs), strict=True):
        rows, cols = _inside(ys, top, window[0], full[0]), _inside(xs, left, window[1], full[1])
        sampled = _sample(logits, ys[rows] - top, xs[cols] - left, window, config.align_corners)
        total[..., rows, cols] = _accumulated(total[..., rows, cols], _averaged_form(sampled, config), config)
        count[rows, cols] += 1
    return total / count if config.average == "logits" else total - count.log()


def _sliding_at_pixels(model: Segmenter, images: Tensor, window: Size, config: InferenceConfig) -> Tensor:
    """Average over overlapping windows, each enlarged to its pixels: [B, K, H, W]."""
    full, places = _size(images), _places(model, images, window, config)
    total = images.new_full((len(images), model.classes, *full), 0.0 if config.average == "logits" else -math.inf)
    count = images.new_zeros(full)
    for (top, left), logits in zip(places, model.window_logits(images, window, places), strict=True):
        enlarged = _averaged_form(upsample(logits.float(), window, config.align_corners), config)
        place = (..., slice(top, top + window[0]), slice(left, left + window[1]))
        total[place] = _accumulated(total[place], enlarged, config)
        count[place] += 1
    return total / count if config.average == "logits" else total - count.log()


def _places(model: Segmenter, images: Tensor, window: Size, config: InferenceConfig) -> list[Size]:
    """Return (top, left) of the windows that cover the images."""
    full = _size(images)
    tops, lefts = (window_positions(full[a], window[a], config.overlap, model.stride) for a in (0, 1))
    return [(top, left) for top in tops for left in lefts]


def window_positions(length: int, window: int, overlap: float, stride: int = 1) -> list[int]:
    """Return the starts of windows that cover ``[0, length)``; the last window ends exactly at ``length``.

    The step is ``window * (1 - overlap)`` rounded down to a multiple of ``stride``, at least one
    ``stride`` (or, for windows smaller than that, one window).
    """
    if window >= length:
        return [0]
    step = int(window * (1 - overlap)) // stride * stride
    step = step or min(stride, window)
    return [*range(0, length - window, step), length - window]


def _grid(cells: Size, shown: Size, full: Size, align_corners: bool) -> Size:
    """Return the grid (rows, columns) of ``full`` pixels if ``shown`` pixels have the grid ``cells``."""

    def along(axis: int) -> int:
        if align_corners and shown[axis] > 1:
            return max(1, round((full[axis] - 1) * (cells[axis] - 1) / (shown[axis] - 1)) + 1)
        return max(1, round(full[axis] * cells[axis] / shown[axis]))

    return along(0), along(1)


def _size(images: Tensor) -> Size:
    return images.shape[-2], images.shape[-1]


def _centres(cells: int, pixels: int, align_corners: bool) -> Tensor:
    """Return the position in pixels of every cell's centre; on the CPU, so that reading it waits for no device."""
    index = torch.arange(cells, dtype=torch.float64)
    if align_corners and cells > 1:
        return index * (pixels - 1) / (cells - 1)
    return (index + 0.5) * pixels / cells - 0.5


def _inside(centres: Tensor, start: int, window: int, length: int) -> slice:
    """Return the cells with centres in pixels ``[start, start + window)``; border windows take all cells beyond."""
    low = -math.inf if start == 0 else start - 0.5
    high = math.inf if start + window >= length else start + window - 0.5
    hit = ((centres >= low) & (centres < high)).nonzero()
    if not len(hit):
        return slice(0, 0)
    return slice(int(hit[0]), int(hit[-1]) + 1)


def _sample(logits: Tensor, ys: Tensor, xs: Tensor, window: Size, align_corners: bool) -> Tensor:
    """Sample a window's output [B, K, h, w] bilinearly at pixel positions ``ys`` x ``xs`` of the window."""

    def normalised(position: Tensor, pixels: int) -> Tensor:
        scaled = 2 * position / max(1, pixels - 1) if align_corners else (2 * position + 1) / pixels
        return (scaled - 1).float()

    places = torch.meshgrid(normalised(xs, window[1]), normalised(ys, window[0]), indexing="xy")
    grid = torch.stack(places, dim=-1).to(logits.device).expand(len(logits), -1, -1, -1)
    return F.grid_sample(logits, grid, mode="bilinear", padding_mode="border", align_corners=align_corners)


def resize_images(images: Tensor, size: Size) -> Tensor:
    """Resize images [B, 3, H, W] to ``size`` bilinearly, with a low-pass filter when they shrink."""
    if images.shape[-2:] == size:
        return images
    shrinks = size[0] < images.shape[-2] or size[1] < images.shape[-1]
    return F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=shrinks)
