"""How many processes decode images beside a training process: what cores, devices and shared memory allow.

A GPU waits for a process that also decodes, so it gets decoding processes. Training on a processor uses its cores
itself: there, decoding beside it takes them from the steps, unless there are many.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import NonNegativeInt

from segadapt.core.cores import cores
from segadapt.core.settings import Shown

Workers = Annotated[NonNegativeInt | Literal["auto"], Shown("integer >= 0 | auto")]
"""Decoding processes per stream as a person says them."""
MOST = 4
"""Decoding processes per stream, at most; one decodes 10 to 20 images of 2048x1024 a second."""
PLENTY = 4
"""Cores for each stream from which on training on a processor leaves one for decoding."""
AHEAD = 4
"""Batches that a decoding process keeps ready."""
_SHARED = Path("/dev/shm")
_USED = 0.8
"""Share of the shared memory that is planned for."""
ROOMY = 4 << 30
"""Bytes of shared memory for a stream from which on nothing is measured."""


class Decoders(NamedTuple):
    """The decoding processes of a stream.

    Attributes:
        processes: how many; with 0 the training process decodes.
        ahead: batches that each keeps ready.
    """

    processes: int
    ahead: int


def processes_here() -> int:
    """Return the training processes on this machine, which share its cores and its memory."""
    return max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def wanted(workers: int | Literal["auto"], device: str, streams: int) -> int:
    """Return the decoding processes for each stream of a training process.

    Where the system starts processes afresh instead of forking them (Windows, macOS), ``auto`` has none: a script that
    does not guard its main part would start itself again.

    Args:
        workers: as a person says it.
        device: type of the training device, e.g. ``cuda``.
        streams: streams that are fed at a time.
    """
    if workers != "auto":
        return workers
    if multiprocessing.get_all_start_methods()[0] != "fork":
        return 0
    share = max(1, cores() // processes_here())
    if device == "cpu":
        return 1 if share >= PLENTY * streams else 0
    return min(MOST, max((share - 1) // streams, 1 if share > 1 else 0))


def shared_memory(streams: int) -> int | None:
    """Return the free bytes, for each stream, of the memory through which processes hand over batches.

    None where nothing says that it has a limit.
    """
    try:
        return shutil.disk_usage(_SHARED).free // (streams * processes_here())
    except OSError:
        return None


def needed(decoders: Decoders, batch: int) -> int:
    """Return the bytes of shared memory for the batches of a stream: those kept ready, and two under way."""
    return (decoders.processes * decoders.ahead + 2) * batch


def fitting(most: int, batch: int, free: int) -> Decoders:
    """Return the most decoding processes whose batches fit into shared memory.

    Args:
        most: decoding processes that are wanted.
        batch: bytes of a batch.
        free: bytes of shared memory for this stream.
    """
    for processes in range(most, 0, -1):
        for ahead in (AHEAD, AHEAD // 2, 1):
            found = Decoders(processes, ahead)
            if needed(found, batch) <= _USED * free:
                return found
    return Decoders(0, 0)


def too_little(most: int, found: Decoders, batch: int, free: int) -> str:
    """Say in one line that the shared memory is too small for the decoding processes that were wanted."""
    need = needed(Decoders(most, AHEAD), batch) / _USED / 2**20
    started = f"{found.processes} of them start, with {found.ahead} batches ready each"
    left = started if found.processes else "the training process decodes"
    return (
        f"{most} decoding processes need {need:.0f} MB of shared memory ({_SHARED}) for each stream, and there are "
        f"{free / 2**20:.0f} MB: {left}; a container has more with "
        "'--shm-size=2g' or '--ipc=host', or set data.workers=0"
    )
