"""CutMix: a box of one picture, with its labels, in another (Yun et al., ICCV 2019)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from segadapt.labels import IGNORE
from segadapt.pieces.losses import nearest_labels


def half_box(draws: Tensor) -> Tensor:
    """A box of exactly half the picture: its height is ``2^-u`` of the picture's, its width ``2^(u - 1)``.

    Args:
        draws: [3] uniform in [0, 1): u, and the place within the room that is left.

    Returns:
        [4] top, left, bottom, right as shares of height and width.
    """
    sides = torch.stack([torch.exp(-math.log(2) * draws[0]), torch.exp(math.log(2) * (draws[0] - 1))])
    corner = draws[1:] * (1 - sides)
    return torch.cat([corner, corner + sides])


def in_box(box: Tensor, height: int, width: int) -> Tensor:
    """[height, width] bool: pixels whose centre lies in the box."""
    y = (torch.arange(height, device=box.device) + 0.5) / height
    x = (torch.arange(width, device=box.device) + 0.5) / width
    return ((y >= box[0]) & (y < box[2]))[:, None] & ((x >= box[1]) & (x < box[3]))[None]


def paste(images: Tensor, others: Tensor, box: Tensor) -> Tensor:
    """Images [B, C, h, w] with the box of others of the same shape."""
    return torch.where(in_box(box, *images.shape[-2:]), others, images)


def paste_labels(labels: Tensor, others: Tensor, box: Tensor, classes: int) -> Tensor:
    """Labels with the box of others, which are brought to their resolution by the nearest pixel.

    Args:
        labels: [B, h, w] train ids, or [B, K, h, w] distributions (zeros are ignored).
        others: [B, H, W] train ids and IGNORE.
        box: see :func:`half_box`.
        classes: K.
    """
    height, width = labels.shape[-2:]
    small = nearest_labels(others, (height, width))
    if labels.ndim == 4:
        valid = small != IGNORE
        onehot = F.one_hot(torch.where(valid, small, 0), classes).movedim(3, 1).to(labels.dtype)
        small = onehot * valid[:, None]
    return torch.where(in_box(box, height, width), small, labels)
