"""Compare the kinds of pseudo labels of a stage: how many there are, how many are right, and their classes."""

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
"""Share of the steps that count as the end of training; single measurements on batches scatter too much."""
FEWEST = 5
"""Least number of measurements to average, if there are so many."""
TOO_RARE = 0.5
"""The page marks a class with less than this part of its true share."""


@dataclass(frozen=True)
class MeanSet:
    """One kind of pseudo labels; all shares in [0, 1], or None if unknown.

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
    """The kinds of labels of a stage, as means over its last ``steps`` steps.

    ``truth`` is the true share of every class. ``steps`` is None for stored labels.
    """

    sets: Sequence[MeanSet]
    truth: Sequence[float] | None
    steps: float | None = None


def at_the_end(found: Sequence[OnlineLabels]) -> LabelSets:
    """Average the labels made during training over its last steps."""
    end = found[-1].position
    first = min(sum(labels.position <= (1 - LAST) * end for labels in found), max(0, len(found) - FEWEST))
    last = found[first:]
    kinds = dict.fromkeys(name for labels in last for name in labels.sets)
    sets = [_mean_set(name, [s for labels in last if (s := labels.sets.get(name)) is not None]) for name in kinds]
    truths = [labels.truth for labels in last if labels.truth is not None]
    steps = end - (found[first - 1].position if first else 0.0)
    return LabelSets(sets, _mean_classes(truths, [1.0] * len(truths)), steps)


def _mean_set(name: str, found: Sequence[LabelSet]) -> MeanSet:
    """Average one kind of labels; accuracy and classes weigh a measurement by its number of labelled pixels."""

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
    """Average class shares; None if none are known, or their numbers of classes differ."""
    if not rows or len({len(row) for row in rows}) > 1:
        return None
    means = [_mean(column, weights) for column in zip(*rows, strict=True)]
    return None if any(m is None for m in means) else [m or 0.0 for m in means]


def of_rounds(rounds: Sequence[Round], names: Sequence[str]) -> LabelSets:
    """Return the stored labels of the first and the last round, with the truth of whole target images."""
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
    """Return for every stage its kinds of labels, for the page.

    The labels are those made during training if there are any, and the stored ones otherwise.

    Args:
        record: the run.
        svg: marks text as HTML.

    Returns:
        By stage: ``rows`` (kinds of labels made during training), ``measured`` (whether an accuracy is known),
        ``steps`` (see :class:`LabelSets`) and ``spread`` (classes of labels and truth, or None).
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
    """Compare class distributions of labels and truth, frequent classes first (CPSL, figure 6)."""
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
    """Choose a scale: logarithmic over at most six whole decades if positive shares span more than one."""
    positive = [share for share in shares if share > 0]
    highest = max(positive, default=1.0)
    if min(positive, default=1.0) * 10 >= highest:
        return ShareScale(None, highest)
    top = math.ceil(math.log10(highest) - 1e-9)
    return ShareScale(10.0 ** max(math.floor(math.log10(min(positive)) + 1e-9), top - 6), 10.0**top)


def _percent(share: float) -> str:
    return f"{100 * share:.6g}%" if share else "0"
