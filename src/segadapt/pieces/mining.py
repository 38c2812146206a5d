"""Mining of small classes: which classes a training crop should be centred on.

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
    """Classes worth a crop.

    Attributes:
        priority: classes whose share of the predicted pixels is below the limit, absent ones included,
            in class order.
        rare: the classes with the smallest shares, rarest first.
    """

    priority: tuple[int, ...]
    rare: tuple[int, ...]


def mined_classes(counts: Tensor, share: float = 1e-3, fallback: int = 3) -> MiningClasses:
    """Rank classes by how often they are predicted.

    Args:
        counts: [K] pixels predicted as each class over the whole target set. These must be the
            class counts also for plain self-training, whose threshold is common to all classes.
        share: limit of the share of all pixels below which a class has priority.
        fallback: length of ``rare``.

    Returns:
        The classes; equal shares stay in class order.
    """
    shares = counts.double() / counts.sum().clamp(min=1)
    priority = torch.nonzero(shares < share).flatten().tolist()
    rare = shares.argsort(stable=True)[:fallback].tolist()
    return MiningClasses(tuple(priority), tuple(rare))


def wanted_classes(label: LabelMap, mining: MiningClasses, fallback: bool = True) -> tuple[int, ...]:
    """The classes on which a crop of this image may be centred.

    Args:
        label: [H, W] uint8 label or pseudo label.
        mining: see :func:`mined_classes`.
        fallback: where no priority class is present, offer the rare ones that are (the CBST code);
            without it the crop is then drawn at random (the CRST code).

    Returns:
        Classes present in ``label``; empty if the image has none of them.
    """
    present = np.bincount(label.reshape(-1), minlength=256) > 0
    wanted = tuple(c for c in mining.priority if present[c])
    if not wanted and fallback:
        wanted = tuple(c for c in mining.rare if present[c])
    return wanted
