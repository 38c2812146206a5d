"""Learning rates of AdamW that move weights as far per step as SGD with published settings would.

SGD moves a weight by ``lr / (1 - momentum)`` times its gradient; AdamW by about its learning rate, whatever the size of
the gradient. A recipe for SGD therefore says by how much the *relative sizes* of gradients count: a loss with
ten times the gradient trains ten times as fast. ``optimiser.name: matched`` keeps that with AdamW, which small networks
and short runs need: at the start of every round the gradients of a few batches are measured, without a step, and each
group of parameters gets

    lr = lr_SGD / (1 - momentum) * g,    weight decay = weight decay_SGD / g,    g = root mean square of its gradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import nn

from segadapt.engine.sharding import whole_tensor

MEASURED = 8
"""Batches whose gradients are measured."""


def gradient_sizes(
    optimisers: Mapping[str, torch.optim.Optimizer], gradients: Callable[[], Iterable[None]], module: nn.Module
) -> dict[str, list[float]]:
    """Measure the root mean square of the gradients of each parameter group.

    Args:
        optimisers: their groups are measured, never stepped.
        gradients: fills ``.grad`` of the parameters anew at each iteration.
        module: its buffers (running statistics, what a method remembers) are put back afterwards.

    Returns:
        One number per group of each optimiser; groups without any gradient have 0.
    """
    kept = {name: buffer.clone() for name, buffer in module.named_buffers()}
    squares = {name: [0.0] * len(optimiser.param_groups) for name, optimiser in optimisers.items()}
    batches = 0
    for _ in gradients():
        batches += 1
        for name, optimiser in optimisers.items():
            for i, group in enumerate(optimiser.param_groups):
                squares[name][i] += _mean_square(group["params"])
    with torch.no_grad():
        for name, buffer in module.named_buffers():
            buffer.copy_(kept[name])
    return {name: [math.sqrt(total / max(batches, 1)) for total in totals] for name, totals in squares.items()}


def _mean_square(parameters: Iterable[nn.Parameter]) -> float:
    """Return the mean square of the gradients; a parameter without one counts as zeros."""
    parameters = list(parameters)
    found = [whole_tensor(p.grad.float().square().sum()) for p in parameters if p.grad is not None]
    return float(torch.stack(found).sum()) / sum(p.numel() for p in parameters) if found else 0.0


def match(optimiser: torch.optim.Optimizer, sizes: Iterable[float], momentum: float) -> list[float]:
    """Set the rates of an AdamW whose groups hold the rates of SGD; return them.

    Args:
        optimiser: AdamW.
        sizes: g of each group, see :func:`gradient_sizes`; a group of size 0 keeps its rate, as it does not move.
        momentum: of SGD, in [0, 1).

    Example:
        >>> weight = nn.Parameter(torch.zeros(1))
        >>> adamw = torch.optim.AdamW([{"params": [weight], "lr": 0.1, "base_lr": 0.1, "weight_decay": 0.0}])
        >>> [round(rate, 6) for rate in match(adamw, [0.01], momentum=0.9)]
        [0.01]
    """
    for group, size in zip(optimiser.param_groups, sizes, strict=True):
        if size > 0:
            group["lr"] = group["base_lr"] = group["base_lr"] / (1 - momentum) * size
            group["weight_decay"] /= size
    return [group["base_lr"] for group in optimiser.param_groups]
