"""Passes that all processes end together: a request to stop, or a failure of one, is seen between two images.

In training steps the processes exchange a message per step, which carries such wishes. A pass has no messages: each
process goes over its own share. So the one that fails writes a line where the others look, and they end with it.
"""

from __future__ import annotations

import itertools
import time
from types import TracebackType
from typing import Any

import torch

from segadapt.engine.runtime import Runtime
from segadapt.engine.stopping import StopRequest
from segadapt.errors import Interrupted, RunError, first_line

_EVERY = 0.1
"""Seconds between two looks for the other processes; a look asks the main process's machine."""
_PATIENCE = 3.0
"""Seconds that a failed process waits until the others have seen it, so that all leave their folders tidy."""
_numbers = itertools.count()


class Together:
    """Lets the processes of a run end together; a context manager around passes.

    Every process must make it at the same place.

    Args:
        runtime: runtime of this process.
        stop: notes signals to this process; None leaves them to whoever handles them.
    """

    def __init__(self, runtime: Runtime, stop: StopRequest | None = None) -> None:
        self._runtime, self._stop = runtime, stop
        self._store: Any = None
        if runtime.processes > 1:
            self._store = torch.distributed.distributed_c10d._get_default_store()
        self._key = f"segadapt/ended/{next(_numbers)}"
        self._looked = time.monotonic()

    def look(self) -> None:
        """Go on, or end with the others; to be called between two images.

        Raises:
            Interrupted: this process, or another one, was asked to stop.
            RunError: another process failed.
        """
        if self._stop is not None and self._stop.asked:
            raise Interrupted("stopped in the middle of a pass; what is written stays, and the pass can be repeated")
        now = time.monotonic()
        if self._store is None or now - self._looked < _EVERY:
            return
        self._looked = now
        if self._store.check([self._key]):
            kind, said = self._store.get(self._key).decode().split(" ", 1)
            raise (Interrupted if kind == Interrupted.__name__ else RunError)(f"ended with the others: {said}")

    def __enter__(self) -> Together:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if problem is not None and self._store is not None:
            self._tell(problem)

    def _tell(self, problem: BaseException) -> None:
        """Let the others know, and give them time to end."""
        try:
            said = f"{type(problem).__name__} process {self._runtime.rank}: {first_line(problem)}"
            self._store.compare_set(self._key, "", said)
            until = time.monotonic() + _PATIENCE
            gone = self._store.add(f"{self._key}/gone", 1)
            while gone < self._runtime.processes and time.monotonic() < until:
                time.sleep(_EVERY / 2)
                gone = self._store.add(f"{self._key}/gone", 0)
        except RuntimeError:  # the main process, which holds the notes, has gone already
            return
