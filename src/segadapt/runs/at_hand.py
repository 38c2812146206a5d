"""Networks whose weights are at hand, the strongest first: what a default run may choose from without a download."""

from __future__ import annotations

import torch

from segadapt.runs.config import RunConfig


def networks_at_hand(config: RunConfig, device: torch.device) -> list[str]:
    """Return the names of the networks to choose from.

    Args:
        config: of the run; its own network is the last, as it is the fastest.
        device: on a CPU there is no time for others.
    """
    return [config.model.name]


def weights_of(network: str) -> str:
    """Return the setting ``model.weights`` of a network that was chosen."""
    return "imagenet"
