"""ClassMix: paste half of the classes of a labelled image onto another one.

Olsson et al., WACV 2021; used by DACS (Tranheden et al., WACV 2021). Nothing here waits for the
device: the classes of an image are a table of flags, and half of them are chosen by ranks.
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
    """Find the classes that occur in each label map.

    Args:
        labels: [B, H, W] train ids and IGNORE.
        classes: K.

    Returns:
        [B, K + 1] bool; the last column says whether a pixel is ignored.

    Example:
        >>> classes_present(torch.tensor([[[0, 0], [2, 255]]]), 3).tolist()
        [[True, False, True, True]]
    """
    flat = labels.flatten(1)
    columns = torch.where(flat == IGNORE, classes, flat)
    found = torch.zeros(len(labels), classes + 1, dtype=torch.bool, device=labels.device)
    return found.scatter_(1, columns, True)


def half_of(present: Tensor, draws: Tensor) -> Tensor:
    """Choose half of the classes of each image, rounded up; all choices are equally likely.

    Args:
        present: [B, C] bool, the classes of each image.
        draws: [B, C] uniform in [0, 1).

    Returns:
        [B, C] bool, the chosen classes.

    Example:
        >>> present = torch.tensor([[True, False, True, True]])
        >>> half_of(present, torch.tensor([[0.9, 0.0, 0.2, 0.5]])).tolist()
        [[False, False, True, True]]
    """
    order = torch.where(present, draws, 2.0).argsort(1)
    ranks = torch.empty_like(order).scatter_(
        1, order, torch.arange(order.shape[1], device=order.device).expand_as(order)
    )
    return present & (ranks < (present.sum(1, keepdim=True) + 1) // 2)


def where_chosen(labels: Tensor, chosen: Tensor) -> Tensor:
    """Mark the pixels of the chosen classes.

    Args:
        labels: [B, H, W] train ids and IGNORE.
        chosen: [B, K + 1] bool; the last column stands for ignored pixels.

    Returns:
        [B, H, W] bool.

    Example:
        >>> where_chosen(torch.tensor([[[0, 1, 255]]]), torch.tensor([[True, False, False]])).tolist()
        [[[True, False, False]]]
    """
    flat = labels.flatten(1)
    columns = torch.where(flat == IGNORE, chosen.shape[1] - 1, flat)
    return chosen.gather(1, columns).reshape(labels.shape)
