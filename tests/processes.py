"""Several processes of one run, forked from the test: a tenth of a second where ``torchrun`` takes ten."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked from the test")


class Ended(NamedTuple):
    """What is left of a process: its exit status, and what it wrote."""

    status: int
    out: str
    err: str


def in_processes(
    count: int,
    work: Callable[[int], object],
    folder: Path,
    while_running: Callable[[list[int]], object] | None = None,
    agent: bool = False,
) -> list[Ended]:
    """Run ``work(rank)`` in processes with the environment that ``torchrun`` gives them.

    Args:
        count: number of processes.
        work: their work; SystemExit ends one with its status.
        folder: for what they write.
        while_running: called with the numbers of the processes while they run.
        agent: the test keeps the place where they meet, as the agent of ``torchrun`` does; otherwise the first does.
    """
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    kept = torch.distributed.TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False) if agent else None
    context = multiprocessing.get_context("fork")
    given = (count, port, work, folder, kept is not None)
    processes = [context.Process(target=_begin, args=(rank, *given)) for rank in range(count)]
    for process in processes:
        process.start()
    if while_running is not None:
        while_running([process.pid or 0 for process in processes])
    for process in processes:
        process.join(60)
        if process.exitcode is None:
            process.kill()
            process.join()
    files = [[folder / f"{rank}.{kind}" for kind in ("out", "err")] for rank in range(count)]
    texts = [[file.read_text() if file.exists() else "" for file in pair] for pair in files]
    return [Ended(process.exitcode or 0, *text) for process, text in zip(processes, texts, strict=True)]


def commands(*lines: Sequence[object]) -> Callable[[int], None]:
    """Return work that runs commands one after the other, up to the first that fails."""

    def work(_: int) -> None:
        from segadapt.cli import main

        for line in lines:
            sys.argv = ["segadapt", *map(str, line)]
            try:
                main()
            except SystemExit as end:
                if end.code:
                    raise

    return work


def _begin(rank: int, count: int, port: int, work: Callable[[int], object], folder: Path, agent: bool) -> None:
    import cv2
    import torch

    os.environ.update(
        {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)},
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        TORCHELASTIC_RUN_ID="test",
        GROUP_RANK="0",
        TORCHELASTIC_RESTART_COUNT="0",
        TORCHELASTIC_USE_AGENT_STORE=str(agent),
    )
    torch.set_num_threads(1)  # threads of the test are not there after a fork
    cv2.setNumThreads(0)
    for number, kind in ((1, "out"), (2, "err")):
        target = (folder / f"{rank}.{kind}").open("w", buffering=1)
        os.dup2(target.fileno(), number)
        setattr(sys, f"std{kind}", target)
    work(rank)
