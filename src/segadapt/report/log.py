"""Read the log of a run for the report's curves. Unreadable lines are skipped, because a stopped run cuts lines off."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from segadapt.core.files import read_events

Found = dict[tuple[int, float], Any]
"""Logged values by round and by step within the round."""


@dataclass(frozen=True)
class Step:
    """Losses by name; ``position`` counts steps from the start of the stage."""

    position: float
    losses: Mapping[str, float]


@dataclass(frozen=True)
class Evaluation:
    """Mean IoU in percent after ``position`` steps of a stage, in round ``round_index`` (from 0)."""

    round_index: int
    position: float
    miou: float


@dataclass(frozen=True)
class LabelSet:
    """One kind of pseudo labels in the batches before a position; all values in [0, 1], or None if not logged.

    Attributes:
        miou, mean_accuracy: means over the classes, against the truth.
        density: share of the pixels that are labelled.
        accuracy: share of the labels that are right.
        classes: share of every class among the labels.
    """

    miou: float | None = None
    mean_accuracy: float | None = None
    density: float | None = None
    accuracy: float | None = None
    classes: tuple[float, ...] | None = None


@dataclass(frozen=True)
class OnlineLabels:
    """Pseudo labels of a stage by the name of their kind.

    Attributes:
        position: in steps from the start of the stage.
        sets: measurements by kind of labels.
        truth: true share of every class in the labelled crops, or None.
    """

    position: float
    sets: Mapping[str, LabelSet]
    truth: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Log:
    """The log by stage; ``finished`` is the day of the last event in UTC, or an empty text."""

    steps: Mapping[str, Sequence[Step]] = field(default_factory=dict)
    evaluations: Mapping[str, Sequence[Evaluation]] = field(default_factory=dict)
    online: Mapping[str, Sequence[OnlineLabels]] = field(default_factory=dict)
    finished: str = ""


def number(value: Any) -> float | None:
    """Return a finite number as float, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def read_log(path: Path) -> Log:
    """Read the log in a file; empty if the file is missing.

    The log counts steps within a round; the result counts them from the start of the stage. If a
    resumed run repeated steps, the later values replace the earlier ones.
    """
    losses: dict[str, Found] = {}
    online: dict[str, Found] = {}
    evaluations: dict[str, dict[int, Evaluation]] = {}
    last: float | None = None
    for event in read_events(path):
        last = number(event.get("time")) or last
        kind, stage, step = event.get("event"), str(event.get("stage", "")), number(event.get("step"))
        round_index = int(number(event.get("round")) or 0)
        if step is None:
            continue
        if kind == "step" and isinstance(event.get("losses"), dict):
            values = {str(k): v for k, raw in event["losses"].items() if (v := number(raw)) is not None}
            losses.setdefault(stage, {})[round_index, step] = values
        elif kind == "online_labels" and (sets := _label_sets(event.get("sets"))):
            online.setdefault(stage, {})[round_index, step] = sets, _shares(event.get("truth"))
        elif kind == "evaluation" and isinstance(event.get("scores"), dict):
            miou = number(event["scores"].get("miou"))
            if miou is not None:
                evaluations.setdefault(stage, {})[int(step)] = Evaluation(round_index, step, miou)
    starts = {stage: _starts([*losses.get(stage, {}), *online.get(stage, {})]) for stage in {*losses, *online}}
    return Log(
        {stage: [Step(p, v) for p, v in _placed(found, starts[stage])] for stage, found in losses.items()},
        {stage: [found[k] for k in sorted(found)] for stage, found in evaluations.items()},
        {stage: [OnlineLabels(p, *v) for p, v in _placed(found, starts[stage])] for stage, found in online.items()},
        f"{(at := datetime.fromtimestamp(last, timezone.utc)).day} {at:%B %Y}" if last else "",
    )


def _label_sets(raw: Any) -> dict[str, LabelSet]:
    """Read the kinds of pseudo labels of an event; a kind without any value is left out."""
    entries = raw.items() if isinstance(raw, dict) else []
    keys = ("miou", "mean_accuracy", "density", "accuracy")
    sets = {
        str(name): LabelSet(**{key: number(entry.get(key)) for key in keys}, classes=_shares(entry.get("classes")))
        for name, entry in entries
        if isinstance(entry, dict)
    }
    return {name: s for name, s in sets.items() if s != LabelSet()}


def _shares(raw: Any) -> tuple[float, ...] | None:
    """Read the shares of all classes; None if one of them is not a share."""
    values = tuple(v for entry in raw if (v := number(entry)) is not None and v >= 0) if isinstance(raw, list) else ()
    return values if values and len(values) == len(raw) else None


def _starts(places: Iterable[tuple[int, float]]) -> dict[int, float]:
    """Return the position at which every round starts: the end of the round before."""
    ends: dict[int, float] = {}
    for round_index, step in places:
        ends[round_index] = max(step, ends.get(round_index, 0.0))
    starts, position = {}, 0.0
    for round_index in sorted(ends):
        starts[round_index] = position
        position += ends[round_index]
    return starts


def _placed(found: Found, starts: Mapping[int, float]) -> list[tuple[float, Any]]:
    """Return logged values in order, with their position in the stage."""
    return [
        (starts[round_index] + step, values)
        for (round_index, step), values in sorted(found.items(), key=lambda e: e[0])
    ]
