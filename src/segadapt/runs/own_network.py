"""From a network of one's own, a module of a script, to the model part of a configuration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from segadapt.errors import RequestError
from segadapt.models.build import ModelConfig
from segadapt.models.plain import PREFIX, give_network
from segadapt.models.segmenter import IMAGENET, Preprocessing
from segadapt.runs.config import RunConfig

HRDA = "hrda:"
"""Opens the names of networks that look at two resolutions."""


def with_network(
    config: RunConfig,
    network: nn.Module | None,
    head: str | None,
    preprocessing: Preprocessing,
    overrides: Sequence[str] = (),
) -> RunConfig:
    """Return a configuration that trains a module of a script instead of the network that it names.

    A network on two resolutions, ``hrda:NAME``, keeps its settings and looks through the module instead of NAME; so
    does the network of a stage, where NAME is the network of the run.

    Args:
        config: resolved configuration.
        network: the module; with None the configuration stays as it is.
        head, preprocessing: see :func:`~segadapt.models.plain.give_network`.
        overrides: that made the configuration.

    Raises:
        RequestError: an override names another network or weights, or there is no network to have a head.
    """
    if network is None:
        if head is not None or preprocessing != IMAGENET:
            raise RequestError(
                "head and preprocessing describe a network of one's own; give network, or leave them out"
            )
        return config
    if config.start is not None:
        raise RequestError("network and model both say what the run starts from; give one of them")
    name, arguments = give_network(network, preprocessing=preprocessing, head=head)
    named = [o for o in overrides if o.startswith(("model.", "model="))]
    if config.model.name.startswith(HRDA):
        named = [o for o in named if not o.startswith("model.arguments.") and f"{HRDA}{PREFIX}" not in o]
    if named:
        raise RequestError(
            f"override '{named[0]}' changes the network that network=... replaces; leave out one of them"
        )
    stages = tuple(
        stage.model_copy(update={"network": _through(stage.network, name, arguments)})
        if stage.network is not None and stage.network.name == f"{HRDA}{config.model.name}"
        else stage
        for stage in config.stages
    )
    return config.model_copy(update={"model": _through(config.model, name, arguments), "stages": stages})


def _through(network: ModelConfig, name: str, arguments: dict[str, Any]) -> ModelConfig:
    """Return the settings of the module in place of a network, or of the one that looks at two resolutions."""
    if network.name.startswith(HRDA):
        kept = {k: v for k, v in network.arguments.items() if k not in ("base", "preprocessing")}
        name, arguments = f"{HRDA}{name}", {**kept, "base": arguments}
    return network.model_copy(update={"name": name, "weights": None, "arguments": arguments})
