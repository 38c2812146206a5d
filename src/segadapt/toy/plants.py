"""Draw trees, conifers, palms and the hills behind the town."""

from __future__ import annotations

import math

import numpy as np

from segadapt.toy.canvas import TRAIN_ID, Canvas, Color, Material, Part, darker, mix
from segadapt.toy.scene import Placed

TRUNK: Color = (86, 68, 54)


def _blob(
    canvas: Canvas, placed: Placed, x: float, y: float, radius: float, color: Color, rng: np.random.Generator
) -> None:
    """Draw one ragged clump of leaves."""
    camera = canvas.camera
    u, v = camera.project((x, y, placed.z))
    r = radius * camera.pixels_per_metre(placed.z)
    count = 7 if r < 4 else 14
    ragged = rng.uniform(0.72, 1.12, count)
    outline = [
        (u + r * k * math.cos(2 * math.pi * i / count), v + 0.88 * r * k * math.sin(2 * math.pi * i / count))
        for i, k in enumerate(ragged.tolist())
    ]
    canvas.fill(outline, Part(TRAIN_ID["vegetation"], color, 0, placed.z, Material.LEAF, 0.5))


def _bar(
    canvas: Canvas, placed: Placed, low: tuple[float, float], high: tuple[float, float], wide: float, color: Color
) -> None:
    camera = canvas.camera
    (u0, v0), (u1, v1) = (camera.project((x, y, placed.z)) for x, y in (low, high))
    half = max(wide / 2 * camera.pixels_per_metre(placed.z), 0.3)
    part = Part(TRAIN_ID["vegetation"], color, 0, placed.z, Material.PLASTER, 0.4)
    canvas.fill([(u0 - half, v0), (u1 - half * 0.7, v1), (u1 + half * 0.7, v1), (u0 + half, v0)], part)


def _shadow(canvas: Canvas, x: float, z: float, radius: float, height: float) -> None:
    """Draw the shadow of trunk and crown on the ground, at most two heights long."""
    sx, sy, sz = canvas.sun
    reach = min(height / max(sy, 0.3), 2 * height)
    cx, cz = x - sx * reach, z - sz * reach
    if cz - radius < 1.0:
        return
    ring = [2 * math.pi * i / 14 for i in range(14)]
    for dx, dz, share in ((0.0, 0.0, 0.8), (0.5, 0.3, 0.6), (-0.5, 0.2, 0.55), (0.1, -0.5, 0.55)):
        u, v, r = cx + dx * radius, cz + dz * radius, share * radius
        canvas.shadow([(u + r * math.cos(t), v + r * math.sin(t)) for t in ring], 0.45, cast=True)
    canvas.shadow([(x - 0.12, z), (x + 0.12, z), (cx + 0.12, cz), (cx - 0.12, cz)], 0.45, cast=True)


def draw_tree(canvas: Canvas, placed: Placed) -> None:
    """Draw a broad-leaved tree: a trunk and some dozen clumps, dark below and light above."""
    rng = np.random.default_rng(placed.seed)
    x, height, radius = placed.x, placed.height, placed.width / 2
    crown = height - radius * 1.1
    _shadow(canvas, x, placed.z, radius, crown)
    lean = float(rng.normal(0, 0.15))
    _bar(canvas, placed, (x, 0.0), (x + lean, crown), float(rng.uniform(0.22, 0.42)), TRUNK)
    fine = canvas.camera.pixels_per_metre(placed.z) > 4
    count = 16 if fine else 7
    tall = float(rng.uniform(0.9, 1.4))
    spots = sorted((float(rng.uniform(-1, 1)), float(rng.normal(0, 0.62))) for _ in range(count))
    for up, aside in spots:
        wide = math.sqrt(max(0.1, 1 - up * up))
        side = max(-1.0, min(1.0, aside)) * wide
        light = 0.82 + 0.2 * up + 0.12 * side * (1 if canvas.sun[0] > 0 else -1) + float(rng.normal(0, 0.06))
        _blob(
            canvas,
            placed,
            x + lean + side * radius * 0.75,
            crown + up * radius * 0.75 * tall,
            radius * float(rng.uniform(0.36, 0.55)),
            darker(placed.color, light),
            rng,
        )


def draw_conifer(canvas: Canvas, placed: Placed) -> None:
    """Draw a fir: tiers that narrow upwards."""
    rng = np.random.default_rng(placed.seed)
    x, height, camera = placed.x, placed.height, canvas.camera
    _shadow(canvas, x, placed.z, 1.0, height / 2)
    _bar(canvas, placed, (x, 0.0), (x, height * 0.3), 0.3, TRUNK)
    color = mix(placed.color, (40, 78, 52), 0.6)
    tiers = 6
    for i in range(tiers):
        low = height * (0.12 + 0.8 * i / tiers)
        half = placed.width * 0.42 * (1 - i / tiers) + 0.25
        outline = [
            (x - half, low),
            (x - half * 0.5, low - 0.15),
            (x, low + 0.1),
            (x + half * 0.5, low - 0.15),
            (x + half, low),
            (x, min(height, low + height * 0.32)),
        ]
        points = [camera.project((px, py, placed.z)) for px, py in outline]
        shade = float(rng.uniform(0.85, 1.1))
        canvas.fill(points, Part(TRAIN_ID["vegetation"], darker(color, shade), 0, placed.z, Material.LEAF, 0.5))


def draw_palm(canvas: Canvas, placed: Placed) -> None:
    """Draw a palm: a thin, leaning trunk and a star of hanging fronds."""
    rng = np.random.default_rng(placed.seed)
    x, height, camera = placed.x, placed.height, canvas.camera
    _shadow(canvas, x, placed.z, 1.6, height)
    top = x + float(rng.normal(0, 0.5))
    _bar(canvas, placed, (x, 0.0), (top, height), 0.34, (150, 120, 86))
    for i in range(11):
        angle = 2 * math.pi * i / 11 + float(rng.uniform(-0.2, 0.2))
        reach, rise = 2.5 * math.cos(angle), 0.9 * abs(math.sin(angle)) + 0.3
        curve = [
            (top, height),
            (top + reach * 0.5, height + rise),
            (top + reach, height + rise * 0.3 - 1.1),
            (top + reach * 0.5, height + rise - 0.45),
        ]
        points = [camera.project((px, py, placed.z)) for px, py in curve]
        shade = float(rng.uniform(0.8, 1.15))
        canvas.fill(points, Part(TRAIN_ID["vegetation"], darker(placed.color, shade), 0, placed.z, Material.LEAF, 0.6))


def draw_hills(canvas: Canvas, placed: Placed) -> None:
    """Draw a wooded ridge along the whole horizon."""
    rng = np.random.default_rng(placed.seed)
    camera = canvas.camera
    columns = np.linspace(-10, canvas.width + 10, 60)
    phase, pace = rng.uniform(0, 6.3, 4), rng.uniform(1, 7, 4)
    ridge = sum(
        np.sin(columns / canvas.width * p * 3 + f) / (i + 1.5) for i, (p, f) in enumerate(zip(pace, phase, strict=True))
    )
    rise = np.maximum(0.15, 0.55 + 0.35 * ridge) * placed.height * camera.pixels_per_metre(placed.z)
    outline = [(float(u), camera.horizon - float(r)) for u, r in zip(columns, rise, strict=True)]
    outline += [(canvas.width + 10.0, camera.horizon + 2), (-10.0, camera.horizon + 2)]
    canvas.fill(outline, Part(TRAIN_ID["vegetation"], placed.color, 0, placed.z, Material.LEAF, 0.7))
