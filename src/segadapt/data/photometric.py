"""Photometric augmentation of whole batches on their device, one strength per sample.

Random numbers are drawn on the CPU, so the same seed changes the colours alike on every device, and
nothing here waits for the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from segadapt.core.moving import sent
from segadapt.core.types import Size

_LUMA = (0.299, 0.587, 0.114)
HUE_SHARE = 0.5
"""Turns of hue per unit of strength: a strength of 0.5 turns hues by up to a quarter."""


def color_jitter(images: Tensor, strength: Tensor, draws: Tensor, hue_share: float = HUE_SHARE) -> Tensor:
    """Change brightness, contrast, saturation and hue at random, in this order.

    Saturation and hue are those of the first three bands; images of fewer bands have none.

    Sample b multiplies brightness, contrast and saturation by factors from
    U[max(0, 1 - s_b), 1 + s_b] each and turns its hue by U[-t, t], t = min(hue_share * s_b, 1/2)
    turns. A sample of strength 0 stays as it is.

    Args:
        images: [B, C, H, W] float in [0, 1]; where C is at least 3, the first three bands are RGB.
        strength: [B] s, on the CPU, at least 0.
        draws: [B, 4] uniform in [0, 1), on the CPU: one number for each change. The caller draws
            them, so that they can belong to the sample and not to its place in the batch.
        hue_share: 0.5 as in semi-supervised segmentation (0.5, 0.5, 0.5, 0.25); 1 as in DAFormer.

    Returns:
        [B, C, H, W] in [0, 1].
    """
    draws = draws.T
    low = (1 - strength).clamp(min=0)
    factors = low + draws[:3] * (1 + strength - low)
    turn = (2 * draws[3] - 1) * (hue_share * strength).clamp(max=0.5)
    unchanged = sent(strength == 0, images.device)[:, None, None, None]
    factors = sent(factors, images.device, images.dtype)[..., None, None, None]
    x = adjust_brightness(images, factors[0])
    x = adjust_contrast(x, factors[1])
    x = adjust_saturation(x, factors[2])
    x = adjust_hue(x, sent(turn, images.device, images.dtype)[:, None, None, None])
    return torch.where(unchanged, images, x)


def grey(images: Tensor) -> Tensor:
    """Return the luma [B, 1, H, W] of RGB images (ITU-R BT.601)."""
    red, green, blue = images.unbind(1)
    return (_LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue)[:, None]


def on_colours(images: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Change the first three bands of images [B, C, H, W]; further ones stay, and so do images of fewer bands."""
    if images.shape[1] <= 3:
        return change(images) if images.shape[1] == 3 else images
    return torch.cat([change(images[:, :3]), images[:, 3:]], 1)


def adjust_brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Multiply by ``factor`` [B, 1, 1, 1]."""
    return (images * factor).clamp(0, 1)


def adjust_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Move away from the mean luma of the image by ``factor`` [B, 1, 1, 1]; bands beside RGB from their own means."""
    if images.shape[1] == 3:
        mean = grey(images).mean((2, 3), keepdim=True)
    else:
        mean = on_colours(images.mean((2, 3), keepdim=True), lambda rgb: grey(rgb).expand_as(rgb))
    return (mean + factor * (images - mean)).clamp(0, 1)


def adjust_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Move away from the luma of each pixel by ``factor`` [B, 1, 1, 1]."""

    def adjusted(rgb: Tensor) -> Tensor:
        luma = grey(rgb)
        return (luma + factor * (rgb - luma)).clamp(0, 1)

    return on_colours(images, adjusted)


def adjust_hue(images: Tensor, turn: Tensor) -> Tensor:
    """Turn the hue of the HSV model by ``turn`` [B, 1, 1, 1], in full turns."""
    return on_colours(images, lambda rgb: _turned(rgb, turn))


def _turned(images: Tensor, turn: Tensor) -> Tensor:
    red, green, blue = images.unbind(1)
    value, low = images.amax(1), images.amin(1)
    chroma = value - low
    span = chroma.clamp(min=torch.finfo(images.dtype).tiny)
    # The largest channel decides the sector of the colour circle.
    hue = torch.where(
        value == red,
        (green - blue) / span,
        torch.where(value == green, 2 + (blue - red) / span, 4 + (red - green) / span),
    )
    hue = hue + 6 * turn.squeeze(1)
    channels = []
    for offset in (5, 3, 1):
        sector = (hue + offset).remainder(6)
        channels.append(value - chroma * torch.minimum(sector, 4 - sector).clamp(0, 1))
    return torch.stack(channels, 1)


def draw_blur(
    batch: int, generator: torch.Generator, sigmas: Sequence[float] = (0.15, 1.15), probability: float = 0.5
) -> Tensor:
    """Draw blur widths [B] on the CPU: U[sigmas] with the given probability, else 0 (DAFormer's range)."""
    draws = torch.rand((2, batch), generator=generator)
    widths = sigmas[0] + (sigmas[1] - sigmas[0]) * draws[0]
    return torch.where(draws[1] < probability, widths, torch.zeros(()))


def gaussian_blur(images: Tensor, sigma: Tensor, radius: Size | None = None) -> Tensor:
    """Blur sample b with a Gaussian of standard deviation ``sigma[b]`` pixels; 0 leaves it as it is.

    Args:
        images: [B, C, H, W] float.
        sigma: [B] on the CPU.
        radius: rows and columns that the kernel reaches to either side; None takes five deviations, beyond which
            lies less than a millionth of it.

    Returns:
        [B, C, H, W]; borders are mirrored.
    """
    batch, channels, height, width = images.shape
    if not batch or not sigma.any():
        return images
    reach = math.ceil(5 * float(sigma.max()))
    rows, columns = (min(r, n - 1) for r, n in zip(radius or (reach, reach), (height, width), strict=True))

    def kernel(reach: int) -> Tensor:
        x = torch.arange(-reach, reach + 1, dtype=torch.float32)
        weights = torch.exp(-0.5 * (x / sigma.float().clamp(min=1e-3)[:, None]) ** 2)
        weights = weights / weights.sum(1, keepdim=True)
        return sent(weights, images.device, images.dtype).repeat_interleave(channels, 0)

    down = kernel(rows)
    across = down if columns == rows else kernel(columns)
    maps = images.reshape(1, batch * channels, height, width)
    maps = F.pad(maps, (columns, columns, rows, rows), mode="reflect")
    maps = F.conv2d(maps, down[:, None, :, None], groups=batch * channels)
    maps = F.conv2d(maps, across[:, None, None, :], groups=batch * channels)
    return maps.reshape(batch, channels, height, width)
