"""The points of the bench, drawn by a seed: which fault, in which method, in which phase, and how to go on."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

KINDS: Mapping[str, str] = {
    "kill": "SIGKILL at a moment, or up to 40 ms after it",
    "stop": "SIGTERM or Ctrl-C at a moment",
    "power": "SIGKILL at a moment, and of files that were not flushed to the disk only the beginning is left",
    "disk": "no space for new files and flushes, or for the rest of a file, from a moment on",
    "damage": "a file of the run with flipped bits, cut, emptied, replaced, removed, or with JSON of another shape",
    "together": "a second command with the same folder while the first is at a moment",
    "ranks": "SIGKILL or SIGTERM for one of two processes, or for both; or one hangs, and the other is stopped",
    "hostile": "files and names that no honest data set has",
}
"""Kinds of faults, by name."""
_CYCLE = (
    *("kill", "damage", "stop", "disk", "hostile", "power", "kill", "damage", "disk", "together", "stop", "damage"),
    *("kill", "ranks", "power", "disk", "damage", "hostile", "stop", "kill", "damage", "power", "disk", "ranks"),
)
"""Kinds in the order in which points have them, so that a few points have all."""


@dataclass(frozen=True)
class Point:
    """One fault.

    Attributes:
        number: of the point.
        kind: one of :data:`KINDS`.
        method: the method that runs.
        seed: seed of everything else about it.
    """

    number: int
    kind: str
    method: str
    seed: str

    @property
    def generator(self) -> random.Random:
        """Random numbers of this point, from the beginning."""
        return random.Random(self.seed)

    @property
    def turn(self) -> int:
        """The number of points of the same kind that come before."""
        rounds, place = divmod(self.number, len(_CYCLE))
        return rounds * _CYCLE.count(self.kind) + _CYCLE[:place].count(self.kind)


def draw(seed: int, number: int, methods: Sequence[str]) -> Point:
    """Return a point; it depends on nothing but the seed and its number."""
    turn = number // len(methods)
    order = list(methods)
    random.Random(f"{seed}/{turn}").shuffle(order)
    return Point(number, _CYCLE[number % len(_CYCLE)], order[number % len(methods)], f"{seed}/point/{number}")


def moment_of(generator: random.Random, moments: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Draw a moment: first a phase, then one of its moments, so that short phases are as frequent as long ones."""
    phases = list(dict.fromkeys(moment["phase"] for moment in moments))
    phase = generator.choice(phases)
    return generator.choice([moment for moment in moments if moment["phase"] == phase])
