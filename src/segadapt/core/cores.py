"""The processor cores that this process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""File in which a container finds its share of the processor: microseconds of work per so many of time."""


def cores() -> int:
    """Return the processor cores that this process may use: those it is bound to, and no more than its container has.

    At least 1. A container with half a core counts as one with a core.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        work, time = _QUOTA.read_text().split()
        return max(1, min(bound, math.ceil(int(work) / int(time))))
    except (OSError, ValueError):  # no container, or one without a limit, which says "max"
        return bound
