"""One writer per folder: a file in the folder names the process that writes there.

It works wherever a file can be made that was not there before, so also on network folders without ``flock``. The lock
of a process that has died is taken over: on the same machine its number and start time tell; of another machine, the
time of the file does, which its owner renews while it lives.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from segadapt.core.files import claim_file, read_json, take_away
from segadapt.errors import RequestError, RunError

LOCK = ".lock"
BEAT = 5.0
"""Seconds between two signs of life of an owner."""
SILENCE = 6 * BEAT
"""Seconds without a sign after which the owner on another machine counts as dead."""

_held: dict[Path, Lock] = {}
_guard = threading.Lock()


class Lock:
    """The lock that this process holds on a folder; made by :func:`locked` or :func:`lock`."""

    def __init__(self, file: Path) -> None:
        self.file, self.users = file, 0
        self._ended = threading.Event()
        self._made: Path | None = None
        self._token = uuid.uuid4().hex

    def take(self) -> None:
        """Make the lock's file, over the one of a dead process.

        Raises:
            RequestError: a process that lives holds it.
            RunError: the file cannot be made.
        """
        self._made = next((p for p in reversed([self.file.parent, *self.file.parent.parents]) if not p.exists()), None)
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            content = json.dumps({"token": self._token, **_this_process()}).encode()
            while not claim_file(self.file, content):
                _wait_for_death(self.file)
        except OSError as problem:
            raise RunError(
                f"'{self.file}' cannot be written: {problem.strerror or problem}; free or change that place and start "
                "again"
            ) from None
        threading.Thread(target=self._live, name="lock", daemon=True).start()

    def _live(self) -> None:
        while not self._ended.wait(BEAT):
            with contextlib.suppress(OSError):
                os.utime(self.file)

    def release(self) -> None:
        """Remove the file, if it still is this lock's, and a folder that was made for it alone."""
        self._ended.set()
        held = read_json(self.file)
        if isinstance(held, dict) and held.get("token") == self._token:
            with contextlib.suppress(OSError):
                self.file.unlink()
        place = self.file.parent
        with contextlib.suppress(OSError):
            while self._made is not None and place.is_relative_to(self._made):
                place.rmdir()
                place = place.parent


def lock(folder: Path) -> Lock:
    """Lock a folder for this process, which may lock it several times; :func:`unlock` ends it.

    Args:
        folder: made where it is missing.

    Raises:
        RequestError: another process writes there; names it.
        RunError: nothing can be written there.
    """
    file = folder.absolute() / LOCK
    with _guard:
        held = _held.get(file)
        if held is None or not held.file.exists():
            held = Lock(file)
            held.take()
            _held[file] = held
        held.users += 1
        return held


def unlock(held: Lock) -> None:
    """End one use of a lock; the last one removes it."""
    with _guard:
        held.users -= 1
        if held.users == 0:
            _held.pop(held.file, None)
            held.release()


@contextlib.contextmanager
def locked(folder: Path, main: bool = True) -> Iterator[None]:
    """Lock a folder in the block, by the main process of several; see :func:`lock`."""
    held = lock(folder) if main else None
    try:
        yield
    finally:
        if held is not None:
            unlock(held)


def _this_process() -> dict[str, Any]:
    pid = os.getpid()
    return {"pid": pid, "since": _since(pid), "host": socket.gethostname(), "machine": _machine()}


def _machine() -> str:
    """Return what tells apart machines, their starts, and containers on them that number processes by themselves."""
    found = [socket.gethostname()]
    with contextlib.suppress(OSError):
        found.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with contextlib.suppress(OSError):
        found.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(found)


def _since(pid: int) -> str | None:
    """Return the start time of a process; None where the system does not tell, "" for one that has ended."""
    if not Path("/proc/self/stat").exists():
        return None
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in ("Z", "X") else fields[19]


def _lives(held: dict[str, Any]) -> bool:
    """Return whether the process on this machine that a lock names is there still."""
    pid, since = int(held["pid"]), _since(int(held["pid"]))
    if since is not None:
        return bool(since) and since == held["since"] and pid != os.getpid()
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return pid != os.getpid()


def _wait_for_death(file: Path) -> None:
    """Remove the lock of a dead process.

    Raises:
        RequestError: its process lives.
    """
    held = read_json(file)
    named = isinstance(held, dict) and {"pid", "since", "host", "machine", "token"} <= held.keys()
    here = named and held["machine"] == _machine()  # or else of another machine, or cut off while it was made
    if _lives(held) if here else not _silent(file):
        who = f"process {held['pid']} on {held['host']}" if named else "another process"
        raise RequestError(
            f"{who} writes into '{file.parent}' at the moment; wait until it is done, or choose another folder "
            f"(if there is no such process, remove '{file}')"
        )
    take_away(file, held)


def _silent(file: Path) -> bool:
    """Return whether the file of a lock shows no sign of life for a while; clocks of machines are not compared."""
    first = _time_of(file)
    until = time.monotonic() + SILENCE
    while time.monotonic() < until:
        if _time_of(file) != first:
            return False
        time.sleep(min(0.5, BEAT / 5))
    return True


def _time_of(file: Path) -> int:
    """Return the time of a file as its disk has it, past what a network folder remembers of it."""
    try:
        with file.open("rb") as opened:
            return os.fstat(opened.fileno()).st_mtime_ns
    except OSError:
        return 0
