"""CutMix: paste a box of one image, with its labels, into another (Yun et al., ICCV 2019)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from segadapt.labels import IGNORE
from segadapt.pieces.losses import nearest_labels


def half_box(draws: Tensor) -> Tensor:
    """Draw a box of exactly half the image's area: ``2^-u`` of its height and ``2^(u - 1)`` of its width.

    Args:
        draws: [3] uniform in [0, 1): u, then the place along the height and the width.

    Returns:
        [4] top, left, bottom, right as shares of height and width.

    Example:
        >>> half_box(torch.tensor([0.0, 0.5, 0.5])).tolist()  # whole height, the middle half of the width
        [0.0, 0.25, 1.0, 0.75]
    """
    sides = torch.stack([torch.exp(-math.log(2) * draws[0]), torch.exp(math.log(2) * (draws[0] - 1))])
    corner = draws[1:] * (1 - sides)
    return torch.cat([corner, corner + sides])


def in_box(box: Tensor, height: int, width: int) -> Tensor:
    """Mark the pixels whose centre lies in the box.

    Args:
        box: [4] top, left, bottom, right as shares of height and width.
        height, width: size of the map in pixels.

    Returns:
        [height, width] bool.

    Example:
        >>> in_box(torch.tensor([0.0, 0.25, 1.0, 0.75]), 1, 4).tolist()
        [[False, True, True, False]]
    """
    y = (torch.arange(height, device=box.device) + 0.5) / height
    x = (torch.arange(width, device=box.device) + 0.5) / width
    return ((y >= box[0]) & (y < box[2]))[:, None] & ((x >= box[1]) & (x < box[3]))[None]


def paste(images: Tensor, others: Tensor, box: Tensor) -> Tensor:
    """Paste the box of ``others`` into ``images``.

    Args:
        images, others: [B, C, h, w], of the same shape.
        box: see :func:`in_box`.

    Returns:
        [B, C, h, w].

    Example:
        >>> box = torch.tensor([0.0, 0.0, 1.0, 0.5])
        >>> paste(torch.zeros(1, 1, 1, 4), torch.ones(1, 1, 1, 4), box).flatten().tolist()
        [1.0, 1.0, 0.0, 0.0]
    """
    return torch.where(in_box(box, *images.shape[-2:]), others, images)


def paste_labels(labels: Tensor, others: Tensor, box: Tensor, classes: int) -> Tensor:
    """Paste the box of other labels; these are first resized to the nearest pixel.

    Args:
        labels: [B, h, w] train ids, or [B, K, h, w] distributions (a zero vector is an ignored pixel).
        others: [B, H, W] train ids and IGNORE.
        box: see :func:`in_box`.
        classes: K.

    Returns:
        Labels of the shape and kind of ``labels``.

    Example:
        >>> box = torch.tensor([0.0, 0.0, 1.0, 0.5])
        >>> paste_labels(torch.tensor([[[0, 0]]]), torch.tensor([[[2, 2]]]), box, classes=3).tolist()
        [[[2, 0]]]
    """
    height, width = labels.shape[-2:]
    small = nearest_labels(others, (height, width))
    if labels.ndim == 4:
        valid = small != IGNORE
        onehot = F.one_hot(torch.where(valid, small, 0), classes).movedim(3, 1).to(labels.dtype)
        small = onehot * valid[:, None]
    return torch.where(in_box(box, height, width), small, labels)
