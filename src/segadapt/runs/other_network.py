"""A recipe on another network than its own: arguments that only the recipe's network takes go with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from segadapt.models.build import accepted_arguments
from segadapt.recipes import override


def on_other_networks(
    raw: Mapping[str, Any], overrides: Sequence[str], said: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, Any], list[str]]:
    """Return settings whose networks have no arguments of the recipe that the networks named by overrides lack.

    An argument that an override gives stays, so that a wrong one is refused by the network.

    Args:
        raw: settings of a run with its overrides, before they are checked.
        overrides: as the command gives them.
        said: what overrides say of each stage, by its name.

    Returns:
        The settings, and a line for each network that lost arguments.
    """
    of_model = override({}, [o for o in overrides if o.partition("=")[0].split(".")[0] == "model"], ("model",))
    model, lines = _fitted(raw.get("model"), of_model.get("model"), "model")
    changed = {**raw, "model": model} if "model" in raw else dict(raw)
    stages = dict(raw["stages"])
    for name, stage in stages.items():
        if isinstance(stage, Mapping) and stage.get("network") is not None:
            network, more = _fitted(stage["network"], said.get(name, {}).get("network"), f"{name}.network")
            stages[name] = {**stage, "network": network}
            lines += more
    return {**changed, "stages": stages}, lines


def _fitted(network: Any, said: Any, where: str) -> tuple[Any, list[str]]:
    """Return the settings of a network without what it lacks, and a line that says so."""
    name = said.get("name") if isinstance(said, Mapping) else None
    if not isinstance(name, str) or not isinstance(network, Mapping) or not isinstance(network.get("arguments"), dict):
        return network, []
    kept, left = _kept(name, network["arguments"], said.get("arguments") or {})
    line = f"{where}.name={name} takes none of the recipe's {', '.join(left)}; left out of {where}.arguments"
    return {**network, "arguments": kept}, [line] if left else []


def _kept(name: str, arguments: Mapping[str, Any], said: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the arguments that a network takes or that were said, and the names of the others."""
    accepted = accepted_arguments(name)
    if accepted is None:
        return dict(arguments), []
    kept = {key: value for key, value in arguments.items() if key in accepted or key in said}
    left = [key for key in arguments if key not in kept]
    if isinstance(kept.get("base"), Mapping):
        inside = said.get("base") if isinstance(said.get("base"), Mapping) else {}
        kept["base"], more = _kept(name.partition(":")[2], kept["base"], inside or {})
        left += [f"base.{key}" for key in more]
    return kept, left
