"""One writer per folder: who is refused, by what line, and whose lock is taken over."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from segadapt.core import locking
from segadapt.core.locking import LOCK, locked
from segadapt.errors import RequestError

HOLDER = """
import sys, time
from pathlib import Path
from segadapt.core.locking import lock
lock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def test_the_second_process_is_told_of_the_first_and_a_dead_one_gives_way(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    try:
        with pytest.raises(RequestError, match=f"process {holder.pid} on .* writes into '.*run'"), locked(folder):
            pass
    finally:
        holder.kill()
    time.sleep(0.05)  # it is a zombie now, until it is waited for
    with locked(folder):
        assert json.loads((folder / LOCK).read_text())["pid"] == os.getpid()
        with locked(folder):  # one process may lock a folder twice
            pass
        assert (folder / LOCK).exists()
    holder.wait()
    with locked(tmp_path / "new/run"):
        assert (tmp_path / "new/run" / LOCK).exists()
    assert not (tmp_path / "new").exists(), "a folder that was made for the lock alone goes with it"


def stranger(folder: Path, **change: object) -> Path:
    """Write a lock as a process somewhere else would."""
    folder.mkdir()
    held = {"token": "t", "pid": os.getpid(), "since": "1", "host": "far", "machine": "far boot pid"} | change
    (folder / LOCK).write_text(json.dumps(held))
    return folder / LOCK


def test_another_machine_is_alive_while_it_renews_its_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locking, "BEAT", 0.1)
    monkeypatch.setattr(locking, "SILENCE", 0.6)
    file = stranger(tmp_path / "run")
    beats = threading.Timer(0.2, lambda: os.utime(file))
    beats.start()
    with pytest.raises(RequestError, match="on far writes into"), locked(tmp_path / "run"):
        pass
    with locked(tmp_path / "run"):  # no further sign of life
        assert json.loads(file.read_text())["pid"] == os.getpid()


def test_a_number_that_another_process_has_now_is_no_owner(tmp_path: Path) -> None:
    """A machine, or a container, that starts again hands out the same numbers."""
    stranger(tmp_path / "run", machine=locking._machine(), pid=os.getppid(), since="another start")
    with locked(tmp_path / "run"):
        pass
    stranger(tmp_path / "own", machine=locking._machine(), since=locking._since(os.getpid()))
    with locked(tmp_path / "own"):
        pass


def test_of_two_that_find_a_dead_lock_one_gets_it(tmp_path: Path) -> None:
    file = stranger(tmp_path / "run", machine=locking._machine(), pid=2**22 + 1)
    dead = json.loads(file.read_text())
    file.write_text(json.dumps(dead | {"token": "of the faster one"}))
    locking.take_away(file, dead)
    assert json.loads(file.read_text())["token"] == "of the faster one"
    assert [path.name for path in file.parent.iterdir()] == [LOCK]


def test_a_disk_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    stranger(tmp_path / "run", machine=locking._machine(), pid=2**22 + 1)
    with locked(tmp_path / "run"):
        assert json.loads((tmp_path / "run" / LOCK).read_text())["pid"] == os.getpid()
    assert list((tmp_path / "run").iterdir()) == []
