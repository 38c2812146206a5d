"""Processes that are killed: the others end, and agents, which keep their store, start all of them again."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from segadapt.core.files import write_text
from segadapt.engine.meeting import own_part
from segadapt.errors import RunError
from segadapt.runs.config import build_config
from segadapt.runs.run import Run
from tests.engine.ranks import free_port
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


def agents(folder: Path, work: Callable[[], object], port: int) -> Callable[[int], None]:
    """Return the work of two agents of one process each, as ``torchrun`` makes them; their processes are forked.

    A process writes its number, and its errors behind those of earlier starts, into files that are named by its rank.
    """

    def worker() -> None:
        name = os.environ["RANK"]
        target = (folder / f"{name}.err").open("a", buffering=1)
        os.dup2(target.fileno(), 2)
        sys.stderr = target
        write_text(folder / f"{name}.pid", str(os.getpid()))
        work()

    def agent(node: int) -> None:
        for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
            del os.environ[name]
        config = LaunchConfig(
            min_nodes=2,
            max_nodes=2,
            nproc_per_node=1,
            run_id="test",
            rdzv_backend="c10d",
            rdzv_endpoint=f"127.0.0.1:{port}",
            rdzv_configs={"is_host": node == 0, "last_call_timeout": 1},
            max_restarts=1,
            monitor_interval=0.1,
            start_method="fork",
        )
        elastic_launch(config, worker)()

    return agent


@needs_fork
def test_two_agents_start_killed_processes_again_from_the_last_checkpoint(tmp_path: Path) -> None:
    """The process that holds the folder is killed; the numbers are those of one process."""
    raw, recipe, out = checkpointed(tmp_path)
    Run.open(build_config(raw, "tiny"), tmp_path / "one", quiet=True).execute()

    def kill(_: object) -> None:
        limit = time.monotonic() + 60
        while not has_checkpoint(out) and time.monotonic() < limit:
            time.sleep(0.01)
        os.kill(int((tmp_path / "0.pid").read_text()), signal.SIGKILL)

    def work() -> None:
        commands(["adapt", recipe, "--out", out, "-q"])(0)

    ended = in_processes(2, agents(tmp_path, work, free_port()), tmp_path / "said", kill)
    assert [agent.status for agent in ended] == [0, 0], ended
    said = [line for line in (tmp_path / "1.err").read_text().splitlines() if line.startswith("segadapt: ")]
    assert len(said) == 1
    assert "the same command goes on from" in said[0]  # it missed the other one, or its agent stopped it before
    alone, shared = weights(tmp_path / "one", "source"), weights(out, "source")
    for name, value in alone.items():
        torch.testing.assert_close(shared[name], value, rtol=1e-3, atol=1e-4, msg=name)
