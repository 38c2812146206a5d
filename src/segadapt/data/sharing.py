"""Running over a whole data set with the other processes of a run: each does a part, and all get the whole.

The engine says who the others are (:func:`shared_among`); without, or with one process, everything is done here. They
are known by the context, not handed on, because what needs them lies deep in this layer and may not know the engine.
:class:`segadapt.engine.together.Together` is for passes above, which also end together: it is an object of one pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar, cast

import numpy as np
import numpy.typing as npt

from segadapt.data.streaming import ordered_map
from segadapt.errors import RequestError

_MESSAGE = 8 << 20
"""Bytes that a process sends at a time, about."""
T = TypeVar("T")
R = TypeVar("R")


class Team(Protocol):
    """Processes that do the same; :class:`segadapt.engine.runtime.Runtime` is one."""

    @property
    def processes(self) -> int:
        """How many there are."""

    def share(self, count: int) -> range:
        """Return which of so many items are this process's."""

    def gather(self, words: Sequence[T]) -> list[T]:
        """Return the values of all processes, in the order of their ranks, in every process."""


_TEAM: ContextVar[Team | None] = ContextVar("team", default=None)


@contextmanager
def shared_among(team: Team) -> Iterator[None]:
    """Let the functions below divide their work in the block, which all processes of the team run alike."""
    token = _TEAM.set(team if team.processes > 1 else None)
    try:
        yield
    finally:
        _TEAM.reset(token)


def own_items(count: int) -> range:
    """Return which of so many items are this process's; without a team, all of them."""
    team = _TEAM.get()
    return range(count) if team is None else team.share(count)


def exchanged(values: Sequence[T]) -> list[T]:
    """Return the values of all processes of the team, in the order of their ranks; each must call it."""
    team = _TEAM.get()
    return list(values) if team is None else team.gather(values)


def add_up(counts: npt.NDArray[np.integer[Any]]) -> None:
    """Add arrays [N, ...] over the processes of the team, in place, some rows at a time; each must call it."""
    if _TEAM.get() is None:
        return
    rows = max(1, _MESSAGE * len(counts) // max(counts.nbytes, 1))
    for first in range(0, len(counts), rows):
        block = counts[first : first + rows]
        block[:] = np.sum(exchanged([block.copy()]), 0)


def shared_map(work: Callable[[T], R], items: Sequence[T], threads: int | None = None) -> Iterator[R]:
    """Yield ``work(item)`` of every item in order; the processes of a team do a part each and exchange the results.

    Args:
        work: called once per item, in one of the processes; RequestErrors are raised in place of its result, in all of
            them. Results are sent to the other processes, so they must be small.
        items: the same in every process.
        threads: of each process; see :func:`ordered_map`.
    """
    team = _TEAM.get()
    if team is None:
        yield from ordered_map(work, items, threads)
        return

    def told(place: int) -> tuple[int, R | None, RequestError | None]:
        try:
            return place, work(items[place]), None
        except RequestError as problem:
            return place, None, problem

    for _, result, problem in sorted(exchanged(list(ordered_map(told, own_items(len(items)), threads))), key=_place):
        if problem is not None:
            raise problem
        yield cast("R", result)


def _place(found: tuple[int, Any, Any]) -> int:
    return found[0]
