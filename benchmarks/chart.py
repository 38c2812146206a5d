"""Draw the scores of all methods of a task, and the effects of their parts, as SVG pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

from segadapt.bench.pages import control_of, counted, gain, score, source_of

Row = Mapping[str, Any]

WIDTH = 880
HEADER = 96
ROW = 28
FOOTER = 70
LETTER = 7.2
"""Width of one letter of the labels in pixels; fonts differ, so it is generous."""
NAME = 170
"""Width of a bound's name with its score, in pixels."""

# Mid-tones on a white card look alike on light and dark pages. ABOVE and BELOW differ in lightness too.
INK, SOFT, GRID, STRIPE = "#1f2328", "#59636e", "#d8dee4", "#f6f8fa"
ABOVE, BELOW, SOURCE, ORACLE = "#0969da", "#c2590a", "#59636e", "#1a7f37"


def results(table: Row) -> list[Row]:
    """Return the rows of the last stages of recipes; stages on the way are left out."""
    return [row for row in table["rows"] if row["result"]]


def chart(table: Row, heading: str) -> str:
    """Draw one line per method: mean, spread and single seeds, beside the control and the oracle.

    Without a control, methods stand beside source only; with one, source only and the other controls have lines too.
    """
    base = control_of(table) or source_of(table)
    oracle = next((row for row in results(table) if row["role"] == "oracle"), None)
    bounds = [row for row in (base, oracle) if row is not None]
    rows = [row for row in results(table) if all(row is not bound for bound in bounds)]
    height = HEADER + ROW * len(rows) + FOOTER
    axis = Axis([*rows, *bounds])
    name = None if base is None else "the control" if base["control"] else "source only"
    return _card(
        height,
        f"{heading}: mIoU by method",
        _text(24, 30, heading, weight=600, size=16),
        _text(24, 50, _subtitle(table, name), fill=SOFT, size=12),
        *_grid(axis, len(rows)),
        *_bounds(axis, bounds, len(rows)),
        *(part for place, row in enumerate(rows) for part in _line(axis, row, place, base)),
        *_legend(height - 22, any(row["spread"] is not None for row in rows), name),
    )


def effects(ablations: Sequence[Row], heading: str) -> str:
    """Draw one line per ablation: the effect of the part by seed, its mean and spread, and its sign beside the paper's.

    Args:
        ablations: as in the table of a study.
        heading: of the page.
    """
    rows = [
        {
            "title": f"{found['of']}: {found['part']}",
            "miou": found["mean"],
            "seeds": found["effects"],
            "spread": found["spread"],
        }
        for found in ablations
    ]
    zero = {"title": "", "miou": 0.0, "seeds": {}, "spread": None}
    axis, height = Axis([*rows, zero]), HEADER + ROW * len(rows) + FOOTER
    words = (
        "Points of mIoU with a part minus those without it. On the right: mean ± standard deviation, our sign | the "
    )
    middle = f"{axis.x(0):.1f}"
    parts = [part for place, row in enumerate(rows) for part in _line(axis, row, place, None)]
    for place, found in enumerate(ablations):
        signs = f"{found['sign']} | {found['paper'] or ' '}"
        parts.append(_text(WIDTH - 24, HEADER + ROW * place + 18.5, signs, weight=600, anchor="end"))
    return _card(
        height,
        f"{heading}: effects of parts",
        _text(24, 30, f"{heading}: parts of the methods", weight=600, size=16),
        _text(24, 50, f"{words}paper's.", fill=SOFT, size=12),
        *_grid(axis, len(rows)),
        f'<line x1="{middle}" y1="{HEADER}" x2="{middle}" y2="{height - FOOTER}" stroke="{SOFT}" stroke-width="1.5"/>',
        *parts,
        *_legend(height - 22, any(row["spread"] is not None for row in rows), None),
    )


def _card(height: int, title: str, *parts: str) -> str:
    """Return a picture with a frame around its parts."""
    opening = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'role="img" font-family="-apple-system, BlinkMacSystemFont, Segoe UI, Noto Sans, Helvetica, Arial, sans-serif" '
        'font-size="13">',
        f"<title>{escape(title)}</title>",
        f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8" fill="#ffffff" stroke="{GRID}"/>',
    ]
    return "\n".join([*opening, *parts, "</svg>"]) + "\n"


class Axis:
    """The horizontal axis: maps a score to a place on the picture."""

    def __init__(self, rows: Sequence[Row]):
        values = [v for row in rows for v in row["seeds"].values()]
        values += [row["miou"] + sign * (row["spread"] or 0) for row in rows for sign in (-1, 1)]
        low, high = (min(values), max(values)) if values else (0.0, 100.0)
        self.step = next(s for s in (1, 2, 5, 10, 20) if (high - low) / s <= 8 or s == 20)
        self.low, self.high = low - 0.3 * self.step, high + 0.3 * self.step
        longest = max((len(row["title"]) for row in rows), default=0)
        self.left = 36 + LETTER * longest
        self.right = WIDTH - 150.0

    def x(self, value: float) -> float:
        """Return the distance of a score from the left in pixels."""
        return self.left + (value - self.low) / (self.high - self.low) * (self.right - self.left)

    @property
    def ticks(self) -> range:
        """Round values between the ends."""
        first = math.ceil(self.low / self.step) * self.step
        return range(first, math.floor(self.high) + 1, self.step)


def _grid(axis: Axis, rows: int) -> list[str]:
    bottom = HEADER + ROW * rows
    parts = [
        f'<rect x="12" y="{HEADER + ROW * place}" width="{WIDTH - 24}" height="{ROW}" rx="4" fill="{STRIPE}"/>'
        for place in range(0, rows, 2)
    ]
    for tick in axis.ticks:
        x = axis.x(tick)
        parts.append(f'<line x1="{x:.1f}" y1="{HEADER}" x2="{x:.1f}" y2="{bottom}" stroke="{GRID}"/>')
        parts.append(_text(x, bottom + 17, str(tick), fill=SOFT, size=11, anchor="middle"))
    return parts


def _bounds(axis: Axis, bounds: Sequence[Row], rows: int) -> list[str]:
    """Draw dashed lines at the bounds.

    Their names stand to the left; if the two are near each other, the name of the upper one stands to the right.
    """
    parts, bottom = [], HEADER + ROW * rows
    places = sorted(axis.x(row["miou"]) for row in bounds)
    near = len(places) == 2 and places[1] - places[0] < NAME
    for row in bounds:
        x, color = axis.x(row["miou"]), ORACLE if row["role"] == "oracle" else SOURCE
        reach = axis.x(row["miou"] + (row["spread"] or 0)) - x
        aside = near and x == places[-1]
        name = f"{row['title']} {score(row)}"
        parts += [
            f'<rect x="{x - reach:.1f}" y="{HEADER}" width="{2 * reach:.1f}" height="{bottom - HEADER}" '
            f'fill="{color}" opacity="0.13"/>',
            f'<line x1="{x:.1f}" y1="{HEADER - 20}" x2="{x:.1f}" y2="{bottom}" stroke="{color}" stroke-width="1.5" '
            'stroke-dasharray="5 3"/>',
            _text(x + 7 if aside else x - 7, HEADER - 11, name, color, 12, 600, "start" if aside else "end"),
        ]
    return parts


def _line(axis: Axis, row: Row, place: int, base: Row | None) -> list[str]:
    """Draw a method: its name, a dot for the mean on a bar for the spread, a ring per seed below, the numbers."""
    top = HEADER + ROW * place
    y, below, words = top + 11.0, top + 20.5, top + 18.5
    above = None if base is None else gain(row, base)
    x, color = axis.x(row["miou"]), INK if above is None else ABOVE if above >= 0 else BELOW
    parts = [_text(axis.left - 14, words, row["title"], anchor="end")]
    if row["spread"] is not None:
        ends = [axis.x(row["miou"] + sign * row["spread"]) for sign in (-1, 1)]
        caps = " ".join(f"M{end:.1f} {y - 4:.1f}v8" for end in ends)
        parts.append(
            f'<path d="M{ends[0]:.1f} {y:.1f}H{ends[1]:.1f} {caps}" stroke="{color}" stroke-width="2" fill="none"/>'
        )
    parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{color}"/>')
    for seed, value in row["seeds"].items():
        parts.append(
            f'<circle cx="{axis.x(value):.1f}" cy="{below:.1f}" r="2.6" fill="none" stroke="{color}">'
            f"<title>seed {escape(str(seed))}: {value:.1f}</title></circle>"
        )
    parts.append(_text(WIDTH - 76, words, score(row), anchor="end"))
    if above is not None:
        parts.append(_text(WIDTH - 24, words, f"{above:+.1f}", color, weight=600, anchor="end"))
    return parts


def _legend(y: float, spread: bool, base: str | None) -> list[str]:
    """Draw the meaning of the signs."""
    entries = [("dot", INK, "mean"), ("ring", INK, "one seed")]
    entries += [("bar", INK, "standard deviation")] if spread else []
    entries += [("dot", ABOVE, f"above {base}"), ("dot", BELOW, "below")] if base else []
    parts, x = [], 30.0
    for kind, color, text in entries:
        if kind == "bar":
            shape = f'<path d="M{x - 9} {y}h16 m-16 -4v8 m16 -8v8" stroke="{color}" stroke-width="2" fill="none"/>'
        elif kind == "ring":
            shape = f'<circle cx="{x}" cy="{y}" r="2.6" fill="none" stroke="{color}"/>'
        else:
            shape = f'<circle cx="{x}" cy="{y}" r="5" fill="{color}"/>'
        parts += [shape, _text(x + 13, y + 4, text, fill=SOFT, size=12)]
        x += 13 + 5.9 * len(text) + 26
    return parts


def _subtitle(table: Row, base: str | None) -> str:
    right = "mean ± standard deviation" + (f" and the difference to {base}" if base else "")
    return f"mIoU of the last checkpoint in percent, {counted(table['seeds'])}. On the right: {right}."


def _text(
    x: float, y: float, text: str, fill: str = INK, size: int = 13, weight: int = 400, anchor: str = "start"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{fill}" font-size="{size}" font-weight="{weight}" '
        f'text-anchor="{anchor}">{escape(text)}</text>'
    )
