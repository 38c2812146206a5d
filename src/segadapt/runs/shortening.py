"""The stages of a recipe at the length that they run: rules, ``every`` and ``short`` laid over what is published.

Which length a stage has: what the command says of the stage; else the run's ``length``; else the stage's own; else 1.
The run's ``length`` is always the share of what is published. In a recipe that gives stages a length of their own, a
stage without one is not a published stage (the source model of a small task): it keeps its steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import Field

from segadapt.core.settings import Settings, checked, unknown_key
from segadapt.errors import RequestError
from segadapt.methods.registry import stage_settings
from segadapt.methods.stage_config import Laid, Share, StageConfig
from segadapt.recipes import merge, resolved_stages
from segadapt.runs.length import rescaled, shorter

NOT_LAID = ("name", "method", "like", "length", "short")
"""Settings that say what a stage is; ``every`` and ``short`` cannot hold them."""

Stages = Mapping[str, Mapping[str, Any]]


class Request(NamedTuple):
    """Settings of a run before its lengths are applied.

    Attributes:
        where: names the recipe in errors.
        raw: settings of the recipe with the overrides of the command laid over.
        recipe: settings of each stage as the recipe has them.
        said: settings of each stage that the command says.
    """

    where: str
    raw: Mapping[str, Any]
    recipe: Stages
    said: Stages

    def follows(self, name: str) -> bool:
        """Return whether the run's ``length`` is that of a stage."""
        published = all(settings.get("length") is None for settings in self.recipe.values())
        own = self.recipe.get(name, {}).get("length") is not None
        return (published or own) and self.said.get(name, {}).get("length") is None


class Shortened(NamedTuple):
    """A stage at its length.

    Attributes:
        published: its settings at length 1, with the overrides of the command.
        settings: its settings as it runs, still without those overrides.
    """

    published: StageConfig
    settings: dict[str, Any]


class _OfAll(Settings):
    """Check the settings of a recipe that concern all stages, before they are applied."""

    length: Share | None = None
    every: Laid = Field(default_factory=dict)


def shortened(request: Request) -> dict[str, Shortened]:
    """Return the stages by name, in order.

    Raises:
        RequestError: a setting is wrong, ``every`` or ``short`` names one that a stage lacks, or ``short`` has no
            effect.
    """
    raw, where = request.raw, request.where
    of_all = checked(_OfAll, {key: raw[key] for key in ("length", "every") if key in raw}, where)
    result = {}
    for name, settings in resolved_stages(raw, where).items():
        if of_all.length is not None and request.follows(name):
            settings["length"] = of_all.length
        if settings.get("length") is None:
            settings.pop("length", None)  # null, as if it was not there
        result[name] = _stage(request, name, settings, of_all.every)
    return result


def _stage(request: Request, name: str, settings: dict[str, Any], every: Mapping[str, Any]) -> Shortened:
    where = f"{request.where}: stage '{name}'"
    cls, full = stage_settings(name, settings)
    published = checked(cls, full, where)
    _require_settings(cls, every, where, "every", "; every holds what all stages have")
    _require_settings(cls, published.short, where, "short")
    if published.length == 1:
        if published.short:
            raise RequestError(
                f"{where}: short is for stages with a length below 1; give a smaller length, or {name}.short=null"
            )
        return Shortened(published, merge(every, settings))
    own = {"length": request.recipe.get(name, {}).get("length")}
    said_for = checked(_OfAll, own, where).length or published.length
    short = rescaled(cls, published.short, published.length / said_for)
    for above in (shorter(published, published.length), every, short):
        full = merge(full, above)
    return Shortened(published, full)


def _require_settings(cls: type[StageConfig], values: Mapping[str, Any], where: str, key: str, hint: str = "") -> None:
    """Refuse settings under ``every`` or ``short`` that the stage lacks, or that say what a stage is."""
    if other := next((name for name in NOT_LAID if name in values), None):
        raise RequestError(f"{where}: {key} cannot hold '{other}'; give it to the stage itself")
    if complaint := unknown_key(cls, values, f"{key}."):
        raise RequestError(f"{where}: {complaint}{hint}")


def length_of(steps: int, request: Request) -> float:
    """Return the run's ``length`` with which its stages have about so many steps together.

    Args:
        steps: of all stages and their rounds, at least 1.
        request: the run.

    Raises:
        RequestError: a stage counts passes over the data, or no length gives so many steps.
    """
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
        raise RequestError(f"steps must be a whole number above 0, not {steps!r}")
    where, kept, published = request.where, {}, 0.0
    for name, (before, settings) in shortened(request).items():
        said = request.said.get(name, {})
        counted = {**settings, **{key: said[key] for key in ("steps", "epochs", "rounds") if key in said}}
        if counted.get("steps") is None or said.get("epochs") is not None:
            raise RequestError(
                f"{where}: stage '{name}' counts passes over the data (epochs), so that steps of the run cannot be "
                f"shared out; give a length, or {name}.steps=..."
            )
        rounds = counted.get("rounds", getattr(before, "rounds", 1))
        if said.get("steps") is not None or not request.follows(name):
            kept[name] = rounds * counted["steps"]
        elif before.steps is not None and before.short.get("steps") is None:
            published += rounds * before.steps
        else:
            published += rounds * counted["steps"] / before.length
    rest = steps - sum(kept.values())
    if rest < 1 or not published:
        raise RequestError(
            f"{where}: {steps} steps are not more than those that stages keep "
            f"({', '.join(f'{name} {count}' for name, count in kept.items())}); give more steps"
        )
    if rest > published:
        raise RequestError(
            f"{where}: {steps} steps are more than the published {round(published + sum(kept.values()))}; give fewer"
        )
    return float(f"{rest / published:.6g}")
