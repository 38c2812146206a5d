"""SIGTERM and Ctrl-C: answered within a second wherever a process is, and in a training step after that step.

Outside training steps there is nothing to save that is not on the disk already, so a signal ends the work where it
is: it raises :class:`~segadapt.errors.Stopped` in the main thread. A thread watches for the command whether that
happens; the main thread may be in a library that does not listen, e.g. wait for another process. Where it does not
happen, and where a step hangs, the thread ends the process, which leaves on the disk what SIGKILL would.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from types import FrameType
from typing import NoReturn

from segadapt.errors import Stopped

SIGNALS = (signal.SIGTERM, signal.SIGINT)
GRACE = 0.8
"""Seconds that the main thread has to answer a signal."""
PATIENCE = 4.0
"""Seconds that it has to leave what it does, once it has answered."""
_EVERY = 0.05
"""Seconds between two looks at a step that was asked to be the last."""

Note = Callable[[int], None]


class _Here:
    """The state of this process: who takes signals, and when one was answered last."""

    owner = 0
    note: Note | None = None
    hangs: Callable[[], bool] | None = None
    hurried = True
    answered = 0.0
    raised: str | None = None


@contextlib.contextmanager
def answering() -> Iterator[None]:
    """Let SIGTERM and SIGINT raise Stopped in the block; outside the main thread the caller's handlers stay."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before, owner = {number: signal.signal(number, _answer) for number in SIGNALS}, _Here.owner
    _Here.owner = os.getpid()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _Here.owner = owner


@contextlib.contextmanager
def noting(note: Note, hangs: Callable[[], bool] | None = None) -> Iterator[None]:
    """Let ``note`` take the number of a signal in the block, which goes on: a training step is finished first.

    Args:
        note: takes the number; raises Stopped where the block is to end at once, as for a second Ctrl-C.
        hangs: says whether the block waits for what does not come, so that it is not waited for; called in a thread.
    """
    before = _Here.note, _Here.hangs
    _Here.note, _Here.hangs = note, hangs
    try:
        yield
    finally:
        _Here.note, _Here.hangs = before


@contextlib.contextmanager
def unhurried() -> Iterator[None]:
    """Let the block take its time once it was stopped, e.g. to wait for processes that save their states."""
    before, _Here.hurried = _Here.hurried, False
    try:
        yield
    finally:
        _Here.hurried = before


def stopped_by(number: int) -> str:
    """Return the line about a signal that ended a command."""
    name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
    return f"stopped by {name}; what was finished stays, and the same command goes on from there"


def _answer(number: int, frame: FrameType | None) -> None:
    if os.getpid() != _Here.owner:  # a process that was forked from the one that answers: it ends with that one
        if number == signal.SIGTERM:
            os._exit(128 + number)
        return
    _Here.answered = time.monotonic()
    if _Here.note is not None:
        _Here.note(number)
        return
    _Here.raised = stopped_by(number)
    raise Stopped(_Here.raised)


def was_stopped() -> str | None:
    """Return the line about the signal that ended a command; None where none did.

    A library that is interrupted, e.g. while it is imported, may raise an exception of its own instead.
    """
    return _Here.raised


@contextlib.contextmanager
def watched(say: Callable[[str], None]) -> Iterator[None]:
    """Answer signals in the block, and end the process where it does not: for commands, in the main thread.

    Args:
        say: prints a line; called in a thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _Here.raised = None
    ear, mouth = socket.socketpair()
    for end in (ear, mouth):
        end.setblocking(end is ear)
    thread = threading.Thread(target=_watch, args=(ear, say), daemon=True)
    thread.start()
    before = signal.set_wakeup_fd(mouth.fileno(), warn_on_full_buffer=False)
    _prepare_forks()
    try:
        with answering():
            yield
    finally:
        signal.set_wakeup_fd(before)
        mouth.close()
        thread.join(GRACE)
        ear.close()


@cache
def _prepare_forks() -> None:
    """Keep forked processes from waking this one with their own signals, from their first moment on."""
    masks = threading.local()

    def hush() -> None:
        masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)

    def listen() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, masks.before)

    def deafen() -> None:
        with contextlib.suppress(ValueError):
            signal.set_wakeup_fd(-1)
        listen()

    os.register_at_fork(before=hush, after_in_parent=listen, after_in_child=deafen)


def _watch(ear: socket.socket, say: Callable[[str], None]) -> None:
    """Wait for signals; end the process where the main thread does not."""
    while number := _heard(ear):
        came = time.monotonic()
        if _Here.note is not None:
            say(f"{signal.Signals(number).name}: it stops after the step that it is at, and saves the state")
            if _in_last_step(ear, number, say):
                continue
            return
        if not _Here.hurried:
            say(f"{signal.Signals(number).name}: it stops as soon as what it started has")
            continue
        while _Here.answered < came - GRACE and time.monotonic() < came + GRACE:
            time.sleep(0.02)
        if _Here.answered < came - GRACE:
            _end(stopped_by(number), say)
        if _gone(ear, PATIENCE):
            return
        _end(stopped_by(number), say)


def _in_last_step(ear: socket.socket, number: int, say: Callable[[str], None]) -> bool:
    """Wait for the end of the step in which a signal came; end the process where it hangs, or at a second Ctrl-C.

    Returns:
        Whether the block of :func:`watched` goes on.
    """
    latest = time.monotonic() + GRACE
    insisted = False
    while _Here.note is not None:
        further = _heard(ear, _EVERY)
        if further == 0:
            return False
        if further == signal.SIGINT and not insisted:
            insisted, latest = True, time.monotonic() + GRACE
        if time.monotonic() < latest:
            continue
        if insisted:
            _end(stopped_by(signal.SIGINT), say)
        if _Here.hangs is not None and _Here.hangs():
            name = signal.Signals(number).name
            _end(
                f"stopped by {name}; the step that it was at takes too long, as if another process hung; the same "
                "command goes on from the last checkpoint",
                say,
            )
    return True


def _end(line: str, say: Callable[[str], None]) -> NoReturn:
    """End the process from a thread: the main thread does not listen."""
    say(line)
    os._exit(1)


def _gone(ear: socket.socket, seconds: float) -> bool:
    """Return whether the block of :func:`watched` ends within some seconds; further signals do not count."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if _heard(ear, left) == 0:
            return True
    return False


def _heard(ear: socket.socket, seconds: float | None = None) -> int | None:
    """Return the number of the next signal; 0 when the block of :func:`watched` has ended, None if none came so far."""
    ear.settimeout(seconds)
    try:
        while heard := ear.recv(1):
            if heard[0] in SIGNALS:
                return heard[0]
    except TimeoutError:
        return None
    return 0
