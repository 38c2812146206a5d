"""Stopping a run from outside, after a step whose state is saved."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

import torch
from torch import Tensor


class StopRequest:
    """Turns SIGTERM and SIGINT into a request to stop after the current step; a second Ctrl-C stops at once.

    What comes after the last step is answered as if it came when this is left.

    A signal reaches each process of a run at another moment, or only one of them. So that all stop after
    the same step, the wish travels with a message that they exchange in every step.

    Args:
        processes: of the run.
    """

    def __init__(self, processes: int = 1) -> None:
        self.asked = False
        self._processes = processes
        self._wishes: Callable[[], float] = float
        self._old: dict[int, Any] = {}
        self._number = 0

    def __enter__(self) -> StopRequest:
        for number in (signal.SIGTERM, signal.SIGINT):
            try:
                self._old[number] = signal.signal(number, self._note)
            except ValueError:  # not the main thread: the caller's own handling stays
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
        """1 if this process was asked to stop, otherwise 0; for the step's message."""
        return torch.full((), float(self.asked), device=device)

    def heard(self, wishes: Tensor) -> None:
        """Take the sum of all processes' wishes from the message."""
        if self._processes > 1:
            self._wishes = _read_later(wishes)

    def decided(self) -> bool:
        """Whether to stop after this step: the same answer at all processes, if each asks once a step."""
        return self.asked if self._processes == 1 else self._wishes() > 0


def _read_later(value: Tensor) -> Callable[[], float]:
    """Reads a number without waiting for what a GPU was given to do after it."""
    if not value.is_cuda:
        return lambda: float(value)
    copy = value.to("cpu", non_blocking=True)
    copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
    copied.record()

    def read() -> float:
        copied.synchronize()
        return float(copy)

    return read
