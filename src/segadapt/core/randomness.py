"""Random numbers as a function of the place where they are drawn, never of earlier draws.

A resumed run then needs no stored generator state: it draws the same numbers as an uninterrupted one.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import torch


class Purpose(IntEnum):
    """The purposes of random numbers; each has a sequence of its own.

    The values are part of every result: another value gives other numbers.

    Attributes:
        SOURCE_SUBSET: the source images that take part in a round of self-training.
        PREPARATION: the pass over the data before the steps of a round.
        STEP: dropout and other choices inside one training step.
        NETWORK: random initial weights.
    """

    SOURCE_SUBSET = 3
    PREPARATION = 7
    STEP = 8
    NETWORK = 9


def generator_for(seed: int, purpose: Purpose, *place: int) -> np.random.Generator:
    """Return a generator that depends on its arguments alone.

    Args:
        seed: seed of the run, 0 or more.
        purpose: purpose of the numbers.
        place: numbers of the place where they are drawn, e.g. round, step and rank; each 0 or more.

    Example:
        >>> first = generator_for(0, Purpose.SOURCE_SUBSET, 2).integers(100, size=3)
        >>> again = generator_for(0, Purpose.SOURCE_SUBSET, 2).integers(100, size=3)
        >>> bool((first == again).all())
        True
    """
    return np.random.default_rng([seed, int(purpose), *place])


def seed_step(seed: int, purpose: Purpose, *place: int) -> None:
    """Seed torch's global generator for one place of a stage; see :func:`generator_for`.

    The stage itself is not part of the place: two stages draw the same numbers in equal steps.
    """
    torch.manual_seed(int(generator_for(seed, purpose, *place).integers(2**62)))
