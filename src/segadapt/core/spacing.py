"""Samples that are spread evenly over a list."""

from __future__ import annotations

import numpy as np


def evenly_spaced(count: int, most: int) -> list[int]:
    """Return at most ``most`` of the indices 0 .. ``count`` - 1, evenly spaced, the first and the last among them.

    Example:
        >>> evenly_spaced(30, 4), evenly_spaced(3, 20), evenly_spaced(0, 4)
        ([0, 10, 19, 29], [0, 1, 2], [])
    """
    places: list[int] = np.linspace(0, count - 1, min(most, count)).round().astype(int).tolist()
    return places
