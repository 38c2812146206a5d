"""Draw the ground: land beside the street, sidewalks, verges, the road and its markings."""

from __future__ import annotations

import math

import numpy as np

from segadapt.toy.canvas import NEAR, TRAIN_ID, Canvas, Color, Material, Part
from segadapt.toy.scene import FAR, Scene

LAST = 2000.0
_MARK: Color = (222, 222, 216)


class Ground:
    """Fills strips of ground, given by sideways and depth extent in metres."""

    def __init__(self, canvas: Canvas) -> None:
        self.canvas = canvas

    def strip(
        self,
        x0: float,
        x1: float,
        z0: float,
        z1: float,
        label: str,
        color: Color,
        material: Material = Material.ASPHALT,
    ) -> None:
        """Fill a strip along the street; it follows the bend."""
        count = 2 + int(10 * min(1.0, (z1 - z0) / 40))
        depths = np.geomspace(max(z0, NEAR), z1, count) if self.canvas.camera.bend else (max(z0, NEAR), z1)
        project = self.canvas.camera.project
        left = [project((x0, 0.0, float(z))) for z in depths]
        right = [project((x1, 0.0, float(z))) for z in depths]
        part = Part(TRAIN_ID[label], color, 0, 1.0, material, self.canvas.sun[1], 0.0, ground=True)
        self.canvas.fill(left + right[::-1], part)


def draw_ground(canvas: Canvas, scene: Scene, rng: np.random.Generator) -> None:
    """Draw everything at height 0, from the outside in."""
    ground = Ground(canvas)
    game = scene.town.name == "game"
    grass: Color = (118, 168, 66) if game else (104, 118, 68)
    paving: Color = (196, 186, 172) if game else (142, 138, 134)
    tar = float(rng.uniform(92, 122) if game else rng.uniform(84, 116))
    road: Color = (tar, tar, tar + 4)
    ground.canvas.fill(
        _whole_ground(canvas), Part(TRAIN_ID["terrain"], grass, material=Material.GRASS, shade=0.8, ground=True)
    )
    _land(ground, scene, grass, paving)
    for side in scene.sides:
        s = side.sign
        ground.strip(s * side.kerb, s * side.line, NEAR, FAR, "sidewalk", paving, Material.PAVING)
        if side.verge > side.kerb:
            ground.strip(s * side.kerb, s * side.verge, NEAR, FAR, "terrain", grass, Material.GRASS)
        ground.strip(s * side.kerb, s * (side.kerb + 0.18), NEAR, FAR, "sidewalk", (188, 186, 180), Material.PAVING)
        ground.strip(s * side.kerb, s * (side.kerb - 0.3), NEAR, FAR, "road", (tar - 14, tar - 14, tar - 12))
    left, right = -scene.sides[0].kerb, scene.sides[1].kerb
    ground.strip(left + 0.25, right - 0.25, NEAR, LAST, "road", road)
    _patches(ground, left, right, road, rng)
    if scene.junction:
        z0, z1 = scene.junction
        ground.strip(-140, 140, z0 - 2.5, z1 + 2.5, "sidewalk", paving, Material.PAVING)
        ground.strip(-140, 140, z0, z1, "road", road)
        ground.strip(left, right, z0 - 3, z1 + 3, "road", road)
    _markings(ground, scene, rng, left, right)
    _middle(ground, scene, grass)


def _whole_ground(canvas: Canvas) -> list[tuple[float, float]]:
    horizon, w, h = canvas.camera.horizon, canvas.width + 2.0, canvas.height + 2.0
    return [(-2.0, horizon), (w, horizon), (w, h), (-2.0, h)]


def _land(ground: Ground, scene: Scene, grass: Color, paving: Color) -> None:
    """Draw the ground beyond the building line: lawn or yard."""
    for stretch in scene.frontage:
        if stretch.kind in ("tower",):
            continue
        far = math.copysign(90.0, stretch.x)
        if stretch.kind == "building":
            ground.strip(stretch.x, far, stretch.z0 - 1, stretch.z1 + 1, "sidewalk", paving, Material.PAVING)
        else:
            ground.strip(stretch.x, far, stretch.z0, stretch.z1, "terrain", grass, Material.GRASS)


def _patches(ground: Ground, left: float, right: float, road: Color, rng: np.random.Generator) -> None:
    """Draw repairs and manhole covers: darker or lighter rectangles of the road."""
    for _ in range(int(rng.poisson(3))):
        x, z = float(rng.uniform(left, right)), 5 + float(rng.gamma(2.0, 10.0))
        wide, long = float(rng.uniform(0.5, 1.8)), float(rng.uniform(0.8, 9.0))
        tone = float(rng.uniform(0.82, 1.1))
        color = (road[0] * tone, road[1] * tone, road[2] * tone)
        ground.strip(max(x - wide / 2, left), min(x + wide / 2, right), z, z + long, "road", color)


def _markings(ground: Ground, scene: Scene, rng: np.random.Generator, left: float, right: float) -> None:
    yellow: Color = (228, 186, 50)
    centre: Color = yellow if scene.town.name == "game" else _MARK
    mid, half = scene.middle, scene.median / 2
    if not scene.median:
        if scene.town.name == "game":
            for dx in (-0.18, 0.18):
                _line(ground, scene, mid + dx, centre, dash=0.0)
        elif rng.random() < 0.8:
            _line(ground, scene, mid, centre, dash=3.0 if rng.random() < 0.7 else 0.0)
    for i in range(1, scene.lanes):
        for sign in (-1, 1):
            _line(ground, scene, mid + sign * (half + i * scene.lane), _MARK, dash=3.0)
    for index, sign in enumerate((-1, 1)):
        if scene.parking[index] or scene.town.name == "game":
            _line(
                ground, scene, mid + sign * (half + scene.lanes * scene.lane - 0.05), _MARK, dash=0.0 if index else 1.0
            )
    if scene.zebra:
        x = left + 0.5
        while x < right - 0.5:
            ground.strip(x, x + 0.5, scene.zebra, scene.zebra + 3.0, "road", _MARK)
            x += 1.05
    if scene.junction:
        ground.strip(mid + half + 0.1, right - 0.2, scene.junction[0] - 5.2, scene.junction[0] - 4.8, "road", _MARK)
    if scene.rails is not None:
        for dx in (-0.72, 0.72):
            ground.strip(scene.rails + dx - 0.05, scene.rails + dx + 0.05, NEAR, FAR, "road", (64, 62, 62))


def _line(ground: Ground, scene: Scene, x: float, color: Color, dash: float) -> None:
    """Draw a marking along the street: dashes of ``dash`` metres, or unbroken for 0; never across a junction."""
    gap = scene.junction or (LAST, LAST)
    if dash == 0.0:
        ground.strip(x - 0.07, x + 0.07, NEAR, min(gap[0] - 4.8, FAR), "road", color)
        if gap[1] < FAR:
            ground.strip(x - 0.07, x + 0.07, gap[1] + 4.0, FAR, "road", color)
        return
    z = 1.0
    while z < 90:
        if z + dash < gap[0] - 4.8 or z > gap[1] + 3:
            ground.strip(x - 0.07, x + 0.07, z, z + dash, "road", color)
        z += 3 * dash


def _middle(ground: Ground, scene: Scene, grass: Color) -> None:
    """Draw the planted strip between the two halves of the road."""
    if not scene.median:
        return
    x0, x1 = scene.middle - scene.median / 2 + 0.3, scene.middle + scene.median / 2 - 0.3
    gap = scene.junction or (LAST, LAST)
    for z0, z1 in ((NEAR, min(gap[0] - 5.0, FAR)), (gap[1] + 4.0, FAR)):
        if z1 > z0:
            ground.strip(x0 - 0.2, x1 + 0.2, z0, z1, "sidewalk", (190, 186, 178), Material.PAVING)
            ground.strip(x0, x1, z0, z1, "terrain", grass, Material.GRASS)
