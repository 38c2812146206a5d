"""ClassMix: half of the classes of a labelled picture pasted onto another (Olsson et al., WACV 2021; DACS, WACV 2021).

Nothing here waits for the device: which classes there are is a table of flags, and half of them is a
question of ranks.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from segadapt.labels import IGNORE


class Mixed(NamedTuple):
    """Labels, weights and origin of the pixels of mixed pictures.

    Attributes:
        labels: y_M [B, H, W] train ids and IGNORE.
        weights: w_M [B, H, W] in [0, 1], factor on the loss of each pixel.
        pasted: [B, H, W] bool, pixels from the source.
        sure: [B, H, W] bool, pixels with a true label from the source, or with one the teacher is sure of.
    """

    labels: Tensor
    weights: Tensor
    pasted: Tensor
    sure: Tensor


def classes_present(labels: Tensor, classes: int) -> Tensor:
    """Which classes are in each label map.

    Args:
        labels: [B, H, W] train ids and IGNORE.
        classes: K.

    Returns:
        [B, K + 1] bool; the last column says whether anything is ignored.
    """
    flat = labels.flatten(1)
    columns = torch.where(flat == IGNORE, classes, flat)
    found = torch.zeros(len(labels), classes + 1, dtype=torch.bool, device=labels.device)
    return found.scatter_(1, columns, True)


def half_of(present: Tensor, draws: Tensor) -> Tensor:
    """Half of the classes of each picture, rounded up, all choices being equally likely.

    Args:
        present: [B, C] bool.
        draws: [B, C] uniform in [0, 1).

    Returns:
        [B, C] bool.
    """
    order = torch.where(present, draws, 2.0).argsort(1)
    ranks = torch.empty_like(order).scatter_(
        1, order, torch.arange(order.shape[1], device=order.device).expand_as(order)
    )
    return present & (ranks < (present.sum(1, keepdim=True) + 1) // 2)


def where_chosen(labels: Tensor, chosen: Tensor) -> Tensor:
    """Pixels of chosen classes.

    Args:
        labels: [B, H, W] train ids and IGNORE.
        chosen: [B, K + 1] bool, the last column for ignored pixels.

    Returns:
        [B, H, W] bool.
    """
    flat = labels.flatten(1)
    columns = torch.where(flat == IGNORE, chosen.shape[1] - 1, flat)
    return chosen.gather(1, columns).reshape(labels.shape)
