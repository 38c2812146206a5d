"""Draw cars, trucks, buses and trams: a side outline, extruded to the vehicle's width."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from segadapt.toy.canvas import Brush, Canvas, Color, Material, Point, darker, mix, panel
from segadapt.toy.scene import Placed

# Side outlines from the rear bumper over the roof to the front bumper, as fractions of length and height.
OUTLINES: dict[str, tuple[tuple[float, float], ...]] = {
    "hatchback": (
        (0, 0.2),
        (0, 0.58),
        (0.03, 0.66),
        (0.14, 1),
        (0.6, 1),
        (0.77, 0.64),
        (0.97, 0.52),
        (1, 0.42),
        (1, 0.2),
    ),
    "sedan": ((0, 0.2), (0, 0.6), (0.13, 0.66), (0.3, 1), (0.57, 1), (0.74, 0.64), (0.97, 0.53), (1, 0.42), (1, 0.2)),
    "suv": ((0, 0.2), (0, 0.6), (0.02, 0.64), (0.08, 1), (0.62, 1), (0.75, 0.64), (0.97, 0.58), (1, 0.48), (1, 0.2)),
    "van": ((0, 0.16), (0, 0.52), (0.01, 0.56), (0.04, 1), (0.72, 1), (0.88, 0.56), (0.98, 0.46), (1, 0.38), (1, 0.16)),
    "bus": ((0, 0.1), (0, 0.45), (0, 0.5), (0.01, 1), (0.985, 1), (1, 0.5), (1, 0.45), (1, 0.4), (1, 0.1)),
    "tram": ((0, 0.09), (0, 0.42), (0.01, 0.46), (0.05, 1), (0.95, 1), (0.99, 0.46), (1, 0.42), (1, 0.4), (1, 0.09)),
}
LABELS = {"bus": "bus", "tram": "train", "truck": "truck"}
GLASS: Color = (52, 62, 72)
RUBBER: Color = (22, 22, 24)
TAIL: Color = (200, 26, 22)
HEAD: Color = (240, 238, 220)


def draw_vehicle(canvas: Canvas, placed: Placed) -> None:
    """Draw a car, van, bus, tram car or truck."""
    brush = Brush(canvas, LABELS.get(placed.kind, "car"), placed.instance, placed.x, placed.z, placed.yaw)
    brush.mat(placed.length / 2 + 0.25, placed.width / 2 + 0.25, 0.4)
    brush.mat(placed.length / 2 - 0.05, placed.width / 2 - 0.05, 0.6)
    if placed.kind == "truck":
        _truck(brush, placed)
    else:
        _body(brush, placed)


def _visible_sides(brush: Brush, placed: Placed) -> tuple[int, bool]:
    """Return the flank (-1 left, 1 right) and whether the rear (True) or the front faces the camera."""
    c, s = math.cos(placed.yaw), math.sin(placed.yaw)
    x = placed.x + brush.canvas.camera.bend * placed.z**2
    across, along = -(x * c - placed.z * s), -(x * s + placed.z * c)
    return (1 if across > 0 else -1), along < 0


def _body(brush: Brush, placed: Placed) -> None:
    length, height, half = placed.length, placed.height, placed.width / 2
    large = placed.kind in ("bus", "tram")
    waist = 0.45 if large else 0.66
    outline = [
        ((a - 0.5) * length, h * height, half * (1.0 if h <= waist or large else 0.83))
        for a, h in OUTLINES[placed.kind]
    ]
    flank, rear = _visible_sides(brush, placed)
    _underbody(brush, placed, flank, rear)
    edges = list(itertools.pairwise(outline))
    for i, ((a0, h0, w0), (a1, h1, w1)) in sorted(enumerate(edges), key=lambda e: e[0], reverse=rear):
        if _hidden(i, rear, brush.canvas.camera.height, h1):
            continue
        corners = [(a0, -w0, h0), (a0, w0, h0), (a1, w1, h1), (a1, -w1, h1)]
        brush.face(corners, placed.color)
        if i in (2, 4):
            brush.face(_inset(corners, 0.1), GLASS, Material.GLASS)
    _flank(brush, placed, outline, flank)
    _ends(brush, placed, rear)


def _hidden(edge: int, rear: bool, eye: float, top: float) -> bool:
    """Return whether an edge of the outline is hidden: the roof seen from below, the far end always."""
    return eye < top if edge == 3 else (edge <= 2) != rear


def _inset(corners: Sequence[Point], share: float) -> list[Point]:
    centre = [sum(c[k] for c in corners) / len(corners) for k in range(3)]
    return [tuple(c[k] + (centre[k] - c[k]) * share for k in range(3)) for c in corners]  # type: ignore[misc]


def _underbody(brush: Brush, placed: Placed, flank: int, rear: bool) -> None:
    """Draw the dark gap under the body and the wheels at the visible end."""
    half_l, half_w, clear = (
        placed.length / 2 * 0.97,
        placed.width / 2 * 0.95,
        placed.height * (0.3 if placed.kind == "truck" else 0.22),
    )
    end = -half_l if rear else half_l
    brush.face(
        panel((end, -half_w), (end, half_w), 0.08, clear),
        (16, 16, 18),
        shade=0.0,
    )
    w = flank * half_w
    brush.face(panel((-half_l, w), (half_l, w), 0.08, clear), (16, 16, 18), shade=0.0)
    if placed.kind == "tram":
        return
    inner = end * 0.93
    for side in (-1, 1):
        a, b = side * half_w, side * (half_w - 0.22)
        brush.face(panel((inner, a), (inner, b), 0.0, clear + 0.08), RUBBER, shade=0.2)


def _flank(brush: Brush, placed: Placed, outline: Sequence[Point], flank: int) -> None:
    brush.face([(a, flank * w, h) for a, h, w in outline], placed.color)
    if placed.kind in ("bus", "tram"):
        _coach_windows(brush, placed, flank)
    else:
        glass = [(a, flank * w * 1.0, h) for a, h, w in outline[2:6]]
        brush.face(_inset(glass, 0.13), GLASS, Material.GLASS)
        low, high = glass[0][2], glass[1][2]
        post, w = placed.length * (-0.04), flank * placed.width / 2
        brush.face(
            [(post, w, low), (post + 0.09, w, low), (post + 0.09, w * 0.83, high), (post, w * 0.83, high)], placed.color
        )
        sill = placed.height * 0.24
        brush.face(
            panel((-0.3 * placed.length, w), (0.3 * placed.length, w), sill, sill * 1.15), darker(placed.color, 0.55)
        )
    if placed.kind != "tram":
        radius = 0.47 if placed.kind == "bus" else 0.33
        for along in (-0.31, 0.31):
            _wheel(brush, along * placed.length, flank * (placed.width / 2 + 0.01), radius)


def _wheel(brush: Brush, along: float, across: float, radius: float) -> None:
    turn = [2 * math.pi * i / 12 for i in range(12)]
    for share, color in ((1.0, RUBBER), (0.58, (128, 130, 134))):
        r = radius * share
        brush.face([(along + r * math.cos(t), across, radius + r * math.sin(t)) for t in turn], color, shade=0.4)


def _coach_windows(brush: Brush, placed: Placed, flank: int) -> None:
    length, height, w = placed.length, placed.height, flank * (placed.width / 2 + 0.005)
    tram = placed.kind == "tram"
    bands = max(4, int(length / 1.6))
    glow = 0.55
    low, high = (0.44, 0.78) if tram else (0.46, 0.82)
    stripe = mix(placed.color, (245, 245, 240), 0.75) if tram else darker(placed.color, 0.72)
    a0, a1 = -0.49 * length, 0.49 * length
    for bottom, top, color in ((0.8, 0.9, stripe), (0.12, 0.22, stripe)):
        corners = panel((a0, w), (a1, w), bottom * height, top * height)
        brush.face(corners, color)
    for i in range(bands):
        start = a0 + (i + 0.1) * (a1 - a0) / bands
        stop = start + 0.84 * (a1 - a0) / bands
        door = i % 4 == 2
        bottom = 0.14 if door else low
        corners = panel((start, w), (stop, w), bottom * height, high * height)
        brush.face(corners, GLASS, Material.GLASS, glow)


def _ends(brush: Brush, placed: Placed, rear: bool) -> None:
    """Draw lamps, plate and, on tall vehicles, the big front or rear window."""
    length, height, half = placed.length / 2, placed.height, placed.width / 2
    end = -length - 0.01 if rear else length + 0.01
    large = placed.kind in ("bus", "tram")
    if large:
        _large_end(brush, placed, end, rear)
    low, high = (0.2, 0.27) if large else ((0.46, 0.57) if rear else (0.38, 0.47))
    color = TAIL if rear else HEAD
    wide = 0.22 if large else 0.3
    for side in (-1, 1):
        a, b = side * half * 0.96, side * (half * 0.96 - wide)
        corners = panel((end, a), (end, b), low * height, high * height)
        brush.face(corners, color, glow=0.8 if rear else 1.0, shade=0.6)
    if not large:
        dark = darker(placed.color, 0.6) if rear else (30, 30, 32)
        corners = panel((end, -half * 0.55), (end, half * 0.55), 0.36 * height, 0.46 * height)
        brush.face(corners, dark)
        brush.face(
            panel((end, -half * 0.98), (end, half * 0.98), 0.22 * height, 0.3 * height), darker(placed.color, 0.5)
        )
        brush.face(panel((end, -0.26), (end, 0.26), 0.32 * height, 0.39 * height), (230, 230, 224))


def _large_end(brush: Brush, placed: Placed, end: float, rear: bool) -> None:
    height, half = placed.height, placed.width / 2
    whole = panel((end, -half), (end, half), 0.1 * height, height)
    brush.face(whole, placed.color)
    bottom = 0.55 if rear and placed.kind == "bus" else 0.42
    window = [
        (end, -half * 0.88, bottom * height),
        (end, half * 0.88, bottom * height),
        (end, half * 0.84, 0.84 * height),
        (end, -half * 0.84, 0.84 * height),
    ]
    brush.face(window, GLASS, Material.GLASS, 0.3)
    board = panel((end, -half * 0.6), (end, half * 0.6), 0.87 * height, 0.96 * height)
    brush.face(board, (30, 30, 30))
    if placed.kind == "tram":
        skirt = panel((end, -half), (end, half), 0.1 * height, 0.3 * height)
        brush.face(skirt, mix(placed.color, (245, 245, 240), 0.75))


def _truck(brush: Brush, placed: Placed) -> None:
    """Draw a cab in front of a box body or an open bed, far part first."""
    rng = np.random.default_rng(placed.seed)
    flank, rear = _visible_sides(brush, placed)
    length, height, half = placed.length, placed.height, placed.width / 2
    split = length * 0.5 - 2.1
    cargo: Color = mix(placed.color, (232, 232, 228), 0.85) if rng.random() < 0.6 else darker(placed.color, 0.8)
    load_height = height if rng.random() < 0.75 else height * 0.62
    _underbody(brush, placed, flank, rear)
    parts = [
        (-length / 2, split - 0.12, 0.28 * height, load_height, half, cargo, False),
        (split, length / 2, 0.2 * height, 0.8 * height, half * 0.96, placed.color, True),
    ]
    for a0, a1, low, high, w, color, cab in parts if not rear else parts[::-1]:
        end = a0 if rear else a1
        if brush.canvas.camera.height > high:
            brush.face([(a0, -w, high), (a0, w, high), (a1, w, high), (a1, -w, high)], color)
        brush.face(panel((a0, flank * w), (a1, flank * w), low, high), color)
        brush.face(panel((end, -w), (end, w), low, high), color)
        if cab:
            _cab_glass(brush, a1, low, high, w, flank, rear)
        elif rear:
            _doors(brush, a0 - 0.01, low, high, w, color)
    for along in (-0.36, -0.2, 0.34):
        _wheel(brush, along * length, flank * (half + 0.01), 0.48)
    end = -length / 2 - 0.02 if rear else length / 2 + 0.02
    for side in (-1, 1):
        a, b = side * half * 0.92, side * (half * 0.92 - 0.3)
        corners = panel((end, a), (end, b), 0.22 * height, 0.28 * height)
        brush.face(corners, TAIL if rear else HEAD, glow=0.8, shade=0.6)


def _cab_glass(brush: Brush, front: float, low: float, high: float, w: float, flank: int, rear: bool) -> None:
    bottom, top = low + 0.52 * (high - low), low + 0.9 * (high - low)
    x = flank * (w + 0.01)
    brush.face(
        [(front - 1.3, x, bottom), (front - 0.25, x, bottom), (front - 0.4, x, top), (front - 1.3, x, top)],
        GLASS,
        Material.GLASS,
    )
    if not rear:
        f = front + 0.01
        brush.face(
            [(f, -w * 0.9, bottom), (f, w * 0.9, bottom), (f, w * 0.86, top), (f, -w * 0.86, top)],
            GLASS,
            Material.GLASS,
        )
        grille = low + 0.18 * (high - low)
        brush.face(panel((f, -w * 0.6), (f, w * 0.6), low, grille), (40, 40, 42))


def _doors(brush: Brush, end: float, low: float, high: float, w: float, color: Color) -> None:
    dark = darker(color, 0.7)
    brush.face(panel((end, -0.04), (end, 0.04), low, high), dark)
    for side in (-1, 1):
        a, b = side * w, side * (w - 0.08)
        brush.face(panel((end, a), (end, b), low, high), dark)
    brush.face(panel((end, -w), (end, w), low, low + 0.14), (150, 40, 36))
