"""Spatial priors: how often a class occurs at a place of the image (CBST-SP, eq. 9).

Street scenes have a common layout. Label frequencies of the source, counted per pixel and smoothed,
multiply the probabilities from which pseudo labels of the target are chosen. The prior is not part of
the training loss, where it would only add a constant.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

PriorScale = Literal["class", "place"]
PAPER_WINDOW = 70 / 1024
"""Side of the paper's 70 x 70 pixel Gaussian window as a share of its 1024 pixel image height."""


def gaussian_window(height: int, window: float = PAPER_WINDOW) -> Tensor:
    """Compute the 1-D Gaussian that smooths priors of a given height.

    The window spans ``window * height`` pixels and holds three standard deviations on either side (the
    paper only gives its size). A window below one pixel is the identity.

    Args:
        height: height of the prior in pixels.
        window: side of the window as a share of the height, in [0, 1].

    Returns:
        [n] weights with n odd, summing to 1.

    Example:
        >>> len(gaussian_window(1024))
        71
    """
    radius = round(window * height / 2)
    if radius == 0:
        return torch.ones(1)
    x = torch.arange(-radius, radius + 1, dtype=torch.float32)
    weights = torch.exp(-0.5 * (x * 3 / radius) ** 2)
    return weights / weights.sum()


def spatial_prior(frequencies: Tensor, window: float = PAPER_WINDOW, scale: PriorScale = "class") -> Tensor:
    """Smooth label frequencies and normalise them (Zou et al., CBST, ECCV 2018, eq. 9).

    With the paper's scale a class that covers a small area has larger values there than a class that is spread over
    the image: P(place | class). ``place`` leaves the classes their sizes: P(class | place).

    Args:
        frequencies: [K, H, W] label counts, or shares, of the source at each pixel; at least 0.
        window: side of the square Gaussian window as a share of the height, so that a prior does
            not depend on the resolution it is computed at.
        scale: sums to 1 over the pixels of each ``class`` (section 4.4), or over the classes at each ``place``.

    Returns:
        [K, H, W] float32 prior q, non-negative; zero everywhere for a class that never occurs in the source,
        and for all classes at a place that never has a label near it. Near the border the mean is taken over the
        part of the window inside the image.

    Example:
        >>> q = spatial_prior(torch.tensor([[[3.0, 1.0]], [[0.0, 0.0]]]))
        >>> q.tolist()
        [[[0.75, 0.25]], [[0.0, 0.0]]]
        >>> spatial_prior(torch.tensor([[[3.0, 1.0]], [[1.0, 0.0]]]), scale="place").tolist()
        [[[0.75, 1.0]], [[0.25, 0.0]]]
    """
    height, width = frequencies.shape[-2:]
    weights = gaussian_window(height, window).tolist()
    ones = torch.ones(max(height, width), device=frequencies.device)
    inside = _blur(ones[:height], weights, 0)[:, None] * _blur(ones[:width], weights, 0)
    prior = torch.empty(frequencies.shape, dtype=torch.float32, device=frequencies.device)
    for counts, smooth in zip(frequencies, prior, strict=True):  # one class at a time saves memory
        smooth.copy_(_blur(_blur(counts.to(torch.float32), weights, 0), weights, 1)).div_(inside)
    total = prior.sum((0,) if scale == "place" else (1, 2), keepdim=True, dtype=torch.float64)
    return prior.div_(total.float().clamp(min=torch.finfo(torch.float32).tiny))


def _blur(maps: Tensor, weights: list[float], axis: int) -> Tensor:
    """Convolve along one axis, with zeros beyond the ends; adding shifted copies beats conv2d on a CPU."""
    radius, length = len(weights) // 2, maps.shape[axis]
    out = torch.zeros_like(maps)
    for shift, weight in enumerate(weights, start=-radius):
        count = length - abs(shift)
        if count > 0:
            out.narrow(axis, max(0, -shift), count).add_(maps.narrow(axis, max(0, shift), count), alpha=weight)
    return out


def apply_prior(probabilities: Tensor, prior: Tensor) -> Tensor:
    """Multiply probabilities by a prior; the products are not normalised again.

    A prior of another size is resized bilinearly and keeps its values, so that products of images
    of different sizes stay comparable.

    Args:
        probabilities: [B, K, H, W].
        prior: [K, h, w].

    Returns:
        [B, K, H, W].

    Example:
        >>> apply_prior(torch.full((1, 1, 1, 2), 0.5), torch.tensor([[[0.75, 0.25]]])).flatten().tolist()
        [0.375, 0.125]
    """
    return probabilities * resize_prior(prior, probabilities.shape[-2], probabilities.shape[-1])


def resize_prior(prior: Tensor, height: int, width: int) -> Tensor:
    """Resize a prior bilinearly; its values are not rescaled.

    Args:
        prior: [K, h, w].
        height, width: new size in pixels.

    Returns:
        [K, height, width].

    Example:
        >>> resize_prior(torch.full((1, 1, 1), 0.5), 1, 2).tolist()
        [[[0.5, 0.5]]]
    """
    if tuple(prior.shape[-2:]) == (height, width):
        return prior
    return F.interpolate(prior[None], (height, width), mode="bilinear", align_corners=False)[0]
