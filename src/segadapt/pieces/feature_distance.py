"""Feature distance to a fixed encoder on cells of chosen classes (Hoyer et al., DAFormer, CVPR 2022, section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from segadapt.labels import IGNORE
from segadapt.pieces.terms import Term


def cell_labels(labels: Tensor, size: Sequence[int], classes: int, least: float) -> Tensor:
    """Labels of the cells of a coarse grid: the class that fills most of a cell, if it fills enough.

    Args:
        labels: [B, H, W] train ids and IGNORE.
        size: (h, w) of the grid.
        classes: K.
        least: smallest share of the cell's pixels, ignored ones included, in [0, 1].

    Returns:
        [B, h, w]; IGNORE where ignored pixels are the most, or no class has that share.
    """
    batch, height, width = labels.shape
    h, w = int(size[0]), int(size[1])
    rows = torch.arange(height, device=labels.device) * h // height
    columns = torch.arange(width, device=labels.device) * w // width
    cells = (rows[:, None] * w + columns).expand_as(labels).flatten(1)
    kinds = torch.where(labels == IGNORE, classes, labels).flatten(1)
    counts = torch.zeros(batch, h * w * (classes + 1), device=labels.device)
    counts.scatter_add_(1, cells * (classes + 1) + kinds, torch.ones_like(cells, dtype=counts.dtype))
    counts = counts.view(batch, h, w, classes + 1)
    most, winner = counts.max(3)
    return torch.where((winner < classes) & (most >= least * counts.sum(3)), winner, IGNORE)


def feature_distance(features: Tensor, reference: Tensor, cells: Tensor) -> Term:
    """Euclidean distance between two feature maps, summed over cells (DAFormer eq. 6 and 8).

    Args:
        features: [B, D, h, w] with gradient.
        reference: [B, D, h, w] of the fixed encoder.
        cells: [B, h, w] bool, the cells that count.

    Returns:
        Sum and number of cells; zero, with zero gradient, if there are none.
    """
    distances = torch.linalg.vector_norm((features - reference.detach()).float(), dim=1)
    return Term(torch.where(cells, distances, 0.0).sum(), cells.sum().to(distances.dtype))
