"""Spatial priors: how often a class occurs at a place of the image (CBST-SP, eq. 9).

Street scenes have a common layout. Label frequencies of the source, counted pixel by pixel and
smoothed, weight the probabilities from which pseudo labels of the target are chosen. The prior
plays no part in the training loss, where it would only add a constant.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

PAPER_WINDOW = 70 / 1024
"""Side of the paper's 70 x 70 pixel Gaussian window as a share of its 1024 pixel image height."""


def gaussian_window(height: int, window: float = PAPER_WINDOW) -> Tensor:
    """The 1-D Gaussian [n] with which priors of this height are smoothed; n is odd, the sum is 1.

    The window spans ``window * height`` pixels and holds three standard deviations on either side
    (the paper gives its size alone). A window below one pixel is the identity.
    """
    radius = round(window * height / 2)
    if radius == 0:
        return torch.ones(1)
    x = torch.arange(-radius, radius + 1, dtype=torch.float32)
    weights = torch.exp(-0.5 * (x * 3 / radius) ** 2)
    return weights / weights.sum()


def spatial_prior(frequencies: Tensor, window: float = PAPER_WINDOW) -> Tensor:
    """Smooth label frequencies and normalise them over the image.

    Args:
        frequencies: [K, H, W] label counts, or shares, of the source at each pixel.
        window: side of the square Gaussian window as a share of the height, so that a prior does
            not depend on the resolution it is computed at.

    Returns:
        [K, H, W] float32 prior q: non-negative, summing to 1 over the pixels of each class; zero
        everywhere for a class that the source never shows. Near the border the mean is taken over
        the part of the window inside the image.
    """
    height, width = frequencies.shape[-2:]
    weights = gaussian_window(height, window).tolist()
    ones = torch.ones(max(height, width), device=frequencies.device)
    inside = _blur(ones[:height], weights, 0)[:, None] * _blur(ones[:width], weights, 0)
    prior = torch.empty(frequencies.shape, dtype=torch.float32, device=frequencies.device)
    for counts, smooth in zip(frequencies, prior, strict=True):  # one class at a time, for the memory
        smooth.copy_(_blur(_blur(counts.to(torch.float32), weights, 0), weights, 1)).div_(inside)
        smooth.div_(smooth.sum(dtype=torch.float64).clamp(min=torch.finfo(torch.float32).tiny))
    return prior


def _blur(maps: Tensor, weights: list[float], axis: int) -> Tensor:
    """Convolution along one axis, with zeros beyond the ends; adding shifted copies beats conv2d on a CPU."""
    radius, length = len(weights) // 2, maps.shape[axis]
    out = torch.zeros_like(maps)
    for shift, weight in enumerate(weights, start=-radius):
        count = length - abs(shift)
        if count > 0:
            out.narrow(axis, max(0, -shift), count).add_(maps.narrow(axis, max(0, shift), count), alpha=weight)
    return out


def apply_prior(probabilities: Tensor, prior: Tensor) -> Tensor:
    """Probabilities [B, K, H, W] times a prior [K, h, w]; the products are not normalised again.

    A prior of another size is resized bilinearly and keeps its values, so that products of images
    of different sizes stay comparable.
    """
    return probabilities * resize_prior(prior, probabilities.shape[-2], probabilities.shape[-1])


def resize_prior(prior: Tensor, height: int, width: int) -> Tensor:
    """A prior [K, h, w] at another size [K, height, width], with values kept."""
    if tuple(prior.shape[-2:]) == (height, width):
        return prior
    return F.interpolate(prior[None], (height, width), mode="bilinear", align_corners=False)[0]
