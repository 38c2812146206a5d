"""Which images to label next: those of which a model is unsure, and that are unlike each other.

Diversity is the greedy k-centre of Sener, Savarese: *Active Learning for Convolutional Neural Networks: A Core-Set
Approach*, ICLR 2018, its distances weighted with the uncertainty of an image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from segadapt.pieces.precision import at_least_float32

LEAST_SHARE = 0.001
"""A class that fills a smaller share of an image does not count for its uncertainty."""
_SAME = 1e-12
"""Channels with a smaller spread are equal in all images."""


def class_uncertainty(probabilities: Tensor, least_share: float = LEAST_SHARE) -> Tensor:
    """Compute how unsure a model is of images, every predicted class counting alike.

        u_n = 1 - (p_n,1st - p_n,2nd),   U = mean_c mean_{n: argmax p_n = c} u_n

    A mean over pixels would be that of roads and buildings; this one asks for small classes too.

    Args:
        probabilities: p [B, K, h, w], K at least 2.
        least_share: classes that fill less of an image than this share do not count there, in [0, 1).

    Returns:
        U [B] in [0, 1], in at least float32.

    Example:
        >>> p = torch.tensor([[1.0, 1.0, 0.5], [0.0, 0.0, 0.5]]).view(1, 2, 1, 3)
        >>> class_uncertainty(p).mul(3).tolist()  # class 0 alone is predicted, at three pixels
        [1.0]
    """
    p = at_least_float32(probabilities)
    best, classes = p.topk(2, dim=1)
    unsure = (1 - (best[:, 0] - best[:, 1])).flatten(1)
    predicted = classes[:, 0].flatten(1)
    empty = p.new_zeros(p.shape[:2])
    pixels = empty.scatter_add(1, predicted, torch.ones_like(unsure))
    means = empty.scatter_add(1, predicted, unsure) / pixels.clamp(min=1)
    counted = pixels > least_share * predicted.shape[1]
    return (means * counted).sum(1) / counted.sum(1).clamp(min=1)


def farthest_first(
    features: Tensor, weights: Tensor, count: int, known: Sequence[int] = ()
) -> list[tuple[int, float | None]]:
    """Choose images one by one, each with the largest product of its weight and its distance to those before it.

        i = argmax_i w_i min_{j chosen or known} |z_i - z_j|,   z = features with mean 0 and variance 1 per channel

    Without anything known the first is the one of the largest weight. Of equal ones the first is taken.

    Args:
        features: [N, D], one vector per image.
        weights: w [N], at least 0, e.g. the uncertainty of the images.
        count: number to choose, at most N less the known ones.
        known: images that are not chosen, and that others have to be unlike.

    Returns:
        Index and distance of each choice in order; None is the distance of a first one beside which nothing is known.

    Example:
        >>> chosen = farthest_first(torch.tensor([[0.0], [1.0], [4.0]]), torch.ones(3), 2, known=[0])
        >>> [index for index, _ in chosen]
        [2, 1]
    """
    z = features.double()
    z = z - z.mean(0)
    spread = z.square().mean(0).sqrt()
    z = torch.where(spread > _SAME, z / spread.clamp(min=_SAME), 0.0)
    open_ = torch.ones(len(z), dtype=torch.bool)
    nearest = torch.full((len(z),), torch.inf, dtype=torch.float64)
    for index in known:
        open_[index] = False
        nearest = torch.minimum(nearest, (z - z[index]).norm(dim=1))
    chosen: list[tuple[int, float | None]] = []
    w = weights.double()
    for _ in range(count):
        first = not chosen and not known
        worth = w if first else w * nearest
        index = int(worth.masked_fill(~open_, -1.0).argmax())
        chosen.append((index, None if first else float(nearest[index])))
        open_[index] = False
        nearest = torch.minimum(nearest, (z - z[index]).norm(dim=1))
    return chosen
