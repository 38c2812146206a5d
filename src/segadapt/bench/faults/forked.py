"""Commands of segadapt in forked processes: everything is imported once, so a command costs what it does."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segadapt.bench.faults.planted import Planted

LIMIT = 60.0
"""Seconds after which a command counts as hanging; the longest takes about two on an idle machine."""
Entry = Callable[[], None]
"""The command: reads ``sys.argv`` and exits, as ``segadapt.cli.main``."""


@dataclass
class Ended:
    """A command that has ended.

    Attributes:
        code: exit status; negative for a signal.
        said, complained: what it printed on standard output and on standard error.
        hung: whether it had to be ended after :data:`LIMIT`.
        at: the moment of the fault; None if it did not happen.
        unflushed: files that were written and not flushed at that moment.
        steps: optimiser steps of the whole command; None if it was killed.
        moments: what it did, where that was asked for.
        late: seconds from a signal to the end.
    """

    code: int = 0
    said: str = ""
    complained: str = ""
    hung: bool = False
    at: Mapping[str, Any] | None = None
    unflushed: Sequence[str] = ()
    steps: int | None = None
    moments: Sequence[Mapping[str, Any]] = ()
    late: float | None = None

    @property
    def traceback(self) -> bool:
        """Whether a person would see a traceback, or a crash of the interpreter."""
        crashed = self.code in (-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS, -signal.SIGFPE)
        return "Traceback (most recent call last)" in self.complained or crashed

    @property
    def line(self) -> str:
        """The last line of the complaint."""
        lines = self.complained.strip().splitlines()
        return lines[-1] if lines else ""


@dataclass
class Command:
    """A command that runs in its own process.

    Attributes:
        pid: its process.
        pipes: reading ends of what :class:`Planted` tells, of standard output, and of standard error.
        ended: what is known of its end.
        begun, fault: when it was started, and when the fault happened.
        over: whether it has ended.
    """

    pid: int
    pipes: tuple[int, int, int]
    ended: Ended = field(default_factory=Ended)
    begun: float = field(default_factory=time.monotonic)
    fault: float | None = None
    over: bool = False
    _read: list[bytes] = field(default_factory=lambda: [b"", b"", b""])

    def look(self) -> bool:
        """Take in what the command told and printed so far; return whether it has ended."""
        if self.over:
            return True
        found, status = os.waitpid(self.pid, os.WNOHANG)
        for number, pipe in enumerate(self.pipes):
            with contextlib.suppress(BlockingIOError):
                while block := os.read(pipe, 1 << 16):
                    self._read[number] += block
        *lines, self._read[0] = self._read[0].split(b"\n")
        for line in map(json.loads, lines):
            if "at" in line and self.fault is None:
                self.fault = time.monotonic()
                self.ended.at, self.ended.unflushed = line["at"], line["unflushed"]
            if line.get("over"):
                self.ended.steps, self.ended.moments = line["steps"], line.get("moments", ())
        if found:
            self._close(status)
        return self.over

    def wait(self) -> Ended:
        """Wait for the end; a command that takes longer than :data:`LIMIT` is killed."""
        while not self.look():
            if time.monotonic() - self.begun > LIMIT:
                self.ended.hung = True
                os.kill(self.pid, signal.SIGKILL)
                self._close(os.waitpid(self.pid, 0)[1])
                break
            time.sleep(0.004)
        return self.ended

    def wait_for_fault(self) -> bool:
        """Wait until the fault happens; False if the command ends before."""
        while self.fault is None and not self.look() and time.monotonic() - self.begun < LIMIT:
            time.sleep(0.002)
        return self.fault is not None

    def _close(self, status: int) -> None:
        self.over = True
        for pipe in self.pipes:
            os.close(pipe)
        self.ended.code = os.waitstatus_to_exitcode(status)
        if self.fault is not None:
            self.ended.late = time.monotonic() - self.fault
        self.ended.said, self.ended.complained = (text.decode(errors="replace") for text in self._read[1:])


def start(
    entry: Entry,
    arguments: Sequence[object],
    folder: Path,
    planted: Planted | None = None,
    environment: Mapping[str, str] | None = None,
    trace: bool = False,
) -> Command:
    """Start a command in a forked process.

    Args:
        entry: the command itself.
        arguments: words after ``segadapt``.
        folder: its working folder; made where it is missing.
        planted: the fault, and what is watched.
        environment: variables to set.
        trace: tell all moments at the end.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pipes = [os.pipe() for _ in range(3)]
    for reading, _ in pipes:
        os.set_blocking(reading, False)
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        for _, writing in pipes:
            os.close(writing)
        return Command(pid, (pipes[0][0], pipes[1][0], pipes[2][0]))
    code = 70
    try:  # nothing of the child may come back into the parent's code
        for number, (_, writing) in enumerate(pipes[1:], 1):
            os.dup2(writing, number)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", encoding="utf-8", buffering=1) for number in (1, 2))
        os.chdir(folder)
        os.environ.update(environment or {})
        code = _child(entry, arguments, planted or Planted(()), pipes[0][1], trace)
    finally:
        os._exit(code)


def _child(entry: Entry, arguments: Sequence[object], planted: Planted, told: int, trace: bool) -> int:
    """Run the command in this process and return its exit status."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sys.argv = ["segadapt", *map(str, arguments)]
    planted.told = told
    planted.begin()
    try:
        entry()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    _end_as_python_does()
    planted.tell(over=True, **({"moments": [vars(m) for m in planted.moments]} if trace else {}))
    return code


def _end_as_python_does() -> None:
    """Wait for threads and run what was registered for the end, as the interpreter would."""
    import atexit
    import threading

    with contextlib.suppress(BaseException):
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and not thread.daemon:
                thread.join(10)
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()


def ranks(count: int, rank: int) -> dict[str, str]:
    """Return the environment that ``torchrun`` gives to a process of a run of ``count`` processes; see :func:`port`."""
    shared = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1"}
    return {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0"}


def port() -> str:
    """Return a free port for processes to meet at."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return str(place.getsockname()[1])
