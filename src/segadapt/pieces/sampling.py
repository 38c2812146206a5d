"""Which images are drawn, so that rare classes are seen more often.

Hoyer, Dai, Van Gool: *DAFormer*, CVPR 2022, section 3.3 (rare class sampling).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_Array = npt.NDArray[np.float64]


def rare_class_probabilities(frequencies: _Array, temperature: float) -> _Array:
    """With which probability a class is asked for: ``softmax_c((1 - f_c) / T)`` over the classes that occur.

    Args:
        frequencies: [K] share of every class in all labelled pixels.
        temperature: T; small values ask for the rarest class alone, large ones for all alike.

    Returns:
        [K], summing to 1; 0 for classes that do not occur.
    """
    occurs = frequencies > 0
    scores = np.where(occurs, (1 - frequencies) / temperature, -np.inf)
    powers = np.exp(scores - scores.max())
    return np.asarray(powers / powers.sum(), np.float64)


def rare_class_weights(shares: _Array, temperature: float) -> _Array:
    """Probability of each image if a class is asked for first, and then any image that has it.

    Args:
        shares: [N, K] share of each class in every image.
        temperature: see :func:`rare_class_probabilities`.

    Returns:
        [N], summing to 1.
    """
    total = shares.sum(0)
    asked = rare_class_probabilities(total / total.sum(), temperature)
    has = shares > 0
    return np.asarray((has / np.maximum(has.sum(0), 1)) @ asked, np.float64)
