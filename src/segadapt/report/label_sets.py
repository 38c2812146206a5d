"""The kinds of pseudo labels of a stage side by side: how many and how right, and which classes they keep."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from segadapt.report import words
from segadapt.report.figures import LINE_COLORS, Mark, ShareScale, mark_sign, share_lanes
from segadapt.report.log import LabelSet, OnlineLabels
from segadapt.report.reading import Round, RunRecord

LAST = 0.1
"""Part of the steps that is the end of training: labels are measured on single batches, which scatter."""
FEWEST = 5
"""Measurements to average, where there are so many."""
TOO_RARE = 0.5
"""A class with less than this part of its true share is pointed out."""


@dataclass(frozen=True)
class MeanSet:
    """One kind of pseudo labels; all shares in [0, 1].

    Attributes:
        density: share of the pixels that are labelled.
        accuracy: share of the labels that are right.
        classes: share of every class among the labels.
    """

    name: str
    density: float | None
    accuracy: float | None
    classes: Sequence[float] | None


@dataclass(frozen=True)
class LabelSets:
    """The kinds of labels of a stage, as means over ``steps``; ``truth`` holds the true share of every class."""

    sets: Sequence[MeanSet]
    truth: Sequence[float] | None
    steps: float | None = None


def at_the_end(found: Sequence[OnlineLabels]) -> LabelSets:
    """Labels made during training, as the mean over its last steps."""
    end = found[-1].position
    first = min(sum(labels.position <= (1 - LAST) * end for labels in found), max(0, len(found) - FEWEST))
    last = found[first:]
    kinds = dict.fromkeys(name for labels in last for name in labels.sets)
    sets = [_mean_set(name, [s for labels in last if (s := labels.sets.get(name)) is not None]) for name in kinds]
    truths = [labels.truth for labels in last if labels.truth is not None]
    steps = end - (found[first - 1].position if first else 0.0)
    return LabelSets(sets, _mean_classes(truths, [1.0] * len(truths)), steps)


def _mean_set(name: str, found: Sequence[LabelSet]) -> MeanSet:
    """Accuracies and classes are about the labelled pixels, so that a measurement counts by how many these are."""

    def known(measure: Callable[[LabelSet], Any]) -> tuple[list[Any], list[float]]:
        pairs = [(value, s.density or 0.0) for s in found if (value := measure(s)) is not None]
        return [value for value, _ in pairs], [weight for _, weight in pairs]

    accuracies, weights = known(lambda s: s.accuracy)
    densities, _ = known(lambda s: s.density)
    return MeanSet(
        name,
        _mean(densities, [1.0] * len(densities)),
        _mean(accuracies, weights),
        _mean_classes(*known(lambda s: s.classes)),
    )


def _mean(values: Sequence[float], weights: Sequence[float]) -> float | None:
    total = sum(weights)
    return sum(v * w for v, w in zip(values, weights, strict=True)) / total if total > 0 else None


def _mean_classes(rows: Sequence[Sequence[float]], weights: Sequence[float]) -> list[float] | None:
    """Mean of class shares; None where none are known, or where they are not of the same classes."""
    if not rows or len({len(row) for row in rows}) > 1:
        return None
    means = [_mean(column, weights) for column in zip(*rows, strict=True)]
    return None if any(m is None for m in means) else [m or 0.0 for m in means]


def of_rounds(rounds: Sequence[Round], names: Sequence[str]) -> LabelSets:
    """Stored labels of the first and the last round, with the truth of the whole target images."""
    ends = rounds if len(rounds) < 2 else (rounds[0], rounds[-1])

    def shares(found: Round, part: str) -> list[float] | None:
        values: dict[str, float | None] = {c.name: getattr(c, part) for c in found.classes}
        known = [value for name in names if (value := values.get(name)) is not None]
        return known if known and len(known) == len(names) else None

    sets = [
        MeanSet(f"round {r.number + 1}" if len(ends) > 1 else "labels", r.density, r.accuracy, shares(r, "label_share"))
        for r in ends
    ]
    truths = [truth for r in ends if (truth := shares(r, "truth_share")) is not None]
    return LabelSets(sets, truths[-1] if truths else None)


def label_sets(record: RunRecord, svg: Any) -> dict[str, dict[str, Any]]:
    """By stage: ``rows`` of the kinds of labels made during training, ``steps``, and the ``spread`` of the classes.

    A stage that makes labels during training is shown by these, another by what it stored.
    """
    shown: dict[str, dict[str, Any]] = {}
    stored: dict[str, list[Round]] = {}
    for entry in record.rounds:
        stored.setdefault(entry.stage, []).append(entry)
    for stage in dict.fromkeys([*stored, *record.log.online]):
        online = record.log.online.get(stage)
        found = at_the_end(online) if online else of_rounds(stored[stage], record.space.names)
        spread = _spread(found, record.space.names, svg)
        if online or spread:
            shown[stage] = {
                "rows": found.sets if online else [],
                "measured": any(s.accuracy is not None for s in found.sets),
                "steps": found.steps,
                "spread": spread,
            }
    return shown


def _spread(found: LabelSets, names: Sequence[str], svg: Any) -> dict[str, Any] | None:
    """Class distributions against that of the truth, frequent classes first (CPSL, figure 6)."""
    truth = found.truth
    sets = {s.name: s.classes for s in found.sets if s.classes is not None and len(s.classes) == len(names)}
    if truth is None or len(truth) != len(names) or not sets:
        return None
    colors = {name: LINE_COLORS[place % len(LINE_COLORS)] for place, name in enumerate(sets)}
    scale = share_scale([*truth, *(share for shares in sets.values() for share in shares)])
    lines = []
    for c in sorted(range(len(names)), key=lambda c: -truth[c]):
        marks = [Mark(name, colors[name], shares[c]) for name, shares in sets.items()]
        told = ", ".join(f"{name} {words.share(value)}" for name, value in [("truth", truth[c]), *_named(marks)])
        values = [{"share": m.value, "rare": m.value < TOO_RARE * truth[c]} for m in marks]
        drawn = svg(share_lanes(marks, truth[c], scale, f"{names[c]}: {told}"))
        lines.append({"name": names[c], "truth": truth[c], "values": values, "figure": drawn})
    return {
        "lines": lines,
        "keys": [{"name": name, "sign": svg(mark_sign(place, colors[name]))} for place, name in enumerate(sets)],
        "ticks": [{"place": f"{scale.place(tick):.2f}", "text": _percent(tick)} for tick in scale.ticks],
        "logarithmic": scale.low is not None,
    }


def _named(marks: Sequence[Mark]) -> list[tuple[str, float]]:
    return [(mark.name, mark.value) for mark in marks]


def share_scale(shares: Sequence[float]) -> ShareScale:
    """Logarithmic where positive shares span more than a decade; whole decades, but no more than six."""
    positive = [share for share in shares if share > 0]
    highest = max(positive, default=1.0)
    if min(positive, default=1.0) * 10 >= highest:
        return ShareScale(None, highest)
    top = math.ceil(math.log10(highest) - 1e-9)
    return ShareScale(10.0 ** max(math.floor(math.log10(min(positive)) + 1e-9), top - 6), 10.0**top)


def _percent(share: float) -> str:
    return f"{100 * share:.6g}%" if share else "0"
