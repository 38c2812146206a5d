"""Square blocks withheld from a picture (Hoyer et al., MIC, CVPR 2023)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from segadapt.pieces.losses import nearest_labels


def blocks(size: Sequence[int], side: int) -> tuple[int, int]:
    """Rows and columns of the grid of blocks of ``side`` pixels that covers a picture of (height, width) best."""
    return max(1, round(size[0] / side)), max(1, round(size[1] / side))


def visible(draws: Tensor, ratio: float, size: Sequence[int]) -> Tensor:
    """Which pixels stay: each block is withheld by itself with probability ``ratio`` (MIC eq. 5).

    Args:
        draws: [B, rows, columns] uniform in [0, 1), a number for each block of :func:`blocks`.
        ratio: r in [0, 1]; 0 withholds nothing, 1 everything.
        size: (height, width) of the picture.

    Returns:
        [B, height, width] bool.
    """
    return nearest_labels(draws >= ratio, size)
