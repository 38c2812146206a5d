"""Optimisers and learning-rate schedules."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from segadapt.errors import RequestError
from segadapt.methods.stage_config import OptimiserConfig, ScheduleConfig
from segadapt.models.segmenter import Segmenter


def parameter_groups(network: nn.Module, config: OptimiserConfig) -> list[dict[str, Any]]:
    """Split the trained parameters of a network into groups by learning rate and weight decay.

    The head of a segmenter learns ``head_factor`` times faster than its encoder; a network that is not a segmenter
    has no head. With ``layer_decay`` d, layer i of the L layers of its encoder (what is in front of the blocks, then
    each block) learns at ``d ** (L - i)`` times its rate (BEiT, MAE). AdamW does not decay parameters with one
    dimension (biases, normalisation); SGD decays all parameters, as most published codes with convolutional networks
    do. With ``bias_factor``, what is called ``bias`` learns at another rate and never decays.

    Args:
        network: the network; parameters without gradient are left out, each other one is in exactly one group.
        config: settings of the optimiser.

    Returns:
        Groups with ``params``, ``lr`` and ``weight_decay``, as torch's optimisers take them.

    Raises:
        RequestError: rates decay by layer, but the network does not name its layers.
    """
    heads = network.head_modules() if isinstance(network, Segmenter) else []
    head = {id(p) for module in heads for p in module.parameters()}
    depth = _layer_factors(network, config.layer_decay)
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            factor = config.head_factor if id(parameter) in head else depth.get(id(parameter), 1.0)
            decayed = config.name == "sgd" or parameter.ndim > 1
            if config.bias_factor is not None and name.rpartition(".")[2] == "bias":
                factor, decayed = factor * config.bias_factor, False
            groups.setdefault((factor, decayed), []).append(parameter)
    return [
        {
            "params": members,
            "lr": config.lr * factor,
            "weight_decay": config.weight_decay if decayed else 0.0,
        }
        for (factor, decayed), members in sorted(groups.items(), key=lambda kv: kv[0])
    ]


def _layer_factors(network: nn.Module, decay: float) -> dict[int, float]:
    """Return the factor on the rate of each parameter of a segmenter's encoder, by its id; none without decay."""
    if decay == 1 or not isinstance(network, Segmenter):
        return {}
    layers = network.encoder_layers()
    if not layers:
        name = network.architecture.get("name", type(network).__name__)
        raise RequestError(
            f"optimiser.layer_decay is {decay}, but the network '{name}' does not name its layers; set it to 1, or "
            "take a network 'foundation:NAME'"
        )
    return {id(p): decay ** (len(layers) - i) for i, layer in enumerate(layers) for p in layer}


def build_optimiser(network: nn.Module, config: OptimiserConfig, factor: float = 1.0) -> torch.optim.Optimizer:
    """Make the optimiser of one network in one round; ``factor`` scales all learning rates.

    The fused implementation runs one kernel per parameter: a step over small networks on a CPU takes a quarter of
    the time of torch's default, which works on lists of tensors.
    """
    groups = parameter_groups(network, config)
    for group in groups:
        group["lr"] *= factor
        group["base_lr"] = group["lr"]
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, fused=True)
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=True)


def trained_parameters(optimisers: Iterable[torch.optim.Optimizer]) -> list[nn.Parameter]:
    """Return the parameters of optimisers, in their order."""
    return [p for optimiser in optimisers for group in optimiser.param_groups for p in group["params"]]


def schedule_factor(config: ScheduleConfig, step: int, steps: int) -> float:
    """Return the factor on the base learning rate at ``step`` (from 0) of a round of ``steps`` steps.

    Poly decay is ``(1 - step / horizon) ** power`` (DeepLab, AdaptSegNet), step decay ``factor ** (step // every)``;
    warm-up multiplies either by ``(step + 1) / warmup`` while ``step < warmup``.

    Example:
        >>> schedule_factor(ScheduleConfig(name="poly", power=1.0), step=25, steps=100)
        0.75
    """
    factor = 1.0
    if config.name == "poly":
        factor = max(0.0, 1.0 - step / (config.horizon or steps)) ** config.power
    elif config.name == "step":
        assert config.every is not None
        factor = config.factor ** (step // config.every)
    if step < config.warmup:
        factor *= (step + 1) / config.warmup
    return factor


def set_learning_rate(optimisers: Iterable[torch.optim.Optimizer], factor: float) -> None:
    """Set the learning rate of every group to ``factor`` times its base rate."""
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = group["base_lr"] * factor
