"""K-means with k-means++ starting points (Lloyd, 1982; Arthur and Vassilvitskii, 2007), on the device."""

from __future__ import annotations

import torch
from torch import Tensor

TRIES = 4
"""Candidates for each further starting point; the best one is taken."""
ITERATIONS = 20
"""Iterations of Lloyd's algorithm."""


@torch.no_grad()
def kmeans(points: Tensor, count: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Cluster points by Euclidean distance.

    A cluster that loses all its points moves to a point that is far from its own centre.

    Args:
        points: [n, D], at least one.
        count: number of clusters; with fewer different points some centres coincide.
        generator: random numbers of the CPU for the starting points; None takes torch's own.

    Returns:
        Centres [count, D], and the cluster [n] of every point.

    Example:
        >>> centres, member = kmeans(torch.tensor([[0.0], [1.0], [10.0], [11.0]]), 2)
        >>> sorted(centres.flatten().tolist())
        [0.5, 10.5]
    """
    centres = _spread(points, count, generator)
    for _ in range(ITERATIONS):
        distance, member = _squares(points, centres).min(1)
        sizes = points.new_zeros(count).index_add_(0, member, torch.ones_like(distance))
        moved = torch.zeros_like(centres).index_add_(0, member, points) / sizes.clamp(min=1)[:, None]
        farthest = points[distance.argsort(descending=True)[:count]]
        farthest = farthest[torch.arange(count, device=points.device) % len(farthest)]
        centres = torch.where((sizes > 0)[:, None], moved, farthest)
    return centres, _squares(points, centres).argmin(1)


def _squares(points: Tensor, centres: Tensor) -> Tensor:
    return torch.cdist(points, centres).square()


def _spread(points: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """Draw k-means++ starting points: the chance of a point grows with its distance to the points before."""
    device = points.device
    first = points[(torch.rand(1, generator=generator) * len(points)).long().to(device)]
    centres = [first]
    nearest = _squares(points, first)[:, 0]
    for _ in range(count - 1):
        chances = (nearest + torch.finfo(nearest.dtype).tiny).cumsum(0)
        drawn = torch.searchsorted(chances / chances[-1], torch.rand(TRIES, generator=generator).to(points)).clamp(
            max=len(points) - 1
        )
        after = torch.minimum(nearest[:, None], _squares(points, points[drawn]))
        best = after.sum(0).argmin()
        nearest = after[:, best]
        centres.append(points[drawn[best]][None])
    return torch.cat(centres)
