"""Mining of rare classes: choose the classes that training crops are centred on.

Class-balanced self-training centres crops on classes that the model hardly ever predicts, since a
random crop would miss them. Rarity follows from the predictions on the target, never from labels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from segadapt.labels import LabelMap


class MiningClasses(NamedTuple):
    """Classes that crops are centred on.

    Attributes:
        priority: classes whose share of the predicted pixels is below the limit, absent ones included,
            in class order.
        rare: the classes with the smallest shares, rarest first.
    """

    priority: tuple[int, ...]
    rare: tuple[int, ...]


def mined_classes(counts: Tensor, share: float = 1e-3, fallback: int = 3) -> MiningClasses:
    """Find the classes that are hardly ever predicted.

    Args:
        counts: [K] pixels predicted as each class over the whole target set, also for plain
            self-training with its single threshold.
        share: classes below this share of all pixels, in 0 .. 1, have priority.
        fallback: length of ``rare``.

    Returns:
        The classes; equal shares stay in class order.

    Example:
        >>> mined_classes(torch.tensor([9000, 5, 995, 0]), fallback=2)
        MiningClasses(priority=(1, 3), rare=(3, 1))
    """
    shares = counts.double() / counts.sum().clamp(min=1)
    priority = torch.nonzero(shares < share).flatten().tolist()
    rare = shares.argsort(stable=True)[:fallback].tolist()
    return MiningClasses(tuple(priority), tuple(rare))


def wanted_classes(label: LabelMap, mining: MiningClasses, fallback: bool = True) -> tuple[int, ...]:
    """List the classes on which a crop of an image may be centred.

    Args:
        label: [H, W] uint8 label or pseudo label.
        mining: see :func:`mined_classes`.
        fallback: if no priority class is present, offer the rare classes that are (as the CBST code
            does). Without it the result is empty and the crop is drawn at random (as in the CRST code).

    Returns:
        Classes present in ``label``; empty if the image has none of them.

    Example:
        >>> wanted_classes(np.array([[0, 2]], np.uint8), MiningClasses(priority=(1, 3), rare=(3, 2)))
        (2,)
    """
    present = np.bincount(label.reshape(-1), minlength=256) > 0
    wanted = tuple(c for c in mining.priority if present[c])
    if not wanted and fallback:
        wanted = tuple(c for c in mining.rare if present[c])
    return wanted
