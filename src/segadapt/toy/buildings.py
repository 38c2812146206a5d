"""Draw the frontage of a street: houses with windows and shops, walls, fences and hedges."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from segadapt.toy.canvas import TRAIN_ID, Brush, Canvas, Color, Material, Part, darker, mix, panel
from segadapt.toy.scene import FAR, Frontage

Draw = Callable[[Canvas], None]
WINDOW: Color = (58, 68, 80)
SHOPS: tuple[Color, ...] = ((170, 40, 36), (40, 90, 60), (44, 60, 110), (200, 160, 60), (60, 56, 54))


def pieces(stretch: Frontage) -> Iterator[tuple[float, Draw]]:
    """Yield a stretch in short lengths, each with the depth by which the painter sorts it."""
    if stretch.kind == "park":
        return
    if stretch.kind == "tower":
        yield (
            stretch.z0,
            lambda canvas: _front(canvas, stretch, stretch.x - stretch.depth / 2, stretch.x + stretch.depth / 2),
        )
        return
    yield FAR * 4, lambda canvas: _cast_shadow(canvas, stretch)
    count = max(1, round((stretch.z1 - stretch.z0) / (3.4 if stretch.kind == "building" else 3.0)))
    marks = np.linspace(stretch.z0, stretch.z1, count + 1)
    house = House(stretch) if stretch.kind == "building" else None
    for i in range(count):
        a, b = float(marks[i]), float(marks[i + 1])
        yield b, _length(stretch, house, a, b, i)
    outer = stretch.x + math.copysign(stretch.depth if house else 0.3, stretch.x)
    # The end that faces the camera comes after the flank's first length.
    yield stretch.z0, lambda canvas: _front(canvas, stretch, *sorted((stretch.x, outer)))


def _cast_shadow(canvas: Canvas, s: Frontage) -> None:
    """Draw the shadow on the ground in front of the row, if the sun stands behind it."""
    sx, sy, sz = canvas.sun
    reach = s.height / max(sy, 0.25)
    dx, dz = -sx * reach, -sz * reach
    if dx * s.x > 0 or s.z0 > 80:
        return
    z0, z1 = s.z0, min(s.z1, 120.0)
    canvas.shadow([(s.x, z0), (s.x, z1), (s.x + dx, max(z1 + dz, 1.0)), (s.x + dx, max(z0 + dz, 1.0))], 0.45, cast=True)


def _length(stretch: Frontage, house: House | None, a: float, b: float, index: int) -> Draw:
    """Return the function that draws one short length."""
    if house is not None:
        return lambda canvas: house.bay(canvas, a, b, index)
    draw = {"wall": _wall, "fence": _fence, "hedge": _hedge}[stretch.kind]
    return lambda canvas: draw(canvas, stretch, a, b, index)


class House:
    """A terraced house along the street: its random details are chosen once and shared by its bays."""

    def __init__(self, stretch: Frontage) -> None:
        rng = np.random.default_rng(stretch.seed)
        self.stretch = stretch
        self.storey = float(rng.uniform(2.9, 3.6))
        self.floors = max(1, int(stretch.height / self.storey))
        self.material = Material.BRICK if rng.random() < 0.3 else Material.PLASTER
        self.shop = rng.random() < 0.4
        self.balcony = rng.random() < 0.2
        self.trim = mix(stretch.color, (240, 238, 232), 0.6) if rng.random() < 0.7 else darker(stretch.color, 0.6)
        self.sign = SHOPS[int(rng.integers(len(SHOPS)))]
        self.pitched = stretch.height < 15 and rng.random() < 0.6
        self.lit = rng.random((40, 14)) < 0.3
        self.share = float(rng.uniform(0.4, 0.75))

    def bay(self, canvas: Canvas, z0: float, z1: float, index: int) -> None:
        """Draw one bay of the flank that faces the street."""
        s, brush = self.stretch, Brush(canvas, "building")
        top = s.height

        def put(
            a: float, b: float, low: float, high: float, color: Color, material: Material, glow: float = 0.0
        ) -> None:
            span = z1 - z0
            p, q = z0 + a * span, z0 + b * span
            brush.face(panel((p, s.x), (q, s.x), low, high), color, material, glow)

        put(0.0, 1.0, 0.0, top, s.color, self.material)
        if self.pitched:
            back = s.x + math.copysign(3.5, s.x)
            roof = [(z0, s.x, top), (z1, s.x, top), (z1, back, top + 3.0), (z0, back, top + 3.0)]
            brush.face(roof, (142, 74, 56) if self.shop else (84, 80, 80), Material.BRICK)
        else:
            put(0.0, 1.0, top - 0.35, top, self.trim, Material.PLASTER)
        if canvas.camera.pixels_per_metre(z1) < 2.5:
            return
        self._windows(canvas, put, index)

    def _windows(self, canvas: Canvas, put: Callable[..., None], index: int) -> None:
        margin = (1 - self.share) / 2
        fine = canvas.camera.pixels_per_metre(self.stretch.z0) > 8
        for floor in range(self.floors):
            low, lit = floor * self.storey, bool(self.lit[floor % 40, index % 14])
            if floor == 0 and self.shop:
                put(0.06, 0.94, 0.4, 2.5, WINDOW, Material.GLASS, 0.8)
                put(0.0, 1.0, 2.6, 3.2, self.sign, Material.PAINT, 0.35)
                continue
            if floor == 0 and index % 3 == 1:
                put(0.3, 0.7, 0.05, 2.3, darker(self.sign, 0.6), Material.PAINT)
                continue
            sill, head = low + 0.95, low + min(2.5, self.storey - 0.4)
            if fine:
                put(margin - 0.05, 1 - margin + 0.05, sill - 0.12, head + 0.1, self.trim, Material.PLASTER)
            put(margin, 1 - margin, sill, head, WINDOW, Material.GLASS, 0.75 if lit else 0.0)
            if fine:
                put(0.48, 0.52, sill, head, self.trim, Material.PLASTER)
            if self.balcony and floor and index % 2:
                put(margin - 0.1, 1.1 - margin, low, low + 0.9, darker(self.trim, 0.7), Material.PAINT)


def _front(canvas: Canvas, s: Frontage, x0: float, x1: float) -> None:
    """Draw the end that faces the camera, at depth z0."""
    if s.kind in ("fence", "hedge", "wall"):
        label = {"fence": "fence", "hedge": "vegetation", "wall": "wall"}[s.kind]
        corners = panel((s.z0, x0), (s.z0, x1), 0.0, s.height)
        Brush(canvas, label).face(corners, s.color, Material.LEAF if s.kind == "hedge" else Material.PLASTER)
        return
    rng = np.random.default_rng(s.seed + 7)
    brush = Brush(canvas, "building")
    corners = panel((s.z0, x0), (s.z0, x1), 0.0, s.height)
    brush.face(corners, s.color, Material.PLASTER)
    if rng.random() < 0.4 and s.height < 16:
        tip = (s.z0, (x0 + x1) / 2, s.height + (x1 - x0) * 0.3)
        brush.face([(s.z0, x0, s.height), (s.z0, x1, s.height), tip], darker(s.color, 0.9), Material.PLASTER)
    bare = rng.random() < 0.35 and s.kind == "building"
    if bare or canvas.camera.pixels_per_metre(s.z0) < 1.2:
        return
    columns, floors = max(2, int((x1 - x0) / 2.8)), max(1, int(s.height / 3.3))
    step, rise = (x1 - x0) / columns, s.height / floors
    for floor in range(floors):
        for column in range(columns):
            left, low = x0 + (column + 0.28) * step, floor * rise + rise * 0.3
            right, high = left + 0.46 * step, low + 0.48 * rise
            glow = 0.75 if rng.random() < 0.3 else 0.0
            brush.face(panel((s.z0, left), (s.z0, right), low, high), WINDOW, Material.GLASS, glow)


def _wall(canvas: Canvas, s: Frontage, z0: float, z1: float, index: int) -> None:
    brush = Brush(canvas, "wall")
    material = Material.BRICK if s.seed % 2 else Material.PLASTER
    brush.face(panel((z0, s.x), (z1, s.x), 0.0, s.height), s.color, material)
    brush.face(panel((z0, s.x), (z1, s.x), s.height - 0.14, s.height), mix(s.color, (220, 218, 210), 0.5))
    if canvas.camera.pixels_per_metre(z1) > 6:
        brush.face(
            panel((z0, s.x), (z0 + 0.3, s.x), 0.0, s.height),
            darker(s.color, 0.82),
        )


def _fence(canvas: Canvas, s: Frontage, z0: float, z1: float, index: int) -> None:
    """Draw slats and rails; gaps between them have the fence's label too, as in annotated data."""
    brush, camera = Brush(canvas, "fence"), canvas.camera
    middle = camera.project((s.x, s.height * 0.6, (z0 + z1) / 2))
    behind = canvas.under(middle)
    gap = mix(behind.color, s.color, 0.35)
    corners = panel((z0, s.x), (z1, s.x), 0.0, s.height)
    depth = (z0 + z1) / 2
    part = Part(TRAIN_ID["fence"], gap, 0, depth, behind.material, behind.shade)
    if behind.label == TRAIN_ID["sky"]:
        part = part._replace(material=Material.PAINT, shade=0.5)
    canvas.fill([camera.project(brush.to_street(*c)) for c in corners], part)
    scale = camera.pixels_per_metre(z1)
    slats = 0 if scale < 7 else (6 if scale < 14 else 12)
    for i in range(slats):
        a = z0 + (i + 0.25) * (z1 - z0) / slats
        b = a + 0.4 * (z1 - z0) / slats
        brush.face(panel((a, s.x), (b, s.x), 0.0, s.height), s.color)
    for low in (0.12, s.height * 0.5, s.height - 0.1):
        brush.face(panel((z0, s.x), (z1, s.x), low, low + 0.09), darker(s.color, 0.85))
    brush.limb((z0, s.x, 0.0), (z0, s.x, s.height + 0.1), 0.06, darker(s.color, 0.7), Material.PAINT)


def _hedge(canvas: Canvas, s: Frontage, z0: float, z1: float, index: int) -> None:
    rng = np.random.default_rng(s.seed + index)
    tops = [(float(z), s.x, s.height * float(rng.uniform(0.92, 1.08))) for z in np.linspace(z1, z0, 6)]
    brush = Brush(canvas, "vegetation")
    brush.face([(z0, s.x, 0.0), (z1, s.x, 0.0), *tops], s.color, Material.LEAF)
