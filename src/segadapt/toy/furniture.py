"""Draw street lamps, traffic lights, signs and bollards."""

from __future__ import annotations

import math

import numpy as np

from segadapt.toy.canvas import Brush, Canvas, Color, Material, darker, panel
from segadapt.toy.scene import Placed

RED: Color = (206, 30, 34)
WHITE: Color = (238, 238, 234)
BLUE: Color = (28, 82, 168)
YELLOW: Color = (240, 196, 30)
BLACK: Color = (30, 30, 30)
LAMPS: tuple[Color, ...] = ((255, 50, 40), (255, 190, 40), (60, 240, 130))


def draw_lamp(canvas: Canvas, placed: Placed) -> None:
    """Draw a street lamp with an arm over the road."""
    brush = Brush(canvas, "pole", 0, placed.x, placed.z)
    inward = -math.copysign(1.0, placed.x)
    top = placed.height
    brush.limb((0, 0, 0), (0, 0, top), 0.085, placed.color, Material.PAINT)
    brush.limb((0, 0, 0), (0, 0, 1.1), 0.13, darker(placed.color, 0.85), Material.PAINT)
    brush.limb((0, 0, top), (0, inward * 1.5, top + 0.35), 0.05, placed.color, Material.PAINT)
    brush.limb(
        (0, inward * 1.3, top + 0.3), (0, inward * 2.0, top + 0.36), 0.1, (210, 208, 196), Material.PAINT, glow=1.0
    )


def draw_traffic_light(canvas: Canvas, placed: Placed) -> None:
    """Draw three lamps in a box on a pole; ``width`` > 0 is the length of an arm with a second box."""
    rng = np.random.default_rng(placed.seed)
    pole = Brush(canvas, "pole", 0, placed.x, placed.z)
    pole.limb((0, 0, 0), (0, 0, 3.2 if not placed.width else 6.0), 0.08, placed.color, Material.PAINT)
    lit = int(rng.choice([0, 1, 2], p=[0.45, 0.1, 0.45]))
    inward = -math.copysign(1.0, placed.x)
    _lamps(canvas, placed, 0.0 if rng.random() < 0.6 else inward * 0.28, 2.4, lit, 1.0)
    if placed.width:
        pole.limb((0, 0, 5.9), (0, inward * placed.width, 5.9), 0.07, placed.color, Material.PAINT)
        _lamps(canvas, placed, inward * placed.width, 5.2, lit, 1.15)


def _lamps(canvas: Canvas, placed: Placed, across: float, low: float, lit: int, size: float) -> None:
    brush = Brush(canvas, "traffic light", 0, placed.x, placed.z - 0.06)
    half, tall = 0.2 * size, 1.12 * size
    box = panel((0, across - half), (0, across + half), low, low + tall)
    brush.face(box, (26, 28, 28), shade=0.3)
    for i in range(3):
        color = LAMPS[i] if i == lit else darker(LAMPS[i], 0.26)
        brush.ball((0, across, low + tall * (0.83 - 0.32 * i)), 0.13 * size, color, glow=1.0 if i == lit else 0.0)


def draw_sign(canvas: Canvas, placed: Placed) -> None:
    """Draw a traffic sign on its post: disc, triangle, square or panel."""
    rng = np.random.default_rng(placed.seed)
    post = Brush(canvas, "pole", 0, placed.x, placed.z)
    post.limb((0, 0, 0), (0, 0, placed.height), 0.04, (140, 142, 142), Material.PAINT)
    brush = Brush(canvas, "traffic sign", 0, placed.x, placed.z - 0.05)
    kind = str(rng.choice(["limit", "ban", "warning", "priority", "direction", "crossing", "stop"]))
    _plate(brush, kind, placed.height, placed.width)
    if rng.random() < 0.25:
        _plate(brush, "notice", placed.height - placed.width * 0.85, placed.width * 0.7)


def _plate(brush: Brush, kind: str, height: float, size: float) -> None:
    half = size / 2

    def shape(scale: float, corners: int, turn: float, color: Color) -> None:
        angles = [2 * math.pi * i / corners + turn for i in range(corners)]
        r = half * scale
        brush.face([(0, r * math.sin(a), height + r * math.cos(a)) for a in angles], color, shade=0.5)

    def bar(wide: float, tall: float, color: Color, up: float = 0.0) -> None:
        w, t, h = half * wide, half * tall, height + half * up
        brush.face(panel((0, -w), (0, w), h - t, h + t), color, shade=0.5)

    if kind == "limit":
        shape(1.0, 16, 0, RED)
        shape(0.74, 16, 0, WHITE)
        bar(0.36, 0.26, BLACK)
    elif kind == "ban":
        shape(1.0, 16, 0, RED)
        bar(0.7, 0.16, WHITE)
    elif kind == "warning":
        shape(1.15, 3, 0, RED)
        shape(0.7, 3, 0, WHITE)
        bar(0.1, 0.22, BLACK)
    elif kind == "priority":
        shape(1.1, 4, 0, WHITE)
        shape(0.8, 4, 0, YELLOW)
    elif kind == "direction":
        bar(1.7, 0.55, BLUE if brush.x > 0 else YELLOW)
        bar(1.2, 0.1, WHITE, 0.15)
        bar(0.9, 0.08, WHITE, -0.2)
    elif kind == "crossing":
        bar(0.95, 0.95, BLUE)
        shape(0.66, 3, 0, WHITE)
        bar(0.1, 0.25, BLACK)
    elif kind == "stop":
        shape(1.0, 8, math.pi / 8, RED)
        bar(0.72, 0.2, WHITE)
    else:
        bar(1.0, 0.5, WHITE)
        bar(0.7, 0.1, BLACK)


def draw_bollard(canvas: Canvas, placed: Placed) -> None:
    """Draw a knee-high post at the kerb."""
    brush = Brush(canvas, "pole", 0, placed.x, placed.z)
    brush.limb((0, 0, 0), (0, 0, placed.height), 0.07, (70, 72, 72), Material.PAINT)
    brush.limb((0, 0, placed.height * 0.78), (0, 0, placed.height * 0.86), 0.072, (210, 60, 50), Material.PAINT)
