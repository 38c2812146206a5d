"""How evenly the prototypes of a class are used, and how far prototypes lie apart (MPCL).

Prototypes that take no pixels, or that lie on each other, are lost; a record of these numbers shows it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


@torch.no_grad()
def usage_entropy(counts: Tensor, active: Tensor) -> Tensor:
    """Return the entropy of the shares of a class's prototypes, divided by log K; the mean over the active classes.

    Args:
        counts: [C, K] pixels of each prototype; below 0 counts as 0.
        active: [C] bool, classes that have prototypes; classes without pixels do not count.

    Returns:
        Scalar in [0, 1], 1 for equal use; NaN if no class counts, or K is 1.

    Example:
        >>> usage_entropy(torch.tensor([[2.0, 2.0], [4.0, 0.0]]), torch.tensor([True, True])).item()
        0.5
    """
    counts = counts.clamp(min=0)
    totals = counts.sum(1, keepdim=True)
    shares = counts / totals.clamp(min=torch.finfo(counts.dtype).tiny)
    entropy = torch.special.entr(shares).sum(1) / (math.log(counts.shape[1]) or math.nan)
    return torch.where(active & (totals[:, 0] > 0), entropy, math.nan).nanmean()


@torch.no_grad()
def nearest_distances(means: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean distance from a prototype to its nearest neighbour, within its class and among other classes.

    Args:
        means: [C, K, D].
        active: [C] bool, classes that have prototypes.

    Returns:
        Two scalars, at least 0; NaN where no prototype has such a neighbour.

    Example:
        >>> means = torch.tensor([[[0.0], [1.0]], [[3.0], [5.0]]])
        >>> own, others = nearest_distances(means, torch.tensor([True, True]))
        >>> own.item(), others.item()
        (1.5, 2.75)
    """
    classes, each, _ = means.shape
    points = means.float().flatten(0, 1)
    apart = torch.cdist(points, points)
    begun = active.repeat_interleave(each)
    label = torch.arange(classes, device=means.device).repeat_interleave(each)
    same = label[:, None] == label
    itself = torch.eye(len(points), dtype=torch.bool, device=means.device)
    found = []
    for neighbours in (same & ~itself, ~same):
        nearest = apart.masked_fill(~(neighbours & begun), math.inf).amin(1)
        found.append(torch.where(begun & nearest.isfinite(), nearest, math.nan).nanmean())
    return found[0], found[1]
