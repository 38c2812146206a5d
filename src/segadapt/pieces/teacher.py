"""The mean teacher: a copy of a network whose weights follow it slowly (Tarvainen and Valpola, 2017)."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

_Network = TypeVar("_Network", bound=nn.Module)


def frozen_copy(network: _Network) -> _Network:
    """A copy without gradients."""
    twin = copy.deepcopy(network)
    twin.requires_grad_(False)
    return twin


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, momentum: float | Tensor) -> None:
    """``teacher = momentum * teacher + (1 - momentum) * student`` for parameters; buffers are copied.

    Buffers are mostly statistics of batch normalisation, which are averages already.
    """
    ours: list[Tensor] = list(teacher.parameters())
    theirs: list[Tensor] = list(student.parameters())
    if isinstance(momentum, Tensor):
        torch._foreach_mul_(ours, momentum)
        torch._foreach_add_(ours, torch._foreach_mul(theirs, 1 - momentum))
    else:
        torch._foreach_lerp_(ours, theirs, 1.0 - momentum)
    for mine, other in zip(teacher.buffers(), student.buffers(), strict=True):
        mine.copy_(other)


def growing_momentum(steps: Tensor, largest: float) -> Tensor:
    """Momentum of a teacher after ``steps`` steps of its student: ``min(1 - 1 / (steps + 1), largest)`` (DACS).

    At the start the teacher is the mean of all students so far, so that its random head is soon forgotten.
    ``steps`` may lie on the device: nothing waits for it.
    """
    return (1 - 1 / (steps + 1)).clamp(max=largest)
