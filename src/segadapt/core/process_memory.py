"""The peak memory of this process, forgotten so that the peak of what follows can be read."""

from __future__ import annotations

import contextlib
import ctypes
from pathlib import Path

_CLEAR = Path("/proc/self/clear_refs")
_PEAK = "5"
"""What Linux resets for this number: the peak of the resident size (proc(5))."""


def forget_process_peak() -> None:
    """Give back memory that is free, and let the peak of the resident size begin anew; without effect beside Linux."""
    with contextlib.suppress(OSError, AttributeError):  # AttributeError: another C library than glibc
        ctypes.CDLL(None).malloc_trim(0)
    with contextlib.suppress(OSError):
        _CLEAR.write_text(_PEAK)
