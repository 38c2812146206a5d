"""Devices, precision and processes, through Lightning Fabric.

How gradients are summed over the processes is in :mod:`segadapt.engine.gradients`.
"""

from __future__ import annotations

import logging
import os
import platform
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import torch
from torch import Tensor

from segadapt.core.faults import in_words
from segadapt.core.process_memory import forget_process_peak
from segadapt.engine.meeting import agents_keep_store, coming, meet
from segadapt.engine.speed import Precision, SpeedConfig
from segadapt.errors import RequestError, first_line
from segadapt.version import __version__

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Strategy = Literal["auto", "ddp", "fsdp"]
T = TypeVar("T")
_TALKING = "waiting for the other processes"


class Runtime:
    """The device and the precision of one process of a run, and its messages to the other processes.

    Started by ``torchrun``, it joins the other processes; otherwise it runs alone.

    Args:
        accelerator: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        precision: ``32-true``, or ``bf16-mixed`` for bfloat16 autocast.
        timeout: seconds that a process waits for another one.
        strategy: how processes hold the networks, see :mod:`segadapt.engine.sharding`.

    Attributes:
        device: device of this process.
        rank, processes: number of this process, from 0, and how many there are.
        precision, strategy: as given.
        speed: how networks compute; see :func:`segadapt.engine.speed.set_speed`.
        gradient_group: where gradients travel, so that they keep no order with other messages; None in a process alone.

    Raises:
        RequestError: the accelerator is unknown or not available.
        RunError: the other processes do not come in time.
    """

    def __init__(
        self,
        accelerator: str = "auto",
        precision: Precision = "32-true",
        timeout: float = 600.0,
        strategy: Strategy = "auto",
    ):
        import lightning_fabric  # slow to import, and needed by runs alone
        from lightning_fabric.strategies.ddp import DDPStrategy

        local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        nodes = max(1, int(os.environ.get("WORLD_SIZE", "1")) // local)
        logging_quiet()
        patience = timedelta(seconds=timeout)
        try:
            self.fabric: Fabric = lightning_fabric.Fabric(
                accelerator=accelerator,
                devices=local,
                num_nodes=nodes,
                strategy=DDPStrategy(timeout=patience) if local * nodes > 1 else "auto",
                precision=precision,
            )
        except (
            ValueError,
            RuntimeError,
            ImportError,
            lightning_fabric.utilities.exceptions.MisconfigurationException,
        ) as problem:
            raise RequestError(
                f"accelerator '{accelerator}' cannot be used here: {first_line(problem)}; set accelerator=auto to "
                "use whatever is available"
            ) from problem
        with coming(patience):
            if local * nodes > 1 and agents_keep_store() and not torch.distributed.is_initialized():
                meet(self.fabric.strategy.root_device, patience)
            self.fabric.launch()
        self.device: torch.device = self.fabric.device
        self.rank: int = self.fabric.global_rank
        self.processes: int = self.fabric.world_size
        self.precision, self.strategy = precision, strategy
        self.speed = SpeedConfig(precision=precision)
        self.gradient_group: Any = torch.distributed.new_group(timeout=patience) if self.processes > 1 else None

    @property
    def main(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    def share(self, count: int) -> range:
        """Return which of so many items are this process's: every n-th one of n processes."""
        return range(self.rank, count, self.processes)

    def autocast(self) -> AbstractContextManager[None]:
        """Return a context in which forward passes have the run's precision."""
        return self.fabric.autocast()

    def barrier(self) -> None:
        """Wait until all processes have reached this call."""
        if self.processes > 1:
            with in_words(_TALKING, {}):
                torch.distributed.barrier()

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Add tensors over all processes, in place; one message per dtype."""
        if self.processes == 1:
            return
        for dtype in dict.fromkeys(t.dtype for t in tensors):  # the order of the tensors, the same in all processes
            group = [t for t in tensors if t.dtype == dtype]
            flat = torch.cat([t.detach().reshape(-1) for t in group])
            with in_words(_TALKING, {}):
                torch.distributed.all_reduce(flat)
            offset = 0
            for tensor in group:
                tensor.detach().copy_(flat[offset : offset + tensor.numel()].view_as(tensor))
                offset += tensor.numel()

    def mean(self, tensors: Sequence[Tensor]) -> None:
        """Average tensors over all processes, in place; tensors that are equal stay equal to the bit."""
        if self.processes == 1:
            return
        sums = [t.detach().double() for t in tensors]
        self.sum(sums)
        for tensor, total in zip(tensors, sums, strict=True):
            tensor.detach().copy_(total / self.processes)

    def gather(self, words: Sequence[T]) -> list[T]:
        """Return the words, or other plain values, of all processes, in the order of their ranks, in every process."""
        if self.processes == 1:
            return list(words)
        parts: list[list[T]] = [[] for _ in range(self.processes)]
        with in_words(_TALKING, {}):
            torch.distributed.all_gather_object(parts, list(words))
        return [word for part in parts for word in part]

    def gather_batch(self, part: Tensor, samples: int) -> Tensor:
        """Collect a batch that was dealt out to the processes, in its original order.

        Args:
            part: [n, ...] rows ``rank``, ``rank + processes``, ... of the batch.
            samples: rows of the whole batch.

        Returns:
            The batch [samples, ...], in every process.
        """
        if self.processes == 1:
            return part
        whole = part.new_zeros((samples, *part.shape[1:]))
        whole[self.rank :: self.processes] = part
        self.sum([whole])
        return whole


def wait_for(device: torch.device) -> None:
    """Wait until a device has done all its work, so that a clock reads its time."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def peak_memory_mb(device: torch.device) -> int:
    """Return the peak memory in MB (2^20 bytes) of a GPU, else of the process, since :func:`forget_peak_memory`."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device) >> 20)
    return process_peak() >> 20


def forget_peak_memory(device: torch.device) -> None:
    """Reset the peak memory of a GPU, or of the process; the latter on Linux alone."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        forget_process_peak()


def process_peak() -> int:
    """Return the largest resident size of this process so far, in bytes; 0 where the system does not say (Windows)."""
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def logging_quiet() -> None:
    """Keep Lightning's notices off the user's terminal."""
    logging.getLogger("lightning_fabric").setLevel(logging.ERROR)
    logging.getLogger("lightning.fabric").setLevel(logging.ERROR)


def device_named(name: str) -> str:
    """Return the name of a device; RequestError where torch knows none of this name."""
    try:
        return str(torch.device(name))
    except RuntimeError:
        raise RequestError(f"device '{name}' is unknown; give e.g. cpu, cuda or cuda:1") from None


def machine() -> dict[str, str]:
    """Describe the machine and the versions that a result was made with."""
    return {
        "system": platform.system(),
        "cpu": _cpu_name(),
        "cores": str(os.cpu_count()),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "segadapt": __version__,
    }


def _cpu_name() -> str:
    """Return the model name of the processor, as far as the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
