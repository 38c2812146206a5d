"""The log of a run, read for the report's curves. What cannot be read is skipped, as a stopped run cuts lines off."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

Found = dict[tuple[int, float], Any]
"""What was logged, by round and by step within the round."""


@dataclass(frozen=True)
class Step:
    """Losses of a stage at a position counted in steps from the start of the stage."""

    position: float
    losses: Mapping[str, float]


@dataclass(frozen=True)
class Evaluation:
    """Mean IoU (percent) of a stage after ``position`` steps."""

    round_index: int
    position: float
    miou: float


@dataclass(frozen=True)
class LabelSet:
    """One kind of pseudo labels in the batches before a position; shares in [0, 1].

    Attributes:
        miou, mean_accuracy: over the classes; None where the truth is not measured.
        density: share of the pixels that are labelled; None where it was not logged.
        accuracy: share of the labels that are right; None as above.
        classes: share of every class among the labels; None as above.
    """

    miou: float | None = None
    mean_accuracy: float | None = None
    density: float | None = None
    accuracy: float | None = None
    classes: tuple[float, ...] | None = None


@dataclass(frozen=True)
class OnlineLabels:
    """Pseudo labels of a stage at a position counted in steps from its start, by the name of their kind.

    ``truth`` is the true share of every class in the crops that they are of.
    """

    position: float
    sets: Mapping[str, LabelSet]
    truth: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Log:
    """Everything by stage; ``finished`` is the day (UTC) of the last event."""

    steps: Mapping[str, Sequence[Step]] = field(default_factory=dict)
    evaluations: Mapping[str, Sequence[Evaluation]] = field(default_factory=dict)
    online: Mapping[str, Sequence[OnlineLabels]] = field(default_factory=dict)
    finished: str = ""


def number(value: Any) -> float | None:
    """A finite number, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def read_log(path: Path) -> Log:
    """The log in a file; empty when there is none.

    The log counts steps within a round; here they are counted from the start of the stage. Steps
    that a resumed run did again replace those of before.
    """
    losses: dict[str, Found] = {}
    online: dict[str, Found] = {}
    evaluations: dict[str, dict[int, Evaluation]] = {}
    last: float | None = None
    for event in _events(path):
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


def _events(path: Path) -> Iterable[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict):
            yield event


def _label_sets(raw: Any) -> dict[str, LabelSet]:
    """The kinds of pseudo labels of an event of which anything is known."""
    entries = raw.items() if isinstance(raw, dict) else []
    keys = ("miou", "mean_accuracy", "density", "accuracy")
    sets = {
        str(name): LabelSet(**{key: number(entry.get(key)) for key in keys}, classes=_shares(entry.get("classes")))
        for name, entry in entries
        if isinstance(entry, dict)
    }
    return {name: s for name, s in sets.items() if s != LabelSet()}


def _shares(raw: Any) -> tuple[float, ...] | None:
    """Shares of all classes, or None where one is no share."""
    values = tuple(v for entry in raw if (v := number(entry)) is not None and v >= 0) if isinstance(raw, list) else ()
    return values if values and len(values) == len(raw) else None


def _starts(places: Iterable[tuple[int, float]]) -> dict[int, float]:
    """The position at which every round starts: where the one before ended."""
    ends: dict[int, float] = {}
    for round_index, step in places:
        ends[round_index] = max(step, ends.get(round_index, 0.0))
    starts, position = {}, 0.0
    for round_index in sorted(ends):
        starts[round_index] = position
        position += ends[round_index]
    return starts


def _placed(found: Found, starts: Mapping[int, float]) -> list[tuple[float, Any]]:
    """Logged values in order, with their position in the stage."""
    return [
        (starts[round_index] + step, values)
        for (round_index, step), values in sorted(found.items(), key=lambda e: e[0])
    ]
