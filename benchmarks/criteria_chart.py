"""Draw the study of criteria without labels as SVG: rank correlations by task, and changes of criteria beside gains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.chart import GRID, HEADER, INK, ROW, SOFT, STRIPE, WIDTH, _card, _text
from segadapt.bench.agreement import agreements, judged
from segadapt.evaluation.criteria import CRITERIA
from segadapt.runs.guard import THRESHOLDS

COLOURS = ("#0969da", "#c2590a", "#1a7f37", "#8250df", "#9a6700", "#59636e")
"""One for each task, in order; marks differ in place, not by colour alone."""
PANEL = 300
"""Height of a panel with one dot for each adapted model."""


def correlations(models: Sequence[Mapping[str, Any]]) -> str:
    """Draw the mean rank correlation of every criterion with the true scores, a mark for each task."""
    found = agreements(models)
    left, right, bottom = 150.0, WIDTH - 60.0, HEADER + ROW * len(CRITERIA)

    def x(value: float) -> float:
        return left + (value + 1) / 2 * (right - left)

    parts = [
        f'<rect x="12" y="{HEADER + ROW * n}" width="{WIDTH - 24}" height="{ROW}" rx="4" fill="{STRIPE}"/>'
        for n in range(0, len(CRITERIA), 2)
    ]
    for tick in (-1.0, -0.5, 0.0, 0.5, 1.0):
        colour = SOFT if tick == 0 else GRID
        parts.append(f'<line x1="{x(tick):.1f}" y1="{HEADER}" x2="{x(tick):.1f}" y2="{bottom}" stroke="{colour}"/>')
        parts.append(_text(x(tick), bottom + 17, f"{tick:+.1f}", fill=SOFT, size=11, anchor="middle"))
    for row, name in enumerate(CRITERIA):
        parts.append(_text(left - 14, HEADER + ROW * row + 18.5, name, anchor="end"))
        for place, task in enumerate(found):
            value = found[task][name].spearman
            if value is not None:
                y = HEADER + ROW * row + 5 + 18 * (place + 0.5) / len(found)
                parts.append(_dot(x(value), y, COLOURS[place % len(COLOURS)], f"{task}: {value:+.2f}"))
    return _card(
        bottom + 60,
        "Rank correlation of criteria without labels with mIoU",
        _text(24, 30, "Criteria without labels: rank correlation with mIoU", weight=600, size=16),
        _text(
            24,
            50,
            "Spearman's, of the models adapted from one source model and that; mean by task.",
            fill=SOFT,
            size=12,
        ),
        *parts,
        *_tasks(list(found), bottom + 40),
    )


def changes(models: Sequence[Mapping[str, Any]]) -> str:
    """Draw for each criterion of the guard how much it changed and how much mIoU gained, a dot for an adapted model."""
    sources = {(m["task"], m["group"]): m["criteria"] for m in models if m["role"] == "source"}
    pairs = [(one, sources[one.model["task"], one.model["group"]]) for one in judged(models)]
    tasks = list(dict.fromkeys(model["task"] for model in models))
    parts: list[str] = []
    names = list(THRESHOLDS)
    for number, name in enumerate(names):
        dots = [
            (one.model["criteria"][name] - before[name], one.gain, tasks.index(one.model["task"]), one.model)
            for one, before in pairs
            if one.model["criteria"][name] is not None and before[name] is not None
        ]
        parts += _panel(name, dots, HEADER - 20 + number * (PANEL + 50), THRESHOLDS[name])
    height = HEADER + len(names) * (PANEL + 50) + 20
    return _card(
        height,
        "Change of criteria and gain in mIoU",
        _text(24, 30, "Adapted models beside their source models", weight=600, size=16),
        _text(24, 50, "Upwards: gain in mIoU on the test images. Dashed: the guard's thresholds.", fill=SOFT, size=12),
        *parts,
        *_tasks(tasks, height - 22),
    )


def _panel(name: str, dots: Sequence[tuple[float, float, int, Any]], top: float, limits: Sequence[float]) -> list[str]:
    """Draw one panel: changes of a criterion across, gains upwards."""
    left, right, bottom = 80.0, WIDTH - 40.0, top + PANEL
    xs, ys = [d[0] for d in dots] + [0.0, *limits], [d[1] for d in dots] + [0.0]
    low, high, least, most = min(xs), max(xs), min(ys), max(ys)

    def x(value: float) -> float:
        return left + 10 + (value - low) / ((high - low) or 1) * (right - left - 20)

    def y(value: float) -> float:
        return bottom - 10 - (value - least) / ((most - least) or 1) * (PANEL - 20)

    parts = [f'<rect x="{left}" y="{top}" width="{right - left}" height="{PANEL}" fill="{STRIPE}" rx="4"/>']
    parts.append(f'<line x1="{left}" y1="{y(0):.1f}" x2="{right}" y2="{y(0):.1f}" stroke="{SOFT}"/>')
    parts.append(f'<line x1="{x(0):.1f}" y1="{top}" x2="{x(0):.1f}" y2="{bottom}" stroke="{SOFT}"/>')
    ends = f'y1="{top}" y2="{bottom}" stroke="{INK}" stroke-dasharray="5 3"'
    parts += [f'<line x1="{x(limit):.1f}" x2="{x(limit):.1f}" {ends}/>' for limit in limits]
    levels, places = sorted({least, 0.0, most}), sorted({low, 0.0, high})
    parts += [_text(left - 8, y(v) + 4, f"{v:+.0f}", fill=SOFT, size=11, anchor="end") for v in levels]
    parts += [_text(x(v), bottom + 15, f"{v:+.1f}", fill=SOFT, size=11, anchor="middle") for v in places]
    parts.append(_text((left + right) / 2, bottom + 30, f"change of '{name}'", size=12, anchor="middle"))
    for across, up, task, model in dots:
        words = f"{model['task']}/{model['row']}, seed {model['seed']}: {up:+.1f}"
        parts.append(_dot(x(across), y(up), COLOURS[task % len(COLOURS)], words))
    return parts


def _dot(x: float, y: float, colour: str, words: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}" opacity="0.8"><title>{words}</title></circle>'


def _tasks(tasks: Sequence[str], y: float) -> list[str]:
    """Draw the meaning of the colours."""
    parts, x = [], 30.0
    for place, task in enumerate(tasks):
        parts += [_dot(x, y, COLOURS[place % len(COLOURS)], task), _text(x + 11, y + 4, task, fill=SOFT, size=12)]
        x += 11 + 6.6 * len(task) + 22
    return parts
