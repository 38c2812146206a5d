"""A shorter run of a published recipe, by rule.

A recipe names the published settings once. A stage with ``length`` l < 1 has l times the steps, and what counts steps
or belongs to one step follows (settings say so by :class:`segadapt.core.settings.Scaling`):

=================  ==========================  ====================================================================
setting            becomes                     why
=================  ==========================  ====================================================================
steps, warm-ups    l n, at least 1             they keep their share of the stage
passes (epochs)    l n                         the same
momentum m         m ** (1 / l), at least 0.9  an average forgets over the same share of the stage; below 0.9 it would
                                               no longer average (fewer than ten steps)
learning rate r    r / sqrt(l)                 weights that steps move at random travel r * sqrt(steps), so they get
                                               as far; a rate in proportion to 1 / l would be unstable
=================  ==========================  ====================================================================

What a short run on other data must set itself stands under ``short`` of the stage, with its reason, and is laid over
the result; so are overrides of the command. :mod:`segadapt.runs.shortening` does both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from segadapt.core.settings import Scaling, class_at
from segadapt.methods.stage_config import StageConfig

LEAST_MOMENTUM = 0.9
"""A moving average that keeps less than this share per step is no average: it holds fewer than ten steps."""


def scaled(value: float, scaling: Scaling, length: float) -> float:
    """Return the value of a setting in a stage of a share of its published length.

    Args:
        value: as published.
        scaling: what the setting is.
        length: l, above 0.

    Example:
        >>> scaled(40_000, Scaling.STEPS, 0.025), scaled(0.999, Scaling.MOMENTUM, 0.1)
        (1000, 0.99004)
    """
    if scaling is Scaling.STEPS:
        return max(1, round(value * length)) if value else 0
    if scaling is Scaling.PASSES:
        return _three_digits(value * length)
    if scaling is Scaling.RATE:
        return _three_digits(value / math.sqrt(length))
    forgotten = _three_digits(1 - float(value) ** (1 / length))  # of the kept share they could round to 1: no update
    return max(round(1 - forgotten, 12), min(value, LEAST_MOMENTUM))


def shorter(settings: BaseModel, length: float) -> dict[str, Any]:
    """Return the settings that change, as a mapping to lay over those of a stage.

    Args:
        settings: published settings of a stage, or of a part of it.
        length: l, in (0, 1].

    Example:
        >>> shorter(StageConfig(name="adapt", method="x", steps=40_000), 0.01)["steps"]
        400
    """
    changes: dict[str, Any] = {}
    for name, value in settings:
        if isinstance(value, BaseModel):
            if inner := shorter(value, length):
                changes[name] = inner
        elif (new := _by_its_rule(type(settings), name, value, length)) != value:
            changes[name] = new
    return changes


def rescaled(cls: type[BaseModel], values: Mapping[str, Any], length: float) -> dict[str, Any]:
    """Return settings of a class, not yet checked, with the rules applied to what they name.

    Args:
        cls: settings class.
        values: some of its settings; what is not a number where one belongs stays as it is.
        length: l, above 0.

    Example:
        >>> rescaled(StageConfig, {"steps": 200, "optimiser": {"lr": 1e-4, "name": "adamw"}}, 0.25)
        {'steps': 50, 'optimiser': {'lr': 0.0002, 'name': 'adamw'}}
    """
    changed = dict(values)
    for name, value in values.items():
        inner = class_at(cls, [name])
        if inner is not None and isinstance(value, Mapping):
            changed[name] = rescaled(inner, value, length)
        else:
            changed[name] = _by_its_rule(cls, name, value, length)
    return changed


def scaling_of(cls: type[BaseModel], name: str) -> Scaling | None:
    """Return the rule of a setting, of the nearest class that gives one: a subclass may change the default alone."""
    fields = (owner.model_fields.get(name) for owner in cls.__mro__ if issubclass(owner, BaseModel))
    return next((m for field in fields if field is not None for m in field.metadata if isinstance(m, Scaling)), None)


def _by_its_rule(cls: type[BaseModel], name: str, value: Any, length: float) -> Any:
    """Apply the rule of a setting to its value; without a rule, or if it is no number, it stays."""
    scaling = scaling_of(cls, name)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return scaled(value, scaling, length) if scaling is not None and number else value


def changed(published: StageConfig, stage: StageConfig) -> list[tuple[str, Any, Any]]:
    """List what differs between the published settings of a stage and those it runs with: name, published, now.

    ``length`` and ``short`` themselves are left out.
    """
    own = ("length", "short")
    return list(_differences(published.model_dump(exclude={*own}), stage.model_dump(exclude={*own})))


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    for name, value in new.items():
        before = old.get(name)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            yield from _differences(before, value, f"{prefix}{name}.")
        elif value != before:
            yield prefix + name, before, value


def _three_digits(value: float) -> float:
    """Round to three significant digits, which is what a recipe would say."""
    return float(f"{value:.3g}")
