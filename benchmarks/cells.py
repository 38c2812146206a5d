"""What the measured sections of several pages say alike: a mean over seeds, and the machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean, stdev


def cell(scores: Mapping[int, float], seeds: Sequence[int]) -> str:
    """Return the mean over seeds with the sample standard deviation, and which seeds where some are missing.

    Args:
        scores: by seed.
        seeds: those that the table is about.

    Example:
        >>> cell({0: 38.0, 1: 40.0, 2: 39.0}, [0, 1, 2]), cell({1: 40.0}, [0, 1]), cell({}, [0])
        ('39.0 ± 1.0', '40.0 (seed 1)', '-')
    """
    if not scores:
        return "-"
    spread = f" ± {stdev(scores.values()):.1f}" if len(scores) > 1 else ""
    those = f" (seed{'s' * (len(scores) > 1)} {', '.join(map(str, sorted(scores)))})"
    return f"{mean(scores.values()):.1f}{spread}{those if len(scores) < len(seeds) else ''}"


def in_words(machine: Mapping[str, object]) -> str:
    """Return the machine of a measurement in one line."""
    return ", ".join(f"{key} {value}" for key, value in machine.items())
