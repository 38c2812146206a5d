"""The meeting of the processes of a run that ``torchrun`` starts, also when it starts them again.

Its agents keep one store for all starts of a run. What an earlier start left there, e.g. the addresses of processes
that are gone and the notes by which they ended together, would reach the next one: it fails, or waits for ever. Agents
do not count starts alike (pytorch issue 135712), so no number tells these apart. The processes agree on a part of the
store that is theirs alone.
"""

from __future__ import annotations

import atexit
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from segadapt.errors import RunError, first_line

_FIRST = "segadapt/first"
"""Where the first process of the latest start leaves the name of its part."""
_EVERY = 0.05
"""Seconds between two looks into the store."""


def agents_keep_store() -> bool:
    """Return whether an agent of ``torchrun`` keeps the store of the processes, beyond the life of these."""
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def meet(device: torch.device, timeout: timedelta) -> None:
    """Join the other processes of this start, whose places are in the environment, in a part of the store of its own.

    Args:
        device: of this process.
        timeout: how long it waits for another process, now and later.

    Raises:
        RunError: the other processes do not come in time.
    """
    rank, processes = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    store = next(rendezvous("env://", rank, processes, timeout=timeout))[0]
    gpu = device.type == "cuda"
    torch.distributed.init_process_group(
        "nccl" if gpu else "gloo",
        store=own_part(store, rank, processes, timeout),
        rank=rank,
        world_size=processes,
        timeout=timeout,
        device_id=device if gpu else None,
    )
    if gpu:
        atexit.register(_part)


@contextmanager
def coming(timeout: timedelta) -> Iterator[None]:
    """Raise RunError where the others do not come in time to the meeting in the block."""
    try:
        yield
    except (torch.distributed.DistStoreError, torch.distributed.DistNetworkError) as problem:
        raise RunError(f"{_late(os.environ.get('RANK', '0'), timeout)}: {first_line(problem)}") from problem


def _late(rank: int | str, timeout: timedelta) -> str:
    return (
        f"process {rank} of the run waited {timeout.total_seconds():g} seconds for the others, which have not all "
        "come; see what they say, and start all of them again (process_timeout sets the seconds)"
    )


def own_part(store: Any, rank: int, processes: int, timeout: timedelta) -> Any:
    """Return a part of a store that is the same in all processes of this start, and that no earlier start has seen.

    The first process names the part, and answers the name of every other one. A process that reads the name of an
    earlier start gets no answer, and reads again.

    Args:
        store: of torch; may hold what earlier starts left.
        rank, processes: number of this process, from 0, and how many there are.
        timeout: how long it waits for another process.

    Raises:
        RunError: the others do not come in time.
    """
    own, until = uuid.uuid4().hex, time.monotonic() + timeout.total_seconds()

    def came(key: str) -> bool:
        if time.monotonic() > until:
            raise RunError(_late(rank, timeout))
        if store.check([key]):
            return True
        time.sleep(_EVERY)
        return False

    if rank == 0:
        store.set(_FIRST, own)
        for other in range(1, processes):
            while not came(f"{own}/{other}"):
                pass
            store.set(f"{own}/{store.get(f'{own}/{other}').decode()}", "")
        return PrefixStore(own, store)
    first = ""
    while not (first and came(f"{first}/{own}")):
        if came(_FIRST) and (named := store.get(_FIRST).decode()) != first:
            first = named
            store.set(f"{first}/{rank}", own)
    return PrefixStore(first, store)


def _part() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
