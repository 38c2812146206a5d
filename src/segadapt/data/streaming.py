"""Running over a whole data set in constant memory: reading ahead of the caller, and writing behind it.

A pass decodes, computes and writes. Decoding and writing release the interpreter lock, and a GPU computes by itself; so
threads do the first for the images to come and the last for those that are done, while the caller computes. A pass then
takes as long as its slowest part, not as long as their sum::

    with Behind() as behind:
        for picture in ordered_map(decode, files, memory=HELD):
            behind.add(partial(write, compute(picture)))

What the caller sees is the same as without threads: results in their order, an error where its item stands, and nothing
left undone when the block ends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

from segadapt.core.cores import cores
from segadapt.data.dataset import DamagedFile

T = TypeVar("T")
R = TypeVar("R")

HELD = 256 << 20
"""Bytes that a pass over images holds ahead of the caller, and as many behind it: 40 images of 2048x1024."""


def default_threads() -> int:
    """Return how many decoding threads leave the machine usable; decoding releases the interpreter lock."""
    return min(8, cores())


def ordered_map(
    work: Callable[[T], R],
    items: Iterable[T],
    threads: int | None = None,
    ahead: int | None = None,
    memory: int | None = None,
) -> Generator[R]:
    """Yield ``work(item)`` of every item, in the order of the items, while threads work on the next ones.

    Args:
        work: called once per item; its exceptions are raised in place of its result.
        items: taken as they are needed.
        threads: how many; None takes :func:`default_threads`.
        ahead: results that are held, or in work, beside the one that is yielded; None takes two per thread.
        memory: bytes of results that may be ahead, if all are as large as the largest so far; one is always. None sets
            no limit. Arrays and tensors in a result, or in a tuple that is one, count.

    Example:
        >>> list(ordered_map(abs, [-1, 2, -3], threads=1, ahead=1))
        [1, 2, 3]
    """
    threads = threads or default_threads()
    most = 2 * threads if ahead is None else ahead
    allowed = most if memory is None else 1  # until the size of a result is known
    largest = 1

    def measured(future: Future[R]) -> R:
        nonlocal largest, allowed
        result = future.result()
        if memory is not None:
            largest = max(largest, size_of(result))
            allowed = max(1, min(most, memory // largest))
        return result

    pool = ThreadPoolExecutor(threads)
    pending: deque[Future[R]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(work, item))
            while len(pending) > allowed:
                yield measured(pending.popleft())
        while pending:
            yield measured(pending.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


class Behind:
    """Threads that do what the caller leaves to them while it goes on; few jobs wait at a time.

    What a job returns is handed on in the caller's thread, in the order of the jobs. So is its error: the next
    :meth:`add` or :meth:`finish` raises it, and jobs that have not begun are dropped. As a context manager it finishes
    when the block ends well, and otherwise drops what has not begun and waits for the rest.

    Args:
        threads: how many; None takes :func:`default_threads`.
        ahead: jobs that wait or are in work; None takes two per thread.
        memory: bytes that these jobs may hold; one job may hold more.
    """

    def __init__(self, threads: int | None = None, ahead: int | None = None, memory: int = HELD) -> None:
        self._threads = threads or default_threads()
        self._ahead, self._memory = ahead or 2 * self._threads, memory
        self._jobs: deque[tuple[Future[Any], Callable[[Any], object] | None, int]] = deque()
        self._pool: ThreadPoolExecutor | None = None
        self._held = 0

    def add(self, job: Callable[[], R], done: Callable[[R], object] | None = None, holds: int = 0) -> None:
        """Leave a job to the threads; waits while too many are not done.

        Args:
            job: called once, in a thread.
            done: called with its result, by a later :meth:`add` or :meth:`finish`.
            holds: bytes that the job keeps in memory until it is done.

        Raises:
            Exception: whatever an earlier job raised.
        """
        while self._jobs and (
            self._jobs[0][0].done() or len(self._jobs) >= self._ahead or self._held + holds > self._memory
        ):
            self._take()
        self._pool = self._pool or ThreadPoolExecutor(self._threads)
        self._jobs.append((self._pool.submit(job), done, holds))
        self._held += holds

    def finish(self) -> None:
        """Wait until all jobs are done.

        Raises:
            Exception: whatever a job raised.
        """
        while self._jobs:
            self._take()
        self.drop()

    def drop(self) -> None:
        """Drop the jobs that have not begun, and wait for those in work."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._jobs.clear()
        self._pool, self._held = None, 0

    def _take(self) -> None:
        """Wait for the oldest job and hand its result on."""
        future, done, holds = self._jobs.popleft()
        try:
            result = future.result()
            if done is not None:
                done(result)
        except BaseException:
            self.drop()
            raise
        self._held -= holds

    def __enter__(self) -> Behind:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish()
        else:
            self.drop()


def or_damage(read: Callable[[T], R]) -> Callable[[T], R | DamagedFile]:
    """Return ``read`` with the complaint about a damaged file as its result; the caller decides what follows."""

    def tried(item: T) -> R | DamagedFile:
        try:
            return read(item)
        except DamagedFile as problem:
            return problem

    return tried


def size_of(value: Any) -> int:
    """Return the bytes of an array or tensor, or of those in a tuple; 0 for anything else."""
    if isinstance(value, tuple):
        return sum(map(size_of, value))
    return int(getattr(value, "nbytes", 0))
