"""A request from outside to stop a run, answered after a step, with its state saved."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

import torch
from torch import Tensor


class StopRequest:
    """Turns SIGTERM and SIGINT into a request to stop after the current step; a second Ctrl-C stops at once.

    Used as a context manager around the training steps. A signal after the last step is re-raised on exit.

    A signal reaches the processes of a run at different moments, or only one of them. For all to stop after the
    same step, the wish to stop travels with a message that they exchange in every step.

    Args:
        processes: number of processes of the run.

    Attributes:
        asked: whether this process got a signal.
    """

    def __init__(self, processes: int = 1) -> None:
        self.asked = False
        self._processes = processes
        self._wishes: Callable[[], float] = lambda: 0.0
        self._old: dict[int, Any] = {}
        self._number = 0

    def __enter__(self) -> StopRequest:
        for number in (signal.SIGTERM, signal.SIGINT):
            try:
                self._old[number] = signal.signal(number, self._note)
            except ValueError:  # not the main thread: the caller's handlers stay
                break
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked, self._number = True, number

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
        if self.asked and kind is None:
            signal.raise_signal(self._number)

    def wish(self, device: torch.device) -> Tensor:
        """Return 1 if this process was asked to stop, otherwise 0, as a part of the step's message."""
        return torch.full((), float(self.asked), device=device)

    def heard(self, wishes: Tensor) -> None:
        """Take the sum of the wishes of all processes from the message of the step."""
        if self._processes > 1:
            self._wishes = _read_later(wishes)

    def decided(self) -> bool:
        """Return whether to stop after this step: the same answer in all processes if each asks once per step."""
        return self.asked if self._processes == 1 else self._wishes() > 0


def _read_later(value: Tensor) -> Callable[[], float]:
    """Copy a number to the CPU; the returned function waits for this copy, not for later work of the GPU."""
    if not value.is_cuda:
        return lambda: float(value)
    copy = value.to("cpu", non_blocking=True)
    copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
    copied.record()

    def read() -> float:
        copied.synchronize()
        return float(copy)

    return read
