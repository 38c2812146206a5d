"""Decoded images in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from segadapt.data.dataset import Drawn, Held
from segadapt.data.resize import Resize

Key = tuple[Literal["image", "label"], Path | Held | Drawn | None, Resize]


class DecodedCache:
    """Decoded images and labels at working size, kept in memory up to a budget in bytes.

    Several threads may ask it. Sent to another process, it arrives empty, with the rest of its budget.
    """

    def __init__(self, budget: int):
        self.budget = budget
        self._held: dict[Key, npt.NDArray[np.uint8]] = {}
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: Key, make: Callable[[], npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
        """Return the cached array, or the result of ``make``, which is kept if it still fits.

        Args:
            key: kind (``image`` or ``label``), place and working size.
            make: decodes the array.
        """
        held = self._held.get(key)
        if held is not None:
            return held
        value = make()
        with self._lock:
            if key not in self._held and self._bytes + value.nbytes <= self.budget:
                self._held[key] = value
                self._bytes += value.nbytes
        return value

    @property
    def held_bytes(self) -> int:
        """Bytes of what is held."""
        return self._bytes

    def divided(self, count: int) -> DecodedCache:
        """Return a cache for one of ``count`` processes: the images held here, and a share of the budget that is left.

        Forked processes share the memory of the images held, so all of them together stay within the budget.
        """
        part = DecodedCache(self._bytes + (self.budget - self._bytes) // count)
        part._held, part._bytes = dict(self._held), self._bytes
        return part

    def __reduce__(self) -> tuple[type[DecodedCache], tuple[int]]:
        return DecodedCache, (self.budget - self._bytes,)
