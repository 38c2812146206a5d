"""The strong view of a training crop: RandAugment and cut-out on whole batches, with exact geometry.

Cubuk et al., *RandAugment*, 2020, in the selection of operations and magnitudes that
semi-supervised learning uses (FixMatch) and ProDA took over. Random numbers are drawn on the CPU,
once per sample. The geometric operations of a sample are composed into one affine map, so
pixels are resampled once, and the same map carries labels or feature maps of any resolution along.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Annotated, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from segadapt.core.moving import sent
from segadapt.core.settings import Settings, Shown
from segadapt.data.photometric import (
    adjust_brightness,
    adjust_contrast,
    adjust_saturation,
    color_jitter,
    gaussian_blur,
)

Operation = Literal[
    "autocontrast",
    "brightness",
    "color",
    "contrast",
    "equalize",
    "identity",
    "posterize",
    "rotate",
    "sharpness",
    "shear_x",
    "shear_y",
    "solarize",
    "translate_x",
    "translate_y",
]
OPERATIONS: tuple[Operation, ...] = get_args(Operation)
GREY = 127 / 255
"""The grey of places outside the crop and of cut-outs; no loss looks there."""
_LEVELS = 10
_STEP_DRAWS = 4
_NOISE_DRAWS = 6

_Matrix = npt.NDArray[np.float64]


class StrongAugmentation(Settings):
    """The changes that may turn a weak view into a strong one.

    Attributes:
        operations: operations that may be drawn (default: all, FixMatch's selection, as in ProDA); [] for none.
        count: operations drawn per sample, with replacement (RandAugment's N; FixMatch: 2).
        probability: probability that a drawn operation is applied, in [0, 1] (FixMatch: 0.5); its magnitude is 1 to
            9 tenths of the largest.
        cutout: side of the grey square as a share of the shorter side of the crop, in [0, 1]; 0 for none.
        flip: mirror half of the samples.
        blur: standard deviation in pixels of a Gaussian blur of half of the samples; 0 for none.
        jitter: strength of the colour changes of half of the samples, in [0, 1], before everything else; 0 for none.
    """

    operations: Annotated[tuple[Operation, ...], Shown("list of operations")] = OPERATIONS
    count: int = Field(default=2, ge=0)
    probability: float = Field(default=0.5, ge=0, le=1)
    cutout: float = Field(default=1 / 3, ge=0, le=1)
    flip: bool = True
    blur: float = Field(default=0.0, ge=0)
    jitter: float = Field(default=0.0, ge=0, le=1)

    @property
    def numbers(self) -> int:
        """The count of uniform numbers that one sample needs."""
        return self._last_step + (_NOISE_DRAWS if self.blur or self.jitter else 0)

    @property
    def _last_step(self) -> int:
        return 3 + _STEP_DRAWS * self.count


class Strong(NamedTuple):
    """Strong views and how they lie in the weak ones.

    Attributes:
        images: [B, C, h, w].
        theta: [B, 2, 3] affine map from places of the strong view to places of the weak one, in
            coordinates -1 .. 1 from edge to edge (``affine_grid`` with ``align_corners=False``).
        cutout: [B, 4] top, left, bottom, right of the square without content, as shares of height and width.
    """

    images: Tensor
    theta: Tensor
    cutout: Tensor


class _Step(NamedTuple):
    operation: Operation
    level: float
    sign: float


def strong_view(images: Tensor, draws: npt.NDArray[np.float32], options: StrongAugmentation) -> Strong:
    """Make strong views of weak ones.

    Blur and jitter act first, then the photometric operations in the order drawn, then the geometric
    ones, then the cut-out.

    Args:
        images: [B, C, h, w] in [0, 1].
        draws: [B, ``options.numbers``] uniform in [0, 1).
        options: see :class:`StrongAugmentation`.
    """
    height, width = images.shape[-2:]
    plans = [_steps(row[3 : options._last_step], options) for row in draws]
    x = _noisy(images, torch.from_numpy(draws[:, options._last_step :]), options)
    for place in range(options.count):
        x = _photometric(x, [plan[place] for plan in plans])
    flips = (draws[:, 0] < 0.5) & options.flip
    matrices = [_geometry(plan, flip, height, width) for plan, flip in zip(plans, flips.tolist(), strict=True)]
    theta = torch.from_numpy(np.stack([_normalised(m, height, width) for m in matrices]).astype(np.float32))
    cutout = torch.from_numpy(np.stack([_square(row[1], row[2], options.cutout, height, width) for row in draws]))
    theta, cutout = sent(theta, x.device), sent(cutout, x.device, torch.float32)
    moved = warp(x - GREY, theta, "bilinear") + GREY
    return Strong(torch.where(in_cutout(cutout, height, width)[:, None], GREY, moved), theta, cutout)


def warp(maps: Tensor, theta: Tensor, mode: Literal["bilinear", "nearest"]) -> Tensor:
    """Move maps [B, C, h, w] of the weak view into the strong view; zero beyond the edge."""
    grid = F.affine_grid(theta.to(maps.dtype), list(maps.shape), align_corners=False)
    return F.grid_sample(maps, grid, mode=mode, padding_mode="zeros", align_corners=False)


def in_cutout(cutout: Tensor, height: int, width: int) -> Tensor:
    """Return the pixels [B, height, width] bool whose centre lies in the cut-out square."""
    y = (torch.arange(height, device=cutout.device) + 0.5) / height
    x = (torch.arange(width, device=cutout.device) + 0.5) / width
    rows = (y >= cutout[:, 0:1]) & (y < cutout[:, 2:3])
    columns = (x >= cutout[:, 1:2]) & (x < cutout[:, 3:4])
    return rows[:, :, None] & columns[:, None, :]


def _steps(draws: npt.NDArray[np.float32], options: StrongAugmentation) -> list[_Step]:
    """Read one sample's numbers as operations; an operation that is not applied becomes the identity."""
    steps = []
    for which, magnitude, apply, sign in draws.reshape(options.count, _STEP_DRAWS).tolist():
        operation = options.operations[int(which * len(options.operations))] if options.operations else "identity"
        if apply >= options.probability:
            operation = "identity"
        level = (1 + int(magnitude * (_LEVELS - 1))) / _LEVELS
        steps.append(_Step(operation, level, -1.0 if sign < 0.5 else 1.0))
    return steps


# ---- geometry: matrices [3, 3] from pixels of the output to pixels of the input, a pixel i being [i, i + 1) ----

_SHEAR = 0.3
_TRANSLATE = 0.3
_ROTATE = math.radians(30)


def _geometry(plan: Sequence[_Step], flip: bool, height: int, width: int) -> _Matrix:
    matrix = np.array([[-1, 0, width], [0, 1, 0], [0, 0, 1]], np.float64) if flip else np.eye(3)
    for step in plan:
        matrix = matrix @ _affine(step, height, width)
    return np.asarray(matrix, np.float64)


def _affine(step: _Step, height: int, width: int) -> _Matrix:
    amount = step.level * step.sign
    matrix = np.eye(3)
    if step.operation == "shear_x":
        matrix[0, 1] = _SHEAR * amount
    elif step.operation == "shear_y":
        matrix[1, 0] = _SHEAR * amount
    elif step.operation == "translate_x":
        matrix[0, 2] = _TRANSLATE * amount * width
    elif step.operation == "translate_y":
        matrix[1, 2] = _TRANSLATE * amount * height
    elif step.operation == "rotate":
        c, s = math.cos(_ROTATE * amount), math.sin(_ROTATE * amount)
        to_centre = np.array([[1, 0, -width / 2], [0, 1, -height / 2], [0, 0, 1]])
        turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        matrix = np.linalg.inv(to_centre) @ turn @ to_centre
    return matrix


def _normalised(matrix: _Matrix, height: int, width: int) -> _Matrix:
    to_pixels = np.array([[width / 2, 0, width / 2], [0, height / 2, height / 2], [0, 0, 1]])
    return np.asarray((np.linalg.inv(to_pixels) @ matrix @ to_pixels)[:2], np.float64)


def _square(x: float, y: float, share: float, height: int, width: int) -> _Matrix:
    """Return (top, left, bottom, right), as shares, of a square centred in the crop and cut off at its borders."""
    half = int(min(height, width) * share) / 2
    centre_x, centre_y = x * width, y * height
    top, bottom = max(0.0, centre_y - half) / height, min(height, centre_y + half) / height
    left, right = max(0.0, centre_x - half) / width, min(width, centre_x + half) / width
    return np.array([top, left, bottom, right])


# ---- colours: each takes [B, C, h, w] in [0, 1] and a level [B, 1, 1, 1] of 0.1 to 0.9 ----


def _noisy(images: Tensor, draws: Tensor, options: StrongAugmentation) -> Tensor:
    """Blur half of the samples, and change the colours of half of them."""
    if options.blur:
        images = gaussian_blur(images, torch.where(draws[:, 0] < 0.5, options.blur, 0.0))
    if options.jitter:
        strength = torch.where(draws[:, 1] < 0.5, options.jitter, 0.0)
        images = color_jitter(images, strength, draws[:, 2:], hue_share=1.0)
    return images


def _photometric(images: Tensor, steps: Sequence[_Step]) -> Tensor:
    """Apply every sample's operation to its own image; samples that share an operation are treated together."""
    result = images
    for operation, function in _COLOURS.items():
        members = [i for i, step in enumerate(steps) if step.operation == operation]
        if members:
            level = sent(torch.tensor([steps[i].level for i in members]), images.device, images.dtype)
            places = sent(torch.tensor(members), images.device)
            changed = function(images[places], level[:, None, None, None])
            result = result.index_copy(0, places, changed)
    return result


def _enhancement(level: Tensor) -> Tensor:
    """Return the factor of an enhancement; 1 would change nothing, so strong levels are the mild ones."""
    return 0.05 + 0.9 * level


def _autocontrast(images: Tensor, level: Tensor) -> Tensor:
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    span = high - low
    return torch.where(span > 0, (images - low) / span.clamp(min=1e-6), images)


def _equalize(images: Tensor, level: Tensor) -> Tensor:
    """Equalise the histogram of every channel over 256 values."""
    batch, channels = images.shape[:2]
    values = (images * 255).round().long().reshape(batch * channels, -1)
    counts = torch.zeros(batch * channels, 256, dtype=torch.long, device=images.device)
    counts.scatter_add_(1, values, torch.ones_like(values))
    occupied = counts > 0
    last = 255 - occupied.flip(1).int().argmax(1, keepdim=True)
    step = (values.shape[1] - counts.gather(1, last)) // 255
    before = counts.cumsum(1) - counts
    table = ((before + step // 2) // step.clamp(min=1)).clamp(max=255)
    identity = torch.arange(256, device=images.device).expand_as(table)
    table = torch.where((step > 0) & (occupied.sum(1, keepdim=True) > 1), table, identity)
    return (table.gather(1, values).to(images.dtype) / 255).reshape(images.shape)


def _posterize(images: Tensor, level: Tensor) -> Tensor:
    """Keep 4 to 7 of the 8 bits."""
    dropped = 2.0 ** (8 - torch.floor(4 + 4 * level + 1e-4))
    return torch.floor((images * 255).round() / dropped) * dropped / 255


def _sharpness(images: Tensor, level: Tensor) -> Tensor:
    """Move towards a smoothed image; the outermost pixels stay as they are."""
    kernel = torch.ones(3, 3, device=images.device, dtype=images.dtype)
    kernel[1, 1:2].fill_(5)
    bands = images.shape[1]
    kernel = (kernel / kernel.sum()).expand(bands, 1, 3, 3)
    smooth = images.clone()
    smooth[..., 1:-1, 1:-1] = F.conv2d(images, kernel, groups=bands)
    return (smooth + _enhancement(level) * (images - smooth)).clamp(0, 1)


def _solarize(images: Tensor, level: Tensor) -> Tensor:
    """Invert values above a threshold that falls with the level."""
    threshold = torch.ceil(256 * (1 - level) - 1e-4) / 255
    return torch.where(images >= threshold - 1e-6, 1 - images, images)


_COLOURS: dict[Operation, Callable[[Tensor, Tensor], Tensor]] = {
    "autocontrast": _autocontrast,
    "brightness": lambda images, level: adjust_brightness(images, _enhancement(level)),
    "color": lambda images, level: adjust_saturation(images, _enhancement(level)),
    "contrast": lambda images, level: adjust_contrast(images, _enhancement(level)),
    "equalize": _equalize,
    "posterize": _posterize,
    "sharpness": _sharpness,
    "solarize": _solarize,
}
