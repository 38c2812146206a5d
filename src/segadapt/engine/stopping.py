"""Wishes that all processes of a run answer after the same step: to stop, and to save the state."""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from statistics import median

import torch
from torch import Tensor

from segadapt.core.signals import answering, noting, stopped_by
from segadapt.errors import Interrupted, Stopped

STALLED = 5.0
"""A step of several processes counts as hanging when it has taken so many times as long as the latest ones mostly."""
LATEST = 50
"""Number of steps that tell how long one takes."""


class Wish:
    """A wish that one process may have, and that all processes decide on after the same step.

    Processes come to a wish at different moments, or only one of them does. So it travels with a message that they
    exchange in every step.

    Args:
        processes: number of processes of the run.
        own: says whether this process wishes it now.
    """

    def __init__(self, processes: int, own: Callable[[], bool]) -> None:
        self._processes, self._own = processes, own
        self._wishes: Callable[[], float] = lambda: 0.0

    def wish(self, device: torch.device) -> Tensor:
        """Return 1 if this process wishes it, otherwise 0, as a part of the step's message."""
        return torch.full((), float(self._own()), device=device)

    def heard(self, wishes: Tensor) -> None:
        """Take the sum of the wishes of all processes from the message of the step."""
        if self._processes > 1:
            self._wishes = _read_later(wishes)

    def decided(self) -> bool:
        """Return whether it is done after this step: the same in all processes if each asks once per step."""
        return self._own() if self._processes == 1 else self._wishes() > 0


class SaveRequest(Wish):
    """The wish to save the state when some time has passed; the clock of the main process counts.

    Args:
        processes: number of processes of the run.
        main: whether this is the main process.
        minutes: time between two checkpoints; None never wishes one.
    """

    def __init__(self, processes: int, main: bool, minutes: float | None) -> None:
        super().__init__(processes, lambda: main and minutes is not None and time.monotonic() >= self._due)
        self._minutes = minutes or 0.0
        self.saved()

    def saved(self) -> None:
        """Count the time from now on."""
        self._due = time.monotonic() + 60 * self._minutes


class StopRequest(Wish):
    """Turns SIGTERM and SIGINT into a request to stop.

    Used as a context manager around a stage. In training steps (:meth:`steps`) a signal is a request to stop after the
    current one; a second Ctrl-C stops at once, and so does the first signal in a step that :meth:`hangs`. Anywhere
    else, in a pass or while scores are computed, it stops at once: what is finished is on the disk.

    Args:
        processes: number of processes of the run.
        where: opens the message, e.g. with the name of the stage.

    Attributes:
        asked: whether this process got a signal in a step.

    Raises:
        Interrupted: the stage was stopped outside a step.
    """

    def __init__(self, processes: int = 1, where: str = "") -> None:
        super().__init__(processes, lambda: self.asked)
        self.asked = False
        self._where = where
        self._number = 0
        self._lengths: deque[float] = deque(maxlen=LATEST)
        self._usual = 0.0
        self._began: float | None = None
        self._handlers: AbstractContextManager[None] = nullcontext()

    def __enter__(self) -> StopRequest:
        self._handlers = answering()
        self._handlers.__enter__()
        return self

    @contextmanager
    def steps(self) -> Iterator[None]:
        """Note signals in the block; one that no step has answered stops the stage when the block ends."""
        self._lengths.clear()
        self._usual, self._began = 0.0, time.monotonic()
        with noting(self._note, self.hangs):
            yield
        if self.asked:
            raise Stopped(stopped_by(self._number))

    def decided(self) -> bool:
        now, stop = time.monotonic(), super().decided()
        if self._began is not None:
            self._lengths.append(now - self._began)
            self._usual = median(self._lengths)
        self._began = now
        return stop

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Let the block take its time, in which the first process writes the state and the others wait for it."""
        self._began = None
        yield
        self._began = time.monotonic()

    def hangs(self) -> bool:
        """Return whether the step that is run now takes so long that another process seems not to answer.

        Called in a thread. Before the first step is done nothing can be lost, so there is no patience.
        """
        began = self._began
        if self._processes == 1 or began is None:
            return False
        return time.monotonic() - began > STALLED * self._usual

    def _note(self, number: int) -> None:
        if self.asked and number == signal.SIGINT:
            raise Stopped(stopped_by(number))
        self.asked, self._number = True, number

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None, *_: object) -> None:
        self._handlers.__exit__(None, None, None)
        if isinstance(problem, Stopped):
            raise Interrupted(f"{self._where}{problem}") from None


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
