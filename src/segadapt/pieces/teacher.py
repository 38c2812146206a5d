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
def follow(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """``teacher = momentum * teacher + (1 - momentum) * student`` for parameters; buffers are copied.

    Buffers are mostly statistics of batch normalisation, which are averages already.
    """
    ours: list[Tensor] = list(teacher.parameters())
    theirs: list[Tensor] = list(student.parameters())
    torch._foreach_lerp_(ours, theirs, 1.0 - momentum)
    for mine, other in zip(teacher.buffers(), student.buffers(), strict=True):
        mine.copy_(other)
