"""Distance between features and the features of a fixed encoder (Hoyer et al., DAFormer, CVPR 2022, section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from segadapt.labels import IGNORE
from segadapt.pieces.terms import Term


def cell_labels(labels: Tensor, size: Sequence[int], classes: int, least: float) -> Tensor:
    """Label the cells of a coarse grid with the class that fills most of a cell, if it fills enough.

    Args:
        labels: [B, H, W] train ids and IGNORE.
        size: (h, w), rows and columns of the grid.
        classes: K.
        least: share of the cell's pixels, in [0, 1], that the class must reach; ignored pixels are
            counted in the whole.

    Returns:
        [B, h, w] train ids; IGNORE where most pixels are ignored, or no class has that share.

    Example:
        >>> labels = torch.tensor([[[0, 0, 1, 2], [0, 0, 1, 3]]])
        >>> cell_labels(labels, (1, 2), classes=4, least=0.75).tolist()
        [[[0, 255]]]
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
    """Sum the Euclidean distance between two feature maps over chosen cells (DAFormer eq. 6 and 8).

    Args:
        features: [B, D, h, w] with gradient.
        reference: [B, D, h, w] features of the fixed encoder; gets no gradient.
        cells: [B, h, w] bool, the cells that count.

    Returns:
        Sum and number of cells; zero, with zero gradient, if there are none.

    Example:
        >>> features, reference = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1), torch.zeros(1, 2, 1, 1)
        >>> feature_distance(features, reference, torch.tensor([[[True]]])).mean().item()
        5.0
    """
    distances = torch.linalg.vector_norm((features - reference.detach()).float(), dim=1)
    return Term(torch.where(cells, distances, 0.0).sum(), cells.sum().to(distances.dtype))
