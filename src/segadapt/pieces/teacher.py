"""The mean teacher: a copy of a network whose weights follow it slowly (Tarvainen and Valpola, 2017)."""

from __future__ import annotations

import copy
from typing import TypeVar, overload

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
def follow(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Update a teacher in place: ``teacher = momentum * teacher + (1 - momentum) * student``.

    This is done for parameters, in one operation on all of them that needs no further memory. Buffers are copied: they
    are mostly statistics of batch normalisation, which are averages already.

    Args:
        teacher, student: networks of the same structure.
        momentum: in [0, 1].

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
    torch._foreach_lerp_(_held(teacher), _held(student), 1.0 - momentum)
    pairs: dict[torch.dtype, list[tuple[Tensor, Tensor]]] = {}
    for mine, other in zip(teacher.buffers(), student.buffers(), strict=True):
        pairs.setdefault(mine.dtype, []).append((mine, other))
    for group in pairs.values():  # of one type, which a single operation can copy
        torch._foreach_copy_([mine for mine, _ in group], [other for _, other in group])


def _held(network: nn.Module) -> list[Tensor]:
    """Return the parameters, of which a process may hold a share: the same share of both networks."""
    return [p.to_local() if hasattr(p, "to_local") else p for p in network.parameters()]


@overload
def growing_momentum(steps: int, largest: float) -> float: ...
@overload
def growing_momentum(steps: Tensor, largest: float) -> Tensor: ...
def growing_momentum(steps: Tensor | int, largest: float) -> Tensor | float:
    """Compute the momentum of a teacher: ``min(1 - 1 / (steps + 1), largest)`` (DACS).

    At first the teacher is the mean of all students so far, so that its random head is soon forgotten.

    Args:
        steps: steps that the student has made; a tensor of any shape where several things are averaged.
        largest: limit in [0, 1].

    Returns:
        In [0, ``largest``]; a tensor where ``steps`` is one.

    Example:
        >>> [growing_momentum(step, 0.99) for step in (0, 1, 1000)]
        [0.0, 0.5, 0.99]
    """
    grown = 1 - 1 / (steps + 1)
    return grown.clamp(max=largest) if isinstance(grown, Tensor) else min(grown, largest)
