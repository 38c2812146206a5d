"""Sampling of images in which rare classes are drawn more often.

Hoyer, Dai, Van Gool: *DAFormer*, CVPR 2022, section 3.3 (rare class sampling).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_Array = npt.NDArray[np.float64]


def rare_class_probabilities(frequencies: _Array, temperature: float) -> _Array:
    """Compute the probability of drawing a class: ``softmax_c((1 - f_c) / T)`` over the classes that occur.

    Args:
        frequencies: f [K], share of every class among all labelled pixels, in [0, 1].
        temperature: T, above 0; small values draw the rarest class alone, large ones all classes alike.

    Returns:
        [K], summing to 1; 0 for classes that do not occur.

    Example:
        >>> rare_class_probabilities(np.array([0.99, 0.01, 0.0]), temperature=1.0).round(3).tolist()
        [0.273, 0.727, 0.0]
    """
    occurs = frequencies > 0
    scores = np.where(occurs, (1 - frequencies) / temperature, -np.inf)
    powers = np.exp(scores - scores.max())
    return np.asarray(powers / powers.sum(), np.float64)


def rare_class_weights(shares: _Array, temperature: float) -> _Array:
    """Compute the probability of each image if first a class is drawn, and then any image that has it.

    Args:
        shares: [N, K] share of each class in every image.
        temperature: see :func:`rare_class_probabilities`.

    Returns:
        [N], summing to 1.

    Example:
        >>> shares = np.array([[1.0, 0.0], [1.0, 0.0], [0.5, 0.5]])
        >>> rare_class_weights(shares, temperature=1e6).round(3).tolist()  # half for class 0, half for class 1
        [0.167, 0.167, 0.667]
    """
    total = shares.sum(0)
    asked = rare_class_probabilities(total / total.sum(), temperature)
    has = shares > 0
    return np.asarray((has / np.maximum(has.sum(0), 1)) @ asked, np.float64)
