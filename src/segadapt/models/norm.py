"""Behaviour of batch normalisation during training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from torch import Tensor, nn

NormMode = Literal["train", "statistics", "affine", "frozen"]


def set_norm_mode(model: nn.Module, mode: NormMode) -> None:
    """Choose what batch normalisation does whenever the model is in training mode.

    Args:
        model: changed in place; the choice survives later calls of ``model.train()``.
        mode: ``train`` normalises with the statistics of the batch, updates the running ones and trains scale
            and shift; ``statistics`` does the same but keeps scale and shift (the codes of AdaptSeg and BCL);
            ``affine`` normalises with the running statistics, keeps them, and trains scale and shift;
            ``frozen`` keeps all of it. A layer without running statistics uses the statistics of the batch in
            every mode.

    Example:
        >>> set_norm_mode(model, "affine")
        >>> model.train()  # batch normalisation still uses its running statistics
    """
    for layer in model.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            _pin(layer, pinned=mode in ("affine", "frozen"))
            for parameter in layer.parameters(recurse=False):
                parameter.requires_grad_(mode in ("train", "affine"))


def _pin(layer: nn.Module, pinned: bool) -> None:
    """Keep a layer in evaluation mode whatever ``train`` is called with, or undo that."""
    layer.__dict__.pop("train", None)
    if pinned:
        layer.eval()

        def stay(mode: bool = True, layer: nn.Module = layer) -> nn.Module:
            return layer

        layer.__dict__["train"] = stay


def running_statistics(model: nn.Module) -> list[Tensor]:
    """Return the running means and variances of all batch normalisation layers that have them."""
    layers = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    return [b for layer in layers for b in layer.buffers(recurse=False) if b.is_floating_point()]


@contextmanager
def unchanged_statistics(model: nn.Module) -> Iterator[None]:
    """Return a context in which batch normalisation computes as before but keeps its running statistics.

    A pass that is computed again would otherwise count its batch twice.
    """
    layers = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    moving = [layer for layer in layers if layer.training and layer.track_running_stats]
    kept = [(layer.momentum, layer.num_batches_tracked) for layer in moving]
    for layer in moving:
        layer.momentum, layer.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for layer, (momentum, batches) in zip(moving, kept, strict=True):
            layer.momentum, layer.num_batches_tracked = momentum, batches
