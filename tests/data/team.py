"""A team of processes, played by threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Barrier
from typing import Any, TypeVar

from segadapt.data.sharing import shared_among

R = TypeVar("R")


@dataclass
class Member:
    """One of the processes; what is gathered is exchanged as soon as all have come."""

    rank: int
    table: list[Any]
    barrier: Barrier

    @property
    def processes(self) -> int:
        return len(self.table)

    def share(self, count: int) -> range:
        return range(self.rank, count, self.processes)

    def gather(self, words: Sequence[Any]) -> list[Any]:
        self.table[self.rank] = list(words)
        self.barrier.wait(20)
        found = [word for part in self.table for word in part]
        self.barrier.wait(20)
        return found


def as_team(processes: int, work: Callable[[int], R]) -> list[R]:
    """Run ``work(rank)`` in every process of a team; return the results by rank."""
    table, barrier = [None] * processes, Barrier(processes)

    def run(rank: int) -> R:
        with shared_among(Member(rank, table, barrier)):
            return work(rank)

    with ThreadPoolExecutor(processes) as pool:
        return list(pool.map(run, range(processes)))
