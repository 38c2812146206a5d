"""Work on many images that several processes share, and that they end together.

In training steps the processes exchange a message per step, which carries the wishes of each. A pass has no messages:
each process goes over its own share. So the one that fails, or is asked to stop, leaves a note, and the others look for
notes between two images.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, overload

import torch

from segadapt.errors import Interrupted, PeerGone, RunError, first_line

if TYPE_CHECKING:
    from torch import Tensor

    from segadapt.engine.runtime import Runtime
    from segadapt.engine.stopping import StopRequest

T = TypeVar("T")

_EVERY = 0.1
"""Seconds between two looks for notes; a look asks the machine of the first process."""
_PATIENCE = 3.0
"""Seconds that a failed process waits until the others have seen its note, so that folders are left tidy."""
_ASKED = ("Interrupted", "Stopped", "KeyboardInterrupt")
"""Names of what ends a process that was asked to."""
_numbers = itertools.count()


class Together:
    """Shares work among the processes of a run, and lets them end together; a context manager around the work.

    Every process must make it, and call its methods but :meth:`look` and :meth:`share`, at the same place.

    Args:
        runtime: runtime of this process; None for a process that works alone.
        stop: notes signals to this process; None leaves them to whoever handles them.

    Attributes:
        main: whether this process writes what all of them share.
    """

    def __init__(self, runtime: Runtime | None = None, stop: StopRequest | None = None) -> None:
        self._runtime, self._stop = runtime, stop
        self._rank, self._processes = (0, 1) if runtime is None else (runtime.rank, runtime.processes)
        self.main = self._rank == 0
        self._store: Any = None
        if self._processes > 1:
            self._store = torch.distributed.distributed_c10d._get_default_store()
        self._key = f"segadapt/{next(_numbers)}"
        self._meetings, self._looked, self._ended = 0, time.monotonic(), False

    def look(self) -> None:
        """Go on, or end with the others; to be called between two images.

        Raises:
            Interrupted: this process, or another one, was asked to stop.
            RunError: another process failed.
        """
        if self._stop is not None and self._stop.asked:
            raise Interrupted("stopped in the middle of a pass; what is written stays, and the pass can be repeated")
        now = time.monotonic()
        if now - self._looked >= _EVERY:
            self._looked = now
            note = self._note()
            if note is not None:
                raise note

    @overload
    def share(self, items: range) -> range: ...

    @overload
    def share(self, items: Sequence[T]) -> Sequence[T]: ...

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """Return the items that this process works on; see :meth:`segadapt.engine.runtime.Runtime.share`."""
        own = range(len(items)) if self._runtime is None else self._runtime.share(len(items))
        return items[own.start :: own.step]

    def meet(self) -> None:
        """Wait for the other processes, which may take long, and end with them where one of them fails."""
        if self._store is None:
            return
        place = f"{self._key}/met/{self._meetings}"
        self._meetings += 1
        there = self._store.add(place, 1)
        while there < self._processes:
            time.sleep(_EVERY / 5)
            self.look()
            there = self._store.add(place, 0)

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Add tensors over all processes, in place, when all are there."""
        self.meet()
        if self._runtime is not None:
            self._runtime.sum(tensors)

    def merged(self, found: Mapping[str, T]) -> dict[str, T]:
        """Return the entries of all processes, which must be JSON values; ``found``: those of this process."""
        self.meet()
        if self._runtime is None:
            return dict(found)
        return {
            key: value for part in self._runtime.gather([json.dumps(found)]) for key, value in json.loads(part).items()
        }

    @contextmanager
    def ending(self) -> Iterator[None]:
        """End with the others where the block fails: what the caller does afterwards, nobody disturbs."""
        try:
            yield
        except BaseException as problem:
            self._end(problem)
            raise

    def __enter__(self) -> Together:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if problem is not None:
            self._end(problem)

    def _end(self, problem: BaseException) -> None:
        """Tell the others of a failure, once, and wait for them; raise theirs if it is why this process failed."""
        if self._store is None or self._ended:
            return
        self._ended = True
        note = self._note()
        self._leave(f"{type(problem).__name__} process {self._rank}: {first_line(problem)}")
        if note is not None and isinstance(problem, (RuntimeError, PeerGone)):
            raise note from problem  # a message to a process that is gone failed

    def _note(self) -> RunError | None:
        """Return what another process that has failed or stopped says; None if all go on."""
        try:
            if self._store is None or not self._store.check([self._key]):
                return None
            kind, said = self._store.get(self._key).decode().split(" ", 1)
        except RuntimeError:  # the first process, which keeps the notes, is gone
            return RunError("ended with the first process of the run, which says why")
        return (Interrupted if kind in _ASKED else RunError)(f"ended with the others: {said}")

    def _leave(self, note: str) -> None:
        """Leave a note unless there is one, and give the others time to see it; the first process goes last."""
        until = time.monotonic() + _PATIENCE
        try:
            self._store.compare_set(self._key, "", note)
            self._count_to(f"{self._key}/gone", self._processes, 1, until)
            last = self._rank == 0  # it may be the one that keeps the notes
            self._count_to(f"{self._key}/left", self._processes - 1 if last else 0, 0 if last else 1, until)
        except RuntimeError:  # the first process, which keeps the notes, is gone
            return

    def _count_to(self, name: str, wanted: int, own: int, until: float) -> None:
        """Add ``own`` to a counter, and wait until it is as high as wanted, or until it is late."""
        count = self._store.add(name, own)
        while count < wanted and time.monotonic() < until:
            time.sleep(_EVERY / 5)
            count = self._store.add(name, 0)
