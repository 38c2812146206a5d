"""The mean teacher: a copy of a network whose weights follow it slowly (Tarvainen and Valpola, 2017)."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

_Network = TypeVar("_Network", bound=nn.Module)


def frozen_copy(network: _Network) -> _Network:
    """Copy a network; the parameters of the copy get no gradients.

    Example:
        >>> twin = frozen_copy(torch.nn.Linear(1, 1))
        >>> twin.weight.requires_grad
        False
    """
    twin = copy.deepcopy(network)
    twin.requires_grad_(False)
    return twin


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, momentum: float | Tensor) -> None:
    """Update a teacher in place: ``teacher = momentum * teacher + (1 - momentum) * student``.

    This is done for parameters. Buffers are copied: they are mostly statistics of batch normalisation,
    which are averages already.

    Args:
        teacher, student: networks of the same structure.
        momentum: in [0, 1]; a tensor may lie on the device of the parameters.

    Example:
        >>> student = torch.nn.Linear(1, 1)
        >>> teacher = frozen_copy(student)
        >>> with torch.no_grad():
        ...     before = student.weight.item()
        ...     _ = student.weight.add_(1.0)
        >>> follow(teacher, student, momentum=0.75)
        >>> round(teacher.weight.item() - before, 4)
        0.25
    """
    ours, theirs = _held(teacher), _held(student)
    if isinstance(momentum, Tensor):
        torch._foreach_mul_(ours, momentum)
        torch._foreach_add_(ours, torch._foreach_mul(theirs, 1 - momentum))
    else:
        torch._foreach_lerp_(ours, theirs, 1.0 - momentum)
    for mine, other in zip(teacher.buffers(), student.buffers(), strict=True):
        mine.copy_(other)


def _held(network: nn.Module) -> list[Tensor]:
    """Return the parameters, of which a process may hold a share: the same share of both networks."""
    return [p.to_local() if hasattr(p, "to_local") else p for p in network.parameters()]


def growing_momentum(steps: Tensor, largest: float) -> Tensor:
    """Compute the momentum of a teacher: ``min(1 - 1 / (steps + 1), largest)`` (DACS).

    At first the teacher is the mean of all students so far, so that its random head is soon forgotten.

    Args:
        steps: scalar, steps that the student has made; may lie on the device, nothing waits for it.
        largest: limit in [0, 1].

    Returns:
        Scalar tensor in [0, ``largest``].

    Example:
        >>> [round(growing_momentum(torch.tensor(step), 0.99).item(), 4) for step in (0, 1, 1000)]
        [0.0, 0.5, 0.99]
    """
    return (1 - 1 / (steps + 1)).clamp(max=largest)
