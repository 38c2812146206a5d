"""Draw the curves of the report: scores, pseudo labels and losses over the steps of training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from segadapt.report import words
from segadapt.report.figures import LINE_COLORS, Curve, Level, curve_chart, thin
from segadapt.report.log import LabelSet, OnlineLabels, Step
from segadapt.report.reading import Row, RunRecord

ONLINE_POINTS = 60
"""Largest number of points of a curve of pseudo labels: single batches scatter, so the points are means."""


def charts(record: RunRecord, rows: Mapping[str, Row | None], svg: Any) -> list[dict[str, Any]]:
    """Draw mean IoU during adaptation, then the pseudo labels and the losses of every stage.

    Args:
        record: the run.
        rows: rows of the headline by role.
        svg: marks text as HTML.
    """
    titles = record.titles
    made = []
    score = _score_chart(record, rows, titles)
    if score:
        made.append({"title": "Mean IoU during training", "note": "on the test set, in percent", "figure": svg(score)})
    for stage, found in record.log.online.items():
        drawn = _online_charts(found, titles.get(stage, stage))
        made += [{"title": chart.title, "note": chart.note, "figure": svg(chart.figure)} for chart in drawn]
    for stage, steps in record.log.steps.items():
        figure = _loss_chart(steps, titles.get(stage, stage))
        if figure:
            made.append({"title": titles.get(stage, stage), "note": "training loss", "figure": svg(figure)})
    return made


def _score_chart(record: RunRecord, rows: Mapping[str, Row | None], titles: Mapping[str, str]) -> str:
    """Draw the scores of stages evaluated more than once, with source and oracle as levels."""
    several = {stage: e for stage, e in record.log.evaluations.items() if len(e) > 1}
    if not several:
        return ""
    curves = [
        Curve(
            titles.get(stage, stage),
            "var(--adapted)" if len(several) == 1 else LINE_COLORS[place % len(LINE_COLORS)],
            [(e.position, e.miou) for e in found],
            marked=True,
            notes=[f"round {e.round_index + 1}, step {e.position:.0f}: {e.miou:.1f}" for e in found],
        )
        for place, (stage, found) in enumerate(several.items())
    ]
    levels = [
        Level(row.title, f"var(--{role})", row.miou)
        for role in ("source", "oracle")
        if (row := rows[role]) is not None and row.miou is not None and row.stage not in several
    ]
    return curve_chart(curves, levels, from_zero=False, description="Mean IoU on the test set by training step")


@dataclass(frozen=True)
class Drawn:
    """A chart with its title and a note beside it."""

    title: str
    note: str
    figure: str


def _online_charts(found: Sequence[OnlineLabels], title: str) -> list[Drawn]:
    """Draw how good every kind of pseudo labels is, or without truth how many pixels have a label."""
    what, truth = "of the pseudo labels during training", "compared with the truth of the training crops, in percent"
    drawn = [
        _online_chart(found, title, f"Mean IoU {what}", truth, lambda s: s.miou),
        _online_chart(found, title, f"Mean accuracy {what}", truth, lambda s: s.mean_accuracy),
    ]
    if not any(drawn):
        heading, note = "Pixels with a pseudo label during training", "in percent of all pixels"
        drawn = [_online_chart(found, title, heading, note, lambda s: s.density, coverage=False)]
    return [chart for chart in drawn if chart]


def _online_chart(
    found: Sequence[OnlineLabels],
    title: str,
    heading: str,
    note: str,
    measure: Callable[[LabelSet], float | None],
    coverage: bool = True,
) -> Drawn | None:
    """Draw one measure of every kind of pseudo labels by step; None if it is unknown."""
    curves = []
    for place, kind in enumerate(dict.fromkeys(name for labels in found for name in labels.sets)):
        sets = [(labels.position, s) for labels in found if (s := labels.sets.get(kind)) is not None]
        known = [(position, share) for position, s in sets if (share := measure(s)) is not None]
        points = thin([(position, 100 * share) for position, share in known], ONLINE_POINTS)
        if points:
            name = kind + (_coverage([s.density for _, s in sets]) if coverage else "")
            curves.append(Curve(name, LINE_COLORS[place % len(LINE_COLORS)], points))
    if not curves:
        return None
    figure = curve_chart(curves, from_zero=False, description=f"{heading} by step, {title}")
    return Drawn(heading, f"{title}; {note}", figure)


def _coverage(densities: Sequence[float | None]) -> str:
    """Say which share of the pixels an accuracy covers, unless it is all: few confident pixels are easy."""
    known = [d for d in densities if d is not None]
    mean = sum(known) / len(known) if known else 1.0
    return "" if mean > 0.9995 else f" ({words.share(mean)} of the pixels)"


def _loss_chart(steps: Sequence[Step], title: str) -> str:
    names = list(dict.fromkeys(name for step in steps for name in step.losses))
    if len(names) == 2 and "total" in names:
        names.remove("total")  # with a single term the total equals it
    curves = []
    for place, name in enumerate(names):
        points = [(step.position, step.losses[name]) for step in steps if name in step.losses]
        color = "var(--soft)" if name == "total" else LINE_COLORS[place % len(LINE_COLORS)]
        curves.append(Curve(name, color, points))
    return curve_chart(curves, description=f"Training loss of {title} by step") if curves else ""
