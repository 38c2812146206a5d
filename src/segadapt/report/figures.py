"""Draw figures of the report as inline SVG that is sharp and legible at any width.

Lines are drawn in a square of 1000 x 1000 units that stretches to the width of the page, with strokes
that do not stretch. Text is HTML placed in percent, so it keeps its size. Colours come from CSS variables,
so the figures follow the light or dark look of the page.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

UNITS = 1000
MOST_POINTS = 240
"""Largest number of points of a curve."""
LINE_COLORS = tuple(f"var(--line-{number})" for number in range(1, 7))
"""CSS variables of report.css."""


@dataclass(frozen=True)
class Curve:
    """A line: name in the legend, CSS colour, points (x, y), whether to mark each point, and a text per point."""

    name: str
    color: str
    points: Sequence[tuple[float, float]]
    marked: bool = False
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Level:
    """A dashed horizontal line at ``value``, with its name in the legend."""

    name: str
    color: str
    value: float


@dataclass(frozen=True)
class Dots:
    """The points (x, y) of class ``number`` in the unit square, y upwards."""

    number: int
    name: str
    color: str
    points: Sequence[tuple[float, float]]


def scatter(groups: Sequence[Dots], description: str) -> str:
    """Draw dots in a square without axes, one path per group; the script of the page fades groups by class."""
    drawn = []
    for group in groups:
        # Dots are lines of no length with round ends, which take a tenth of the text of circles.
        way = "".join(f"M{UNITS * x:.0f} {UNITS * (1 - y):.0f}h.01" for x, y in group.points)
        drawn.append(
            f'<path data-class="{group.number}" style="stroke:{group.color}" d="{way}">'
            f"<title>{escape(group.name)}</title></path>"
        )
    return (
        f'<svg class="scatter" viewBox="0 0 {UNITS} {UNITS}" role="img" aria-label="{escape(description)}">'
        f"{''.join(drawn)}</svg>"
    )


def curve_chart(
    curves: Sequence[Curve],
    levels: Sequence[Level] = (),
    from_zero: bool = True,
    description: str = "",
) -> str:
    """Draw lines over training steps as an HTML fragment with a legend.

    Args:
        curves: at least one, each with at least one point.
        levels: reference lines; the y range includes them.
        from_zero: whether the y axis includes 0.
        description: text for screen readers.
    """
    curves = [Curve(c.name, c.color, thin(c.points), c.marked, c.notes) for c in curves]
    xs = [x for c in curves for x, _ in c.points]
    ys = [y for c in curves for _, y in c.points] + [level.value for level in levels]
    x_ticks = ticks(0.0, max(xs), 4)
    y_ticks = ticks(min(0.0, *ys) if from_zero else min(ys), max(ys), 4)
    right, low, high = max(xs), y_ticks[0], y_ticks[-1]

    def at(x: float, y: float) -> tuple[float, float]:
        return UNITS * x / (right or 1.0), UNITS * (1 - (y - low) / ((high - low) or 1.0))

    drawn = [_line("grid", 0, at(0, y)[1], UNITS, at(0, y)[1]) for y in y_ticks]
    for level in levels:
        y = at(0, level.value)[1]
        drawn.append(_line("level", 0, y, UNITS, y, level.color))
    for curve in curves:
        drawn += _curve(curve, [at(x, y) for x, y in curve.points])
    y_labels = [f'<span class="ytick" style="top:{at(0, y)[1] / 10:.2f}%">{compact(y)}</span>' for y in y_ticks]
    x_labels = [
        f'<span class="xtick" style="left:{at(x, low)[0] / 10:.2f}%">{compact(x)}</span>' for x in x_ticks if x <= right
    ]
    return (
        f'<div class="chart" role="img" aria-label="{escape(description)}">'
        f'<div class="plot"><svg viewBox="0 0 {UNITS} {UNITS}" preserveAspectRatio="none" aria-hidden="true">'
        f"{''.join(drawn)}</svg>{''.join(y_labels)}{''.join(x_labels)}"
        f'<span class="xtitle">step</span></div>{_legend(curves, levels)}</div>'
    )


def _curve(curve: Curve, points: Sequence[tuple[float, float]]) -> list[str]:
    way = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    drawn = [f'<polyline class="curve" style="stroke:{curve.color}" points="{way}"/>'] if len(points) > 1 else []
    if curve.marked or len(points) == 1:
        # A dot is a line of no length with round ends; unlike a circle it does not stretch with the square.
        for place, (x, y) in enumerate(points):
            note = f"<title>{escape(curve.notes[place])}</title>" if place < len(curve.notes) else ""
            drawn.append(f'<path class="dot" style="stroke:{curve.color}" d="M{x:.1f} {y:.1f}h0.01">{note}</path>')
    return drawn


def _line(kind: str, x1: float, y1: float, x2: float, y2: float, color: str = "") -> str:
    style = f' style="stroke:{color}"' if color else ""
    return f'<line class="{kind}"{style} x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _legend(curves: Sequence[Curve], levels: Sequence[Level]) -> str:
    entries = [("key", c.name, c.color) for c in curves]
    entries += [("key dashed", f"{level.name} {level.value:.1f}", level.color) for level in levels]
    items = "".join(
        f'<li><span class="{kind}" style="--key:{color}"></span>{escape(name)}</li>' for kind, name, color in entries
    )
    return f'<ul class="keys">{items}</ul>'


def bar_group(values: Mapping[str, float | None]) -> str:
    """Draw thin horizontal bars below each other, one per value in percent; the keys are CSS classes."""
    height, gap = 6, 3
    drawn = []
    for place, (kind, value) in enumerate(values.items()):
        top = place * (height + gap)
        drawn.append(f'<rect class="rail" x="0" y="{top}" width="100%" height="{height}" rx="2"/>')
        if value is not None:
            width = min(max(value, 0.0), 100.0)
            drawn.append(
                f'<rect class="bar {escape(kind)}" x="0" y="{top}" width="{width:.2f}%" height="{height}" rx="2"/>'
            )
    total = max(0, len(values) * (height + gap) - gap)
    return f'<svg class="bars" width="100%" height="{total}" aria-hidden="true">{"".join(drawn)}</svg>'


def stacked_bar(parts: Sequence[tuple[str, float, str]], description: str) -> str:
    """Draw the parts of a whole side by side; each part is (name, share in [0, 1], CSS colour)."""
    drawn, left = [], 0.0
    for name, share, color in parts:
        drawn.append(
            f'<rect style="fill:{color}" x="{100 * left:.2f}%" width="{100 * share:.2f}%" height="12">'
            f"<title>{escape(name)}</title></rect>"
        )
        left += share
    head = f'<svg class="stack" width="100%" height="12" role="img" aria-label="{escape(description)}">'
    return f"{head}{''.join(drawn)}</svg>"


@dataclass(frozen=True)
class ShareScale:
    """A scale for shares in [0, 1] up to ``high``: logarithmic from ``low`` on, or linear if ``low`` is None."""

    low: float | None
    high: float

    def place(self, share: float) -> float:
        """Return the place of a share in percent of the width; shares below ``low`` lie at the far left."""
        if self.low is None:
            return 2 + 96 * share / (ticks(0.0, self.high, 4)[-1] or 1.0)
        if share < self.low * (1 - 1e-9):
            return 2.0
        return 12 + 86 * math.log(share / self.low) / math.log(self.high / self.low)

    @property
    def ticks(self) -> list[float]:
        """Round shares for the axis, including 0."""
        if self.low is None:
            return ticks(0.0, self.high, 4)
        decades = round(math.log10(self.high / self.low))
        return [0.0, *(self.low * 10**i for i in range(decades + 1))]


@dataclass(frozen=True)
class Mark:
    """The share of a class in one kind of labels: name of the kind, CSS colour, and share in [0, 1]."""

    name: str
    color: str
    value: float


_SIGNS = ("M0-4a4 4 0 1 0 .01 0z", "M-3.6-3.6h7.2v7.2h-7.2z", "M0-5L5 0 0 5-5 0z", "M0-4.6L4.6 3.6h-9.2z")
"""Circle, square, diamond, triangle, so that kinds differ not by colour alone."""
_LANE = 11
"""Height of a lane in pixels."""


def mark_sign(number: int, color: str) -> str:
    """Draw the sign of kind ``number`` for a legend."""
    way = _SIGNS[number % len(_SIGNS)]
    return (
        f'<svg class="sign" viewBox="-6 -6 12 12" width="12" height="12" aria-hidden="true">'
        f'<path style="fill:{color}" d="{way}"/></svg>'
    )


def share_lanes(marks: Sequence[Mark], truth: float, scale: ShareScale, description: str) -> str:
    """Draw shares of one class below each other, each with a line to an upright stroke at the true share."""
    height = _LANE * len(marks) + 6
    at = scale.place(truth)
    drawn = [
        f'<line class="grid" x1="{x:.2f}%" x2="{x:.2f}%" y1="0" y2="{height}"/>' for x in map(scale.place, scale.ticks)
    ]
    drawn.append(f'<line class="true" x1="{at:.2f}%" x2="{at:.2f}%" y1="1" y2="{height - 1}"/>')
    for number, mark in enumerate(marks):
        x, y = scale.place(mark.value), 3 + _LANE * (number + 0.5)
        drawn.append(
            f'<line class="away" style="stroke:{mark.color}" x1="{at:.2f}%" x2="{x:.2f}%" y1="{y}" y2="{y}"/>'
            # An inner svg has its own origin, so that a path can be placed in percent.
            f'<svg x="{x:.2f}%" y="{y}" overflow="visible"><path style="fill:{mark.color}" '
            f'd="{_SIGNS[number % len(_SIGNS)]}"><title>{escape(mark.name)}</title></path></svg>'
        )
    return (
        f'<svg class="lanes" width="100%" height="{height}" role="img" aria-label="{escape(description)}">'
        f"{''.join(drawn)}</svg>"
    )


def thin(points: Sequence[tuple[float, float]], most: int = MOST_POINTS) -> list[tuple[float, float]]:
    """Reduce a curve to at most ``most`` points, each the mean over a run of neighbours."""
    if len(points) <= most:
        return list(points)
    size = math.ceil(len(points) / most)
    runs = [points[i : i + size] for i in range(0, len(points), size)]
    return [(sum(x for x, _ in run) / len(run), sum(y for _, y in run) / len(run)) for run in runs]


def ticks(low: float, high: float, wanted: int) -> list[float]:
    """Return about ``wanted`` round numbers; the first is at most ``low``, the last at least ``high``."""
    if high <= low:
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    size = next(power * f for f in (1, 2, 2.5, 5, 10) if power * f >= rough * 0.999)
    first, last = math.floor(low / size + 1e-9), math.ceil(high / size - 1e-9)
    return [round(i * size, 10) for i in range(first, last + 1)]


def css_color(color: Sequence[int]) -> str:
    """Format red, green and blue, limited to 0..255, as a CSS colour: ``#8040ff``."""
    return "#" + "".join(f"{min(max(c, 0), 255):02x}" for c in color)


def compact(value: float) -> str:
    """Format a tick label: 1200 -> 1.2k, 0.50 -> 0.5, with a true minus sign."""
    text = f"{value / 1000:.4g}k" if abs(value) >= 1000 else f"{value:.4g}"
    return text.replace("-", "\N{MINUS SIGN}")
