"""Planted in a forked command: it counts what the command does, and at one of these moments the fault happens.

A moment is anything that touches the files of the run or of the data, a pass through a network, a step of an
optimiser, or a flush to the disk. They are heard through Python's audit events and torch's own hooks, so no line of
the library knows of the bench, and what is written in a new place is heard too.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

PHASES: tuple[tuple[str, str], ...] = (
    ("segadapt.engine.checkpoint", "checkpoint"),
    ("segadapt.engine.label_store", "labels"),
    ("segadapt.engine.stored", "labels"),
    ("segadapt.evaluation.scoring", "scoring"),
    ("segadapt.engine.passes", "passes"),
    ("segadapt.runs.guard", "judging"),
    ("segadapt.runs.before_after", "judging"),
    ("segadapt.report", "report"),
    ("segadapt.engine.loop", "steps"),
    ("segadapt.models.store", "model"),
    ("segadapt.runs.stage", "finishing"),
    ("segadapt.runs.opening", "reading"),
    ("segadapt.runs.overview", "reading"),
)
"""Phase of a moment by the innermost of these modules that is at work; everything else is ``start`` or ``end``."""
_MAKES = os.O_CREAT | os.O_TRUNC | os.O_APPEND
_WRITES = os.O_WRONLY | os.O_RDWR | _MAKES
_MOVES = ("os.rename", "os.link", "os.symlink")
_HEARD = {
    *("open", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.listdir", "os.scandir", "shutil.rmtree"),
    *("shutil.copyfile", *_MOVES),
}


@dataclass
class Moment:
    """One thing that a command does.

    Attributes:
        number: how many came before it in this process.
        what: e.g. ``open``, ``forward``, ``step``, ``flush``.
        phase: part of the run, see :data:`PHASES`.
    """

    number: int
    what: str
    phase: str


Act = Callable[["Planted", str], None]


@dataclass
class Planted:
    """Counts the moments of this process.

    Attributes:
        watched: folders whose files count.
        at: number of the moment at which ``act`` is called; -1 never.
        act: the fault.
        moments: what was counted so far.
        steps: steps of optimisers so far.
        unflushed: files that were written and not flushed to the disk yet.
        full: whether the disk is full from now on.
        told: a file descriptor that gets one line of JSON, when the fault happens and at the end.
    """

    watched: tuple[str, ...]
    at: int = -1
    act: Act | None = None  # None where the process that judges does it
    told: int = -1
    moments: list[Moment] = field(default_factory=list)
    steps: int = 0
    unflushed: set[str] = field(default_factory=set)
    full: bool = False
    _thread: int = 0
    _busy: bool = False

    def begin(self) -> None:
        """Begin to listen, until the process ends."""
        import torch.optim.optimizer as optimizer
        from torch.nn.modules.module import register_module_forward_pre_hook

        from segadapt.models.segmenter import Segmenter

        self._thread = threading.get_ident()
        for name in ("fsync", "fdatasync"):
            setattr(os, name, self._flush)
        os.sync = self._sync
        register_module_forward_pre_hook(
            lambda module, _: self.note("forward") if isinstance(module, Segmenter) else None
        )
        optimizer.register_optimizer_step_pre_hook(lambda *_: self.note("step"))
        optimizer.register_optimizer_step_post_hook(lambda *_: self._stepped())
        sys.addaudithook(self._hear)

    def tell(self, **values: Any) -> None:
        """Write what is known to the process that judges."""
        known = {"steps": self.steps, "count": len(self.moments), **values}
        os.write(self.told, (json.dumps(known) + "\n").encode())

    def note(self, what: str) -> None:
        """Count a moment of the main thread, and let the fault happen if it is the one."""
        if threading.get_ident() != self._thread or self._busy:
            return
        self._busy = True
        try:
            moment = Moment(len(self.moments), what, phase_of(sys._getframe(1), bool(self.steps)))
        finally:
            self._busy = False
        self.moments.append(moment)
        if moment.number == self.at:
            self.tell(at=vars(moment), unflushed=sorted(self.unflushed))
            if self.act is not None:
                self.act(self, what)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Take an audit event of any thread."""
        if event not in _HEARD or not arguments or self._busy:
            return
        path = _path(arguments[0])
        if path is None or not path.startswith(self.watched):
            return
        writes = event != "open" or bool((arguments[2] or 0) & _WRITES)
        self.note(event.removeprefix("os.").removeprefix("shutil."))
        if event in ("os.listdir", "os.scandir", "os.remove", "os.rmdir", "shutil.rmtree"):
            return
        if writes and self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        if event == "open" and (arguments[2] or 0) & _MAKES:  # a file that is opened to be flushed has no new content
            self.unflushed.add(path)
        if event == "os.rename" and path in self.unflushed:
            self.unflushed.discard(path)
            self.unflushed.add(_path(arguments[1]) or path)

    def _flush(self, file: Any) -> None:
        """Stand in for fsync: whatever a killed process has written the system has, so nobody waits for the disk."""
        number = file if isinstance(file, int) else file.fileno()
        path = os.readlink(f"/proc/self/fd/{number}")  # noqa: PTH115
        if path.startswith(self.watched):
            self.note("flush")
            if self.full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.unflushed.discard(path)

    def _sync(self) -> None:
        self.note("flush")
        self.unflushed.clear()

    def _stepped(self) -> None:
        self.steps += 1


def _path(value: Any) -> str | None:
    """Return an absolute path; None for a file descriptor."""
    if isinstance(value, int):
        return None
    try:
        return os.path.abspath(os.fsdecode(value))  # noqa: PTH100
    except (TypeError, ValueError):
        return None


def phase_of(frame: FrameType | None, started: bool) -> str:
    """Return the phase that a stack of calls belongs to; ``started``: whether a step was done before."""
    known = dict(PHASES)
    while frame is not None:
        module = str(frame.f_globals.get("__name__"))
        found = known.get(module) or known.get(module.rpartition(".")[0])
        if found:
            return found
        frame = frame.f_back
    return "end" if started else "start"


# ---- faults ----


def signalled(number: int) -> Act:
    """Return a signal to this process."""

    def act(planted: Planted, what: str) -> None:
        os.kill(os.getpid(), number)

    return act


def disk_full(planted: Planted, what: str) -> None:
    """From now on every file that is made, and every flush, finds no space."""
    planted.full = True


def limited(size: int) -> Act:
    """Return a disk on which no file grows beyond ``size`` bytes from now on, so that a write ends in its middle."""

    def act(planted: Planted, what: str) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return act


def waiting(planted: Planted, what: str) -> None:
    """Stop here until another process sends SIGCONT."""
    os.kill(os.getpid(), signal.SIGSTOP)


def folders(*paths: Path) -> tuple[str, ...]:
    """Return the prefixes of the paths that count."""
    return tuple(f"{path}{os.sep}" for path in paths)
