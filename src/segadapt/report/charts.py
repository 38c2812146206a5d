"""The curves of the report: scores, pseudo labels and losses over the steps of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from segadapt.report import words
from segadapt.report.figures import Curve, Level, curve_chart, thin
from segadapt.report.log import OnlineLabels, Step
from segadapt.report.reading import Row, RunRecord

LINES = 6
"""Number of line colours in report.css."""
ONLINE_POINTS = 60
"""Pseudo labels are measured on single batches, which scatter; a curve of them has so many means at most."""


def charts(record: RunRecord, rows: Mapping[str, Row | None], svg: Any) -> list[dict[str, Any]]:
    """Mean IoU during adaptation, then the pseudo labels and the losses of every stage.

    ``rows`` are those of the headline, by role; ``svg`` marks text as HTML.
    """
    titles = {row.stage: row.title for row in record.rows}
    made = []
    score = _score_chart(record, rows, titles)
    if score:
        made.append({"title": "Mean IoU during training", "note": "on the test set, in percent", "figure": svg(score)})
    for stage, found in record.log.online.items():
        drawn = _online_chart(found, titles.get(stage, stage))
        made.append({"title": drawn.title, "note": drawn.note, "figure": svg(drawn.figure)})
    for stage, steps in record.log.steps.items():
        figure = _loss_chart(steps, titles.get(stage, stage))
        if figure:
            made.append({"title": titles.get(stage, stage), "note": "training loss", "figure": svg(figure)})
    return made


def _score_chart(record: RunRecord, rows: Mapping[str, Row | None], titles: Mapping[str, str]) -> str:
    """Stages evaluated more than once; the scores of source and oracle as levels."""
    several = {stage: e for stage, e in record.log.evaluations.items() if len(e) > 1}
    if not several:
        return ""
    curves = [
        Curve(
            titles.get(stage, stage),
            "var(--adapted)" if len(several) == 1 else f"var(--line-{place % LINES + 1})",
            [(e.position, e.miou) for e in found],
            marked=True,
            notes=[f"round {e.round + 1}, step {e.position:.0f}: {e.miou:.1f}" for e in found],
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
    """A chart with its title and what stands behind it."""

    title: str
    note: str
    figure: str


def _online_chart(found: Sequence[OnlineLabels], title: str) -> Drawn:
    """Accuracy of every kind of pseudo labels, or, where no truth is measured, how many pixels have one."""
    kinds = list(dict.fromkeys(name for labels in found for name in labels.sets))
    measured = any(s.accuracy is not None for labels in found for s in labels.sets.values())
    curves = []
    for place, kind in enumerate(kinds):
        sets = [(labels.position, s) for labels in found if (s := labels.sets.get(kind)) is not None]
        known = [(p, s.accuracy if measured else s.density) for p, s in sets]
        points = thin([(p, 100 * share) for p, share in known if share is not None], ONLINE_POINTS)
        if points:
            name = kind + (_coverage([s.density for _, s in sets]) if measured else "")
            curves.append(Curve(name, f"var(--line-{place % LINES + 1})", points))
    if measured:
        heading, note = (
            "Accuracy of the pseudo labels during training",
            "share of the labelled pixels that are right, in percent",
        )
    else:
        heading, note = "Pixels with a pseudo label during training", "in percent of all pixels"
    figure = curve_chart(curves, from_zero=False, description=f"{heading} by step, {title}")
    return Drawn(heading, f"{title}; {note}", figure)


def _coverage(densities: Sequence[float | None]) -> str:
    """How much of the pixels an accuracy is about, where that is not all of them: few and sure ones are easy."""
    known = [d for d in densities if d is not None]
    mean = sum(known) / len(known) if known else 1.0
    return "" if mean > 0.9995 else f" ({words.share(mean)} of the pixels)"


def _loss_chart(steps: Sequence[Step], title: str) -> str:
    names = list(dict.fromkeys(name for step in steps for name in step.losses))
    if len(names) == 2 and "total" in names:
        names.remove("total")  # with a single term the total is that term
    curves = []
    for place, name in enumerate(names):
        points = [(step.position, step.losses[name]) for step in steps if name in step.losses]
        color = "var(--soft)" if name == "total" else f"var(--line-{place % LINES + 1})"
        curves.append(Curve(name, color, points))
    return curve_chart(curves, description=f"Training loss of {title} by step") if curves else ""
