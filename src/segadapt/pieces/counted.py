"""A number of steps that both sides of a device know."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class CountsSteps(nn.Module):
    """Base of modules whose updates depend on how many there were before.

    The number is a buffer, so that a checkpoint holds it, and is known on the CPU too, so that a step need not wait for
    the device to learn it.

    State: ``steps``, a whole number.

    Example:
        >>> counter = CountsSteps()
        >>> counter.count_step()
        >>> counter.done, counter.steps.item()
        (1, 1)
    """

    steps: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self._done: int | None = 0

    @property
    def done(self) -> int:
        """Number of steps counted; waits for the device once after a checkpoint was read."""
        if self._done is None:
            self._done = int(self.steps)
        return self._done

    def count_step(self) -> None:
        """Count one more step."""
        self._done = self.done + 1
        self.steps += 1

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        """Read the buffers of a checkpoint; the number on the CPU is then that of before."""
        super()._load_from_state_dict(*args, **kwargs)
        self._done = None
