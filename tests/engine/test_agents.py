"""Processes that are killed: the others end, and agents, which keep their store, start all of them again."""

from __future__ import annotations

import os
import signal
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from segadapt.engine.meeting import own_part
from segadapt.errors import RunError
from segadapt.runs.config import build_config
from segadapt.runs.run import Run
from tests.processes import commands, in_processes, needs_fork
from tests.runs.test_run import weights
from tests.tiny import raw_config

# ---- a part of the store per start ----

SOON = timedelta(seconds=5)


def meeting(store: torch.distributed.Store, ranks: tuple[int, ...], processes: int) -> dict[int, Any]:
    """Let processes of one start meet, each a little after the one before."""
    found: dict[int, Any] = {}
    threads = [
        threading.Thread(target=lambda r=rank: found.update({r: own_part(store, r, processes, SOON)})) for rank in ranks
    ]
    for thread in threads:
        thread.start()
        time.sleep(0.1)
    for thread in threads:
        thread.join()
    return found


@pytest.mark.parametrize("ranks", [(0, 1, 2), (2, 1, 0)])
def test_each_start_has_a_part_of_the_store_of_its_own(ranks: tuple[int, ...]) -> None:
    store = torch.distributed.HashStore()
    for start_number in range(2):
        parts = meeting(store, ranks, 3)
        assert not parts[0].check(["address"])
        parts[1].set("address", str(start_number))
        assert [parts[rank].get("address") for rank in ranks] == [str(start_number).encode()] * 3


def test_what_a_start_without_all_its_processes_left_is_not_met() -> None:
    store = torch.distributed.HashStore()
    short = timedelta(seconds=0.2)
    with pytest.raises(RunError, match=r"process 0 of the run waited 0.2 seconds .*process_timeout"):
        own_part(store, 0, 2, short)
    with pytest.raises(RunError, match="process 1 of the run waited"):
        own_part(store, 1, 2, short)
    parts = meeting(store, (1, 0), 2)
    parts[0].set("here", "")
    assert parts[1].check(["here"])


# ---- processes that are killed ----


def checkpointed(folder: Path) -> tuple[dict[str, object], Path, Path]:
    """Write a recipe whose stage leaves checkpoints; return it, its file and the folder of its run."""
    raw = raw_config(folder, "source_only", test=False)
    raw["stages"]["source"].update(
        steps=16,
        checkpoint_every=4,
        optimiser={"name": "sgd", "lr": 1e-2},  # Adam makes rounding large
    )
    (folder / "recipe.yaml").write_text(yaml.safe_dump(raw))
    return raw, folder / "recipe.yaml", folder / "run"


def has_checkpoint(out: Path) -> bool:
    return any((out / "stages/source/checkpoints").glob("*.pt"))


@needs_fork
def test_killed_processes_start_again_from_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first is killed, which holds the folder; the test keeps the store of two starts, as torchrun's agents do."""
    raw, recipe, out = checkpointed(tmp_path)
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    ended = []

    def work(rank: int) -> None:
        os.environ["MASTER_PORT"] = str(store.port)
        commands(["adapt", recipe, "--out", out, "-q"])(rank)

    def kill(numbers: list[int]) -> None:
        limit = time.monotonic() + 60
        while not has_checkpoint(out) and time.monotonic() < limit:
            time.sleep(0.01)
        os.kill(numbers[0], signal.SIGKILL)
        began = time.monotonic()
        os.waitid(os.P_PID, numbers[1], os.WEXITED | os.WNOWAIT)
        ended.append(time.monotonic() - began)

    killed, left = in_processes(2, work, tmp_path / "first", kill)
    said = [line for line in left.err.splitlines() if line.startswith("segadapt: ")]
    assert (killed.status, left.status) == (-signal.SIGKILL, 1)
    assert len(said) == 1
    assert "the same command goes on from the last checkpoint" in said[0]
    assert "Traceback" not in left.err
    assert ended[0] < 20  # three seconds to tell others, and a busy machine; process_timeout is 600

    again = in_processes(2, work, tmp_path / "again")
    assert [process.status for process in again] == [0, 0], again
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE")
    Run.open(build_config(raw, "tiny"), tmp_path / "one", quiet=True).execute()
    alone, shared = weights(tmp_path / "one", "source"), weights(out, "source")
    for name, value in alone.items():
        torch.testing.assert_close(shared[name], value, rtol=1e-3, atol=1e-4, msg=name)
