"""Colour transfer: mean and deviation of each LAB channel of one image are moved to another.

Images of other bands than RGB have no LAB; theirs are mean and deviation of each band itself, of 255.

Reinhard, Ashikhmin, Gooch, Shirley: *Color Transfer between Images*, IEEE CG&A 2001, in CIE LAB as the code of CPSL
does it. Statistics are those of whole images, so that all crops of an image change alike; the change itself is made on
the device, on a batch of crops.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from segadapt.core.moving import sent
from segadapt.data.dataset import Picture

_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
"""CIE XYZ of linear sRGB (ITU-R BT.709 primaries, white point D65)."""
_RGB = np.linalg.inv(np.array(_XYZ)).tolist()
_WHITE = (0.950456, 1.0, 1.088754)
_KNEE = 0.008856
"""Below this share of the white, the cube root of CIE LAB goes on as a straight line."""
_LEAST_DEVIATION = 0.01
"""Deviation of a channel, of some hundred units, below which it counts as constant."""
_MOST_PIXELS = 1 << 16
"""Statistics are taken of at most about so many pixels, on a regular grid: means are then right to 0.1 units."""


def rgb_to_lab(images: Tensor) -> Tensor:
    """Convert sRGB to CIE LAB (white point D65).

    Args:
        images: [B, 3, H, W] float32 in [0, 1].

    Returns:
        [B, 3, H, W]: L in [0, 100], a and b in about -110 .. 110.

    Example:
        >>> rgb_to_lab(torch.ones(1, 3, 1, 1)).flatten().round().tolist()  # white
        [100.0, 0.0, 0.0]
    """
    linear = torch.where(images > 0.04045, ((images + 0.055) / 1.055).clamp(min=0) ** 2.4, images / 12.92)
    shares = torch.einsum("ij,bjhw->bihw", _like(images, _XYZ), linear) / _like(images, _WHITE)[:, None, None]
    root = torch.where(shares > _KNEE, shares.clamp(min=_KNEE) ** (1 / 3), 7.787 * shares + 16 / 116)
    x, y, z = root.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


def lab_to_rgb(lab: Tensor) -> Tensor:
    """Convert CIE LAB (white point D65) to sRGB; colours that sRGB does not have are cut off at its borders.

    Args:
        lab: [B, 3, H, W], see :func:`rgb_to_lab`.

    Returns:
        [B, 3, H, W] in [0, 1].

    Example:
        >>> lab_to_rgb(torch.tensor([100.0, 0.0, 0.0]).view(1, 3, 1, 1)).flatten().round(decimals=2).tolist()
        [1.0, 1.0, 1.0]
    """
    lightness, a, b = lab.unbind(1)
    y = (lightness + 16) / 116
    root = torch.stack([y + a / 500, y, y - b / 200], 1)
    shares = torch.where(root > _KNEE ** (1 / 3), root**3, (root - 16 / 116) / 7.787)
    xyz = shares * _like(lab, _WHITE)[:, None, None]
    linear = torch.einsum("ij,bjhw->bihw", _like(lab, _RGB), xyz).clamp(0, 1)
    bright = 1.055 * linear.clamp(min=0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(linear > 0.0031308, bright, 12.92 * linear).clamp(0, 1)


def lab_statistics(image: Picture) -> npt.NDArray[np.float32]:
    """Return mean and standard deviation of each LAB channel of an image, or of each band of one that is not RGB.

    Large images are read on a regular grid of about 65 000 pixels.

    Args:
        image: [H, W, C] uint8.

    Returns:
        [2, C] float32: means, deviations.
    """
    step = max(1, math.isqrt(image.shape[0] * image.shape[1] // _MOST_PIXELS))
    pixels = torch.from_numpy(np.ascontiguousarray(image[::step, ::step])).permute(2, 0, 1)[None]
    lab = _opened(pixels.float() / 255)[0].flatten(1).double()
    return np.stack([lab.mean(1).numpy(), lab.std(1, correction=0).numpy()]).astype(np.float32)


def transfer_colours(images: Tensor, own: Tensor, wanted: Tensor) -> Tensor:
    """Give crops the colours of other images: ``(x - mean) / deviation`` of each LAB channel, scaled and moved.

    Args:
        images: [B, C, h, w] in [0, 1], crops of the images that ``own`` describes.
        own, wanted: [B, 2, C] statistics as of :func:`lab_statistics`, on the device of the images; a channel without
            deviation of its own gets the wanted mean.

    Returns:
        [B, C, h, w] in [0, 1].
    """
    mean, deviation = own[:, 0, :, None, None], own[:, 1, :, None, None].clamp(min=_LEAST_DEVIATION)
    moved = (_opened(images) - mean) / deviation * wanted[:, 1, :, None, None] + wanted[:, 0, :, None, None]
    return lab_to_rgb(moved) if images.shape[1] == 3 else (moved / 255).clamp(0, 1)


def _opened(images: Tensor) -> Tensor:
    """Return RGB as LAB, and other bands in 0 .. 255."""
    return rgb_to_lab(images) if images.shape[1] == 3 else images * 255


def _like(images: Tensor, values: Sequence[Any]) -> Tensor:
    """Return constants on the device of the images, without waiting for it."""
    return sent(torch.tensor(values, dtype=images.dtype), images.device)
