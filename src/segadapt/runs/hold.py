"""The hold of a process on the folder of a run: it alone writes there, or it only reads a finished run."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from pathlib import Path

from segadapt.core.files import remove_partial, writable
from segadapt.core.locking import lock, unlock
from segadapt.engine.run_files import DONE
from segadapt.engine.runtime import Runtime
from segadapt.errors import RequestError, RunError


class Hold:
    """The hold of this process on the folder of a run, until :meth:`end`, or until nobody uses it any more.

    Every process of a run must make it; the main one locks the folder. A finished run in a folder that nobody can
    write into is read.

    Args:
        out: folder of the run.
        runtime: runtime of this process.
        stages: names of the run's stages.

    Attributes:
        read_only: whether nothing is written.
        writes: whether this process writes the files of the run.

    Raises:
        RequestError: another command writes there, or nothing can be written there and the run is not finished.
        RunError: the lock cannot be written.
    """

    def __init__(self, out: Path, runtime: Runtime, stages: Sequence[str]) -> None:
        finished = all((out / "stages" / name / DONE).exists() for name in stages)
        self.read_only = finished and not writable(out)
        self.writes = runtime.main and not self.read_only
        said = ""
        self._end = None
        if self.writes:
            try:
                held = lock(out)
            except (RequestError, RunError) as problem:
                said = f"{type(problem).__name__} {problem}"
            else:
                self._end = weakref.finalize(self, unlock, held)
                remove_partial(out)
        if problems := [line for line in runtime.gather([said]) if line]:
            kind, text = problems[0].split(" ", 1)
            raise (RequestError if kind == RequestError.__name__ else RunError)(text)

    def end(self) -> None:
        """Let others write into the folder; a second call does nothing."""
        if self._end is not None:
            self._end()
