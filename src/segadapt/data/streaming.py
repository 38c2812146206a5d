"""Running over a whole data set in constant memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def default_threads() -> int:
    """Return how many decoding threads leave the machine usable; decoding releases the interpreter lock."""
    return min(8, os.cpu_count() or 1)


def ordered_map(
    work: Callable[[T], R], items: Iterable[T], threads: int | None = None, ahead: int | None = None
) -> Iterator[R]:
    """Yield ``work(item)`` of every item, in the order of the items, while threads work on the next ones.

    Args:
        work: called once per item; its exceptions are raised in place of its result.
        items: taken as they are needed.
        threads: how many; None takes :func:`default_threads`.
        ahead: results that are held, or in work, beside the one that is yielded; None takes two per thread.

    Example:
        >>> list(ordered_map(abs, [-1, 2, -3], threads=1, ahead=1))
        [1, 2, 3]
    """
    threads = threads or default_threads()
    ahead = 2 * threads if ahead is None else ahead
    pool = ThreadPoolExecutor(threads)
    pending: deque[Future[R]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
