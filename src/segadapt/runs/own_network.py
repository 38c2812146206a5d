"""From a network of one's own, a module of a script, to the model part of a configuration."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from segadapt.errors import RequestError
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

    A network on two resolutions, ``hrda:NAME``, keeps its settings and looks through the module instead of NAME.

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
    name, arguments = give_network(network, preprocessing=preprocessing, head=head)
    twice = config.model.name.startswith(HRDA)
    named = [o for o in overrides if o.startswith(("model.", "model="))]
    if twice:
        kept = {k: v for k, v in config.model.arguments.items() if k not in ("base", "preprocessing")}
        arguments = {**kept, "base": arguments}
        named = [o for o in named if not o.startswith("model.arguments.") and f"{HRDA}{PREFIX}" not in o]
        name = f"{HRDA}{name}"
    if named:
        raise RequestError(
            f"override '{named[0]}' changes the network that network=... replaces; leave out one of them"
        )
    model = config.model.model_copy(update={"name": name, "weights": None, "arguments": arguments})
    return config.model_copy(update={"model": model})
