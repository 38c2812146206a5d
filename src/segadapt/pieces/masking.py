"""Withhold square blocks of an image (Hoyer et al., MIC, CVPR 2023)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from segadapt.pieces.losses import nearest_labels


def blocks(size: Sequence[int], side: int) -> tuple[int, int]:
    """Return rows and columns of the grid of blocks that covers an image best.

    Args:
        size: (height, width) of the image in pixels.
        side: wanted side of a block in pixels.

    Example:
        >>> blocks((180, 240), 64)
        (3, 4)
    """
    return max(1, round(size[0] / side)), max(1, round(size[1] / side))


def visible(draws: Tensor, ratio: float, size: Sequence[int]) -> Tensor:
    """Mark the pixels that stay visible: each block is withheld by itself with probability ``ratio`` (MIC eq. 5).

    Args:
        draws: [B, rows, columns] uniform in [0, 1), one number per block of :func:`blocks`.
        ratio: r in [0, 1]; 0 withholds nothing, 1 everything.
        size: (height, width) of the image.

    Returns:
        [B, height, width] bool.

    Example:
        >>> visible(torch.tensor([[[0.2, 0.8]]]), ratio=0.7, size=(1, 4)).tolist()
        [[[False, False, True, True]]]
    """
    return nearest_labels(draws >= ratio, size)
