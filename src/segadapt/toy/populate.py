"""Fill a laid-out street: frontage, vehicles, people, two-wheelers, trees and street furniture."""

from __future__ import annotations

import math

import numpy as np

from segadapt.toy.canvas import Color
from segadapt.toy.scene import FAR, Frontage, Placed, Scene, between, chance, draw_seed, pick_color
from segadapt.toy.traffic import add_people, add_vehicles

Rng = np.random.Generator


def populate(scene: Scene, rng: Rng) -> None:
    """Add frontage and objects to ``scene`` in place; big and rare things come first so that they find room."""
    _frontage(scene, rng)
    _backdrop(scene, rng)
    add_vehicles(scene, rng)
    _furniture(scene, rng)
    _trees(scene, rng)
    add_people(scene, rng)


# --- frontage ------------------------------------------------------------------------------------


def _frontage(scene: Scene, rng: Rng) -> None:
    town = scene.town
    kinds, weights = list(town.frontage), np.asarray(list(town.frontage.values()))
    for sign in (-1, 1):
        z = 2.0
        kind = ""
        while z < FAR - 6:
            kind = str(rng.choice(kinds, p=weights / weights.sum()))
            length = between(rng, (8.0, 20.0)) if kind == "building" else between(rng, (9.0, 26.0))
            end = min(z + length, FAR)
            if scene.junction and z < scene.junction[1] and end > scene.junction[0]:
                if scene.junction[0] - z > 4.0:
                    scene.frontage.append(_stretch(scene, rng, kind, sign, z, scene.junction[0] - 1.0))
                z = scene.junction[1] + 1.0
                continue
            scene.frontage.append(_stretch(scene, rng, kind, sign, z, end))
            z = end + (between(rng, (1.0, 5.0)) if kind == "building" and chance(rng, 0.25) else 0.0)


def _stretch(scene: Scene, rng: Rng, kind: str, sign: int, z0: float, z1: float) -> Frontage:
    town = scene.town
    line = scene.side_x(sign, "line")
    heights = {
        "building": town.building_height, "wall": (1.1, 3.2), "fence": (1.1, 2.2), "hedge": (1.0, 2.4),
        "park": (0.0, 0.1),
    }  # fmt: skip
    height = between(rng, heights[kind])
    color: Color = {
        "building": pick_color(rng, town.facades, 12.0),
        "wall": pick_color(rng, ((168, 164, 156), (150, 100, 82), (190, 180, 160)), 10.0),
        "fence": pick_color(rng, ((70, 76, 74), (120, 94, 70), (180, 180, 176), (60, 90, 70)), 8.0),
        "hedge": pick_color(rng, ((58, 92, 44), (70, 104, 50)), 8.0),
        "park": pick_color(rng, ((104, 132, 66), (118, 128, 74)), 8.0),
    }[kind]
    return Frontage(kind, line, z0, z1, height, between(rng, (9.0, 16.0)), color, draw_seed(rng))


def _backdrop(scene: Scene, rng: Rng) -> None:
    """Close the view with far houses and trees all along the horizon, and hills behind them."""
    if chance(rng, scene.town.hills):
        scene.placed.append(
            Placed("hills", 0.0, 900.0, 1.0, between(rng, (40, 130)), 1.0, 0.0, (96, 124, 84), draw_seed(rng))
        )
    x = -190.0
    while x < 190.0:
        width = between(rng, (9.0, 22.0))
        z = FAR + between(rng, (2.0, 30.0))
        if chance(rng, 0.55):
            height = between(rng, scene.town.building_height)
            color = pick_color(rng, scene.town.facades, 12.0)
            scene.frontage.append(Frontage("tower", x, z, z + width, height, width, color, draw_seed(rng)))
        else:
            scene.placed.append(_tree(scene, rng, x, z))
        x += width * between(rng, (0.6, 1.0))
    if scene.junction:
        _side_street(scene, rng, scene.junction[0], scene.junction[1])


def _side_street(scene: Scene, rng: Rng, z0: float, z1: float) -> None:
    for sign in (-1, 1):
        edge = scene.side_x(sign, "line")
        for _ in range(int(rng.integers(0, 3))):
            x = edge + sign * between(rng, (3.0, 16.0))
            if scene.claim(x, z1 + 1.5, 1.2, 1.0):
                scene.placed.append(_tree(scene, rng, x, z1 + 1.0))


# --- trees and street furniture --------------------------------------------------------------------


def _tree(scene: Scene, rng: Rng, x: float, z: float) -> Placed:
    palm = chance(rng, scene.town.palm)
    height = between(rng, (7.0, 12.0)) if palm else between(rng, (5.0, 12.0))
    green: Color = (84, 150, 52) if scene.town.name == "game" else (80, 98, 54)
    kind = "palm" if palm else ("conifer" if chance(rng, 0.15) else "tree")
    return Placed(
        kind, x, z, between(rng, (3.0, 5.5)), height, 1.0, 0.0, pick_color(rng, (green,), 12.0), draw_seed(rng)
    )


def _trees(scene: Scene, rng: Rng) -> None:
    for index, sign in enumerate((-1, 1)):
        side = scene.sides[index]
        strip = side.verge > side.kerb
        x = sign * ((side.kerb + side.verge) / 2 if strip else side.verge + 0.7)
        planted = chance(rng, 0.75)
        z = between(rng, (8.0, 22.0))
        while planted and z < FAR:
            if not scene.in_junction(z, 0.0) and scene.claim(x, z, 0.3, 0.3):
                scene.placed.append(_tree(scene, rng, x, z))
            z += between(rng, scene.town.tree_gap)
    for stretch in list(scene.frontage):
        if stretch.kind in ("park", "fence", "wall", "hedge"):
            for _ in range(int(rng.poisson((stretch.z1 - stretch.z0) * (0.28 if stretch.kind == "park" else 0.16)))):
                x = stretch.x + math.copysign(between(rng, (2.0, 22.0)), stretch.x)
                scene.placed.append(_tree(scene, rng, x, between(rng, (max(stretch.z0, 6.0), max(stretch.z1, 7.0)))))


def _furniture(scene: Scene, rng: Rng) -> None:
    grey: Color = (120, 122, 120)
    for sign in (-1, 1):
        x = scene.side_x(sign, "kerb") + sign * 0.45
        z = between(rng, (7.0, 26.0))
        while z < 140:
            if scene.claim(x, z, 0.15, 0.15):
                scene.placed.append(Placed("lamp", x, z, 0.1, between(rng, (6, 9)), 1, 0, grey, draw_seed(rng)))
            z += between(rng, scene.town.pole_gap)
    if scene.junction or chance(rng, 0.35):
        stop = scene.junction[0] if scene.junction else between(rng, (14.0, 34.0))
        for sign in (-1, 1):
            x = scene.side_x(sign, "kerb") + sign * 0.4
            arm = scene.side_x(1, "kerb") * 0.8 if sign > 0 and chance(rng, 0.5) else 0.0
            scene.placed.append(Placed("traffic light", x, stop - 1.0, arm, 3.4, 1, 0, grey, draw_seed(rng)))
            if scene.junction and chance(rng, 0.7):
                beyond = scene.junction[1] + 1.0
                scene.placed.append(Placed("traffic light", x, beyond, 0.0, 3.4, 1, 0, grey, draw_seed(rng)))
    for _ in range(int(rng.poisson(scene.town.signs))):
        sign = 1 if chance(rng, 0.65) else -1
        x, z = scene.side_x(sign, "kerb") + sign * between(rng, (0.3, 0.6)), 8.0 + float(rng.gamma(1.8, 9.0))
        if scene.claim(x, z, 0.2, 0.2):
            scene.placed.append(
                Placed("sign", x, z, between(rng, (0.6, 0.85)), between(rng, (2.3, 3.0)), 1, 0, grey, draw_seed(rng))
            )
    if chance(rng, 0.3):
        sign = 1 if chance(rng, 0.5) else -1
        first = between(rng, (7.0, 20.0))
        for i in range(6):
            x = scene.side_x(sign, "kerb") + sign * 0.35
            if scene.claim(x, first + 1.8 * i, 0.1, 0.1):
                scene.placed.append(Placed("bollard", x, first + 1.8 * i, 0.12, 0.95, 1, 0, grey, draw_seed(rng)))
