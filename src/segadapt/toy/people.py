"""Draw pedestrians, riders, bicycles and motorcycles from jointed bars, so that any heading looks right."""

from __future__ import annotations

import math

import numpy as np

from segadapt.toy.canvas import TRAIN_ID, Brush, Canvas, Color, Material, Part, Point, darker, mix
from segadapt.toy.scene import Placed

SKIN: tuple[Color, ...] = ((226, 180, 150), (198, 150, 118), (140, 98, 72), (96, 66, 50))
HAIR: tuple[Color, ...] = ((40, 30, 26), (92, 64, 40), (170, 140, 90), (120, 118, 116))
TROUSERS: tuple[Color, ...] = ((38, 42, 58), (30, 30, 32), (92, 88, 80), (64, 80, 110))


def draw_person(canvas: Canvas, placed: Placed) -> None:
    """Draw a standing or walking pedestrian."""
    rng = np.random.default_rng(placed.seed)
    brush = Brush(canvas, "person", placed.instance, placed.x, placed.z, placed.yaw)
    skin, hair, legs = _looks(rng)
    m = placed.height / 1.75
    stride = float(rng.uniform(0.05, 0.36)) * m
    swing = stride * 0.9
    brush.mat(0.25, 0.35, 0.3)
    # The side turned away is drawn first.
    for side in (1, -1) if math.cos(placed.yaw) >= 0 else (-1, 1):
        foot, knee = -side * stride, -side * stride * 0.35 + 0.05 * m
        brush.limb((0, 0.1 * side * m, 0.88 * m), (knee, 0.11 * side * m, 0.48 * m), 0.095 * m, legs)
        brush.limb((knee, 0.11 * side * m, 0.48 * m), (foot, 0.11 * side * m, 0.07 * m), 0.075 * m, legs)
        brush.limb(
            (foot, 0.11 * side * m, 0.045 * m), (foot + 0.16 * m, 0.11 * side * m, 0.04 * m), 0.045 * m, (30, 28, 28)
        )
    coat = float(rng.uniform(0.62, 0.9)) * m
    _torso(brush, (0.0, 0.0, coat), (0.03, 0.0, 1.4 * m), 0.19 * m, placed.color)
    for side in (-1, 1):
        hand = side * swing * 0.6
        elbow = (side * swing * 0.2 - 0.03, 0.26 * side * m, 1.12 * m)
        brush.limb((0.0, 0.21 * side * m, 1.38 * m), elbow, 0.06 * m, darker(placed.color, 0.85))
        brush.limb(elbow, (hand, 0.25 * side * m, 0.88 * m), 0.05 * m, darker(placed.color, 0.8))
        brush.ball((hand, 0.25 * side * m, 0.84 * m), 0.045 * m, skin)
    if rng.random() < 0.3:
        brush.limb((-0.14, 0, 1.08 * m), (-0.14, 0, 1.32 * m), 0.13 * m, mix(placed.color, (160, 40, 40), 0.6))
    _head(brush, (0.04, 0.0, 1.61 * m), m, skin, hair)


def _looks(rng: np.random.Generator) -> tuple[Color, Color, Color]:
    return tuple(group[int(rng.integers(len(group)))] for group in (SKIN, HAIR, TROUSERS))  # type: ignore[return-value]


def _torso(brush: Brush, low: Point, high: Point, half: float, color: Color) -> None:
    """Draw a trunk that is wider from the front than from the side."""
    broad = half * 0.55 * abs(math.cos(brush.yaw))
    for offset in (-broad, broad):
        brush.limb((low[0], offset * 0.8, low[2]), (high[0], offset, high[2]), half * 0.72, color)
    brush.limb(low, high, half * 0.8, color)


def _head(brush: Brush, centre: Point, m: float, skin: Color, hair: Color) -> None:
    a, c, h = centre
    brush.limb((a - 0.03, c, h - 0.2 * m), centre, 0.055 * m, darker(skin, 0.85))
    brush.ball((a, c, h), 0.105 * m, skin, tall=1.18)
    away = math.cos(brush.yaw) > 0.3
    brush.ball((a - 0.03 * m, c, h + (0.015 if away else 0.055) * m), (0.11 if away else 0.095) * m, hair)
    if not away:
        brush.ball((a + 0.03 * m, c, h - 0.02 * m), 0.08 * m, skin)


def draw_rider(canvas: Canvas, placed: Placed) -> None:
    """Draw the person on a bicycle or motorcycle."""
    rng = np.random.default_rng(placed.seed + 1)
    brush = Brush(canvas, "rider", placed.instance, placed.x, placed.z, placed.yaw)
    skin, hair, legs = _looks(rng)
    motor = placed.kind.startswith("motorcycle")
    seat, lean, grip = ((-0.25, 0.82), 0.22, (0.42, 1.02)) if motor else ((-0.22, 0.98), 0.38, (0.42, 1.05))
    hip = (seat[0], 0.0, seat[1] + 0.06)
    neck = (seat[0] + lean, 0.0, seat[1] + 0.56)
    for side in (-1, 1):
        pedal = (0.08 + 0.14 * side * (not motor), 0.12 * side, 0.34 + 0.1 * side * (not motor))
        knee = (0.22, (0.24 if motor else 0.16) * side, 0.66 + 0.08 * side * (not motor))
        brush.limb((hip[0], 0.1 * side, hip[2]), knee, 0.09, legs)
        brush.limb(knee, pedal, 0.07, legs)
        brush.limb(pedal, (pedal[0] + 0.16, pedal[1], pedal[2] - 0.02), 0.05, (32, 30, 30))
    _torso(brush, hip, neck, 0.2, placed.color)
    for side in (-1, 1):
        elbow = (neck[0] + 0.14, 0.3 * side, (neck[2] + grip[1]) / 2)
        brush.limb((neck[0], 0.2 * side, neck[2] - 0.04), elbow, 0.06, darker(placed.color, 0.85))
        brush.limb(elbow, (grip[0], 0.26 * side, grip[1]), 0.05, darker(placed.color, 0.8))
    head = (neck[0] + 0.1, 0.0, neck[2] + 0.2)
    _head(brush, head, 1.0, skin, hair)
    if motor or rng.random() < 0.5:
        helmet: Color = ((210, 40, 40), (240, 240, 236), (36, 36, 40), (240, 200, 40))[int(rng.integers(4))]
        brush.ball((head[0] - 0.01, 0.0, head[2] + 0.04), 0.14 if motor else 0.12, helmet)
        if motor and math.cos(placed.yaw) < 0.3:
            brush.ball((head[0] + 0.07, 0.0, head[2] + 0.01), 0.08, (30, 34, 40))


def _wheel(brush: Brush, along: float, radius: float, tyre: float, spokes: bool) -> None:
    """Draw a wheel in the plane of travel; between bicycle spokes the darkened background shows through."""
    camera = brush.canvas.camera
    rim = [
        camera.project(brush.to_street(along + radius * math.cos(t), 0.0, radius + radius * math.sin(t)))
        for t in (2 * math.pi * i / 16 for i in range(16))
    ]
    depth = brush.to_street(along, 0.0, radius)[2]
    hub = camera.project(brush.to_street(along, 0.0, radius))
    part = Part(TRAIN_ID[brush.label], (24, 24, 26), brush.instance, depth, Material.PAINT, 0.3)
    if spokes:
        behind = brush.canvas.under((hub[0], hub[1]))
        brush.canvas.fill(
            rim, part._replace(color=darker(behind.color, 0.8), material=behind.material, shade=behind.shade)
        )
    else:
        brush.canvas.fill(rim, part._replace(color=(58, 58, 62)))
    brush.canvas.stroke(rim, tyre * camera.pixels_per_metre(depth), part, closed=True)


def draw_bicycle(canvas: Canvas, placed: Placed) -> None:
    """Draw a bicycle, ridden or parked."""
    rng = np.random.default_rng(placed.seed)
    brush = Brush(canvas, "bicycle", placed.instance, placed.x, placed.z, placed.yaw)
    brush.mat(0.8, 0.2, 0.3)
    color: Color = ((40, 40, 44), (170, 40, 40), (60, 90, 150), (210, 210, 206), (70, 120, 80))[int(rng.integers(5))]
    rear, front, radius = -0.52, 0.52, 0.34
    for along in (rear, front):
        _wheel(brush, along, radius, 0.06, spokes=True)
    crank, saddle, head = (-0.08, 0.0, 0.3), (-0.22, 0.0, 0.88), (0.36, 0.0, 0.86)
    joints = (
        ((rear, 0.0, radius), crank),
        (crank, saddle),
        (crank, head),
        (saddle, head),
        ((rear, 0.0, radius), saddle),
        (head, (front, 0.0, radius)),
        (head, (0.34, 0.0, 1.02)),
    )
    for a, b in joints:
        brush.limb(a, b, 0.03, color, Material.PAINT)
    brush.limb((-0.32, 0, 0.96), (-0.12, 0, 0.95), 0.05, (30, 28, 28))
    brush.limb((0.34, -0.28, 1.03), (0.34, 0.28, 1.03), 0.028, (50, 50, 52))
    brush.limb((-0.84, 0.0, 0.66), (-0.86, 0.0, 0.6), 0.04, (210, 30, 30), glow=0.6)


def draw_motorcycle(canvas: Canvas, placed: Placed) -> None:
    """Draw a motorcycle or scooter, ridden or parked."""
    brush = Brush(canvas, "motorcycle", placed.instance, placed.x, placed.z, placed.yaw)
    color, half, radius = placed.color, 0.11, 0.31
    brush.mat(1.0, 0.3, 0.55)
    rear = math.cos(placed.yaw) > 0
    for along in (0.68, -0.68) if rear else (-0.68, 0.68):
        _wheel(brush, along, radius, 0.13, spokes=False)
        brush.limb((along, 0.0, 0.1), (along, 0.0, 0.55), 0.08, (26, 26, 28), Material.PAINT)
    brush.limb((-0.3, 0.0, 0.38), (0.3, 0.0, 0.4), 0.2, (70, 70, 74), Material.PAINT)
    brush.limb((-0.05, 0.0, 0.72), (0.34, 0.0, 0.76), 0.17, color, Material.PAINT)
    brush.limb((-0.7, 0.0, 0.74), (-0.1, 0.0, 0.76), half, (28, 26, 26))
    brush.limb((-0.86, 0.0, 0.62), (-0.5, 0.0, 0.64), 0.14, color, Material.PAINT)
    for side in (-1, 1):
        brush.limb((0.68, 0.09 * side, radius), (0.42, 0.09 * side, 0.9), 0.04, (140, 142, 146), Material.PAINT)
        brush.limb((0.36, 0.0, 0.98), (0.3, 0.36 * side, 1.02), 0.035, (40, 40, 42), Material.PAINT)
        brush.limb((0.36, 0.3 * side, 1.05), (0.35, 0.36 * side, 1.16), 0.05, (46, 48, 52), Material.PAINT)
    brush.limb((-0.4, -0.2, 0.3), (-0.85, -0.22, 0.38), 0.06, (150, 150, 154), Material.PAINT)
    if rear:
        brush.ball((-0.98, 0.0, 0.66), 0.075, (205, 26, 22), glow=0.8)
    else:
        brush.limb((0.5, 0.0, 0.78), (0.5, 0.0, 0.98), 0.16, color, Material.PAINT)
        brush.ball((0.62, 0.0, 0.88), 0.11, (246, 244, 228), glow=1.0)
