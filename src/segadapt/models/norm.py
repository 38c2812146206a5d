"""How normalisation layers behave during training."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

NormMode = Literal["train", "affine", "frozen"]


def set_norm_mode(model: nn.Module, mode: NormMode) -> None:
    """Choose what batch normalisation does whenever the model is in training mode.

    Args:
        model: changed in place; the choice survives later calls of ``model.train()``.
        mode: ``train`` normalises with the statistics of the batch and updates the running ones;
            ``affine`` normalises with the running statistics and trains scale and shift; ``frozen``
            keeps scale and shift as well. Layers without running statistics keep them anyway.
    """
    for layer in model.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            _pin(layer, pinned=mode != "train")
            for parameter in layer.parameters(recurse=False):
                parameter.requires_grad_(mode != "frozen")


def _pin(layer: nn.Module, pinned: bool) -> None:
    layer.__dict__.pop("train", None)
    if pinned:
        layer.eval()

        def stay(mode: bool = True, layer: nn.Module = layer) -> nn.Module:
            return layer

        layer.__dict__["train"] = stay


def running_statistics(model: nn.Module) -> list[Tensor]:
    """Running means and variances of all batch normalisation in a model; none of layers without them."""
    layers = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    return [b for layer in layers for b in layer.buffers(recurse=False) if b.is_floating_point()]
