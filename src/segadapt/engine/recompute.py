"""Activations that are computed again in the backward pass instead of being kept (Chen et al., 2016)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from segadapt.models.norm import unchanged_statistics


@contextmanager
def recomputed(blocks: Iterable[nn.Module]) -> Iterator[None]:
    """Return a context in which blocks keep nothing of a forward pass but their input.

    The numbers are those of other passes: dropout draws the same again, and running statistics move once.

    Args:
        blocks: modules that are not inside each other.
    """
    blocks = list(blocks)
    for block in blocks:
        block.__dict__["forward"] = _again(block, block.forward)
    try:
        yield
    finally:
        for block in blocks:
            del block.__dict__["forward"]


def _again(block: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
    """Return a forward pass of a block that keeps its input alone."""

    def run(*given: Any, **named: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*given, **named)
        contexts = lambda: (nullcontext(), unchanged_statistics(block))  # noqa: E731
        return checkpoint(forward, *given, use_reentrant=False, context_fn=contexts, **named)

    return run
