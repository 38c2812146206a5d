"""Camera and canvas of the toy renderer: project points of the street, and draw parts there.

Coordinates are in metres: x to the right of the camera, y up from the ground, z forward. The
canvas holds one *part number* per pixel; a table holds colour, label, instance, depth and material of
every part. So one polygon is one fill, and drawing far things first gives the right occlusion.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from segadapt.labels import CITYSCAPES

Color = tuple[float, float, float]
Point = tuple[float, float, float]
Pixel = tuple[float, float]

SUPERSAMPLE = 2
NEAR = 0.6
_SUBPIXEL_BITS = 4

TRAIN_ID = {name: i for i, name in enumerate(CITYSCAPES.names)}


class Material(IntEnum):
    """Kinds of surfaces that a look may treat differently."""

    SKY = 0
    PAINT = 1
    ASPHALT = 2
    PAVING = 3
    GRASS = 4
    LEAF = 5
    PLASTER = 6
    BRICK = 7
    GLASS = 8
    CLOTH = 9


class Part(NamedTuple):
    """The properties of a part number. ``shade`` is the cosine to the sun, ``glow`` 0..1 the light it emits."""

    label: int
    color: Color
    instance: int = 0
    depth: float = 1e4
    material: Material = Material.PAINT
    shade: float = 0.4
    glow: float = 0.0
    ground: bool = False


@dataclass(frozen=True)
class Camera:
    """Pinhole camera over a flat ground with upright verticals.

    Args:
        focal: focal length in pixels.
        height: metres above the ground.
        horizon: image row of the horizon.
        centre: image column of the vanishing point of the street.
        bend: the street's sideways offset in metres per square metre of depth.
    """

    focal: float
    height: float
    horizon: float
    centre: float
    bend: float = 0.0

    def project(self, point: Point) -> Pixel:
        """Project a street point (x, y, z) to (column, row); points behind the near plane are moved onto it."""
        x, y, z = point
        z = max(z, NEAR)
        scale = self.focal / z
        return self.centre + scale * (x + self.bend * z * z), self.horizon + scale * (self.height - y)

    def pixels_per_metre(self, z: float) -> float:
        """Return the image size of one metre at depth z."""
        return self.focal / max(z, NEAR)


@dataclass
class Canvas:
    """Part numbers [2H, 2W] and the table of parts; part 0 is the sky."""

    camera: Camera
    sun: Point
    height: int
    width: int
    ids: npt.NDArray[np.uint16] = field(init=False)
    parts: list[Part] = field(init=False)
    shadows: list[tuple[list[Pixel], float, bool]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ids = np.zeros((self.height * SUPERSAMPLE, self.width * SUPERSAMPLE), np.uint16)
        self.parts = [Part(TRAIN_ID["sky"], (150.0, 190.0, 230.0), material=Material.SKY, shade=1.0)]

    def fill(self, outline: Sequence[Pixel], part: Part) -> None:
        """Fill a closed outline in image coordinates."""
        columns = [u for u, _ in outline]
        rows = [v for _, v in outline]
        if max(columns) < 0 or min(columns) > self.width or max(rows) < 0 or min(rows) > self.height:
            return
        cv2.fillPoly(self.ids, [fixed_point(outline, SUPERSAMPLE)], self._number(part), 8, _SUBPIXEL_BITS)

    def stroke(self, line: Sequence[Pixel], thickness: float, part: Part, closed: bool = False) -> None:
        """Draw a line of ``thickness`` image pixels."""
        wide = max(1, round(thickness * SUPERSAMPLE))
        points = [fixed_point(line, SUPERSAMPLE)]
        cv2.polylines(self.ids, points, closed, self._number(part), wide, 8, _SUBPIXEL_BITS)

    def under(self, pixel: Pixel) -> Part:
        """Return the part drawn so far at a pixel, which shows through spokes and wire mesh."""
        column = min(max(int(pixel[0] * SUPERSAMPLE), 0), self.ids.shape[1] - 1)
        row = min(max(int(pixel[1] * SUPERSAMPLE), 0), self.ids.shape[0] - 1)
        return self.parts[int(self.ids[row, column])]

    def shadow(self, footprint: Sequence[tuple[float, float]], strength: float, cast: bool = False) -> None:
        """Darken a convex patch of ground given by its (x, z) corners; ``cast`` shadows need the sun."""
        self.shadows.append(([self.camera.project((x, 0.0, z)) for x, z in footprint], strength, cast))

    def _number(self, part: Part) -> int:
        self.parts.append(part)
        return len(self.parts) - 1


def fixed_point(outline: Sequence[Pixel], scale: float) -> npt.NDArray[np.int32]:
    """Convert pixel coordinates to the fixed-point integers of OpenCV's drawing calls."""
    factor = scale * (1 << _SUBPIXEL_BITS)
    # The limit keeps far corners of near walls inside 32 bits; they lie outside the image anyway.
    return np.clip(np.asarray(outline, np.float64) * factor, -2e8, 2e8).astype(np.int32)


def darker(color: Color, factor: float) -> Color:
    """Multiply a colour by a factor."""
    return color[0] * factor, color[1] * factor, color[2] * factor


def mix(a: Color, b: Color, weight: float) -> Color:
    """Blend ``a`` and ``b``; ``weight`` is the share of b."""
    return tuple(x + (y - x) * weight for x, y in zip(a, b, strict=True))  # type: ignore[return-value]


@dataclass(frozen=True)
class Brush:
    """Draws the parts of one object, given its class, instance number, place and heading.

    Local coordinates are (along, across, up) metres: ``along`` towards the object's front,
    ``across`` to its right. Yaw 0 faces away from the camera.
    """

    canvas: Canvas
    label: str
    instance: int = 0
    x: float = 0.0
    z: float = 0.0
    yaw: float = 0.0

    def mat(self, half_length: float, half_width: float, strength: float) -> None:
        """Draw the contact shadow on the ground under the object."""
        corners = (
            (-half_length, -half_width),
            (-half_length, half_width),
            (half_length, half_width),
            (half_length, -half_width),
        )
        points = [self.to_street(along, across, 0.0) for along, across in corners]
        self.canvas.shadow([(p[0], p[2]) for p in points], strength)

    def to_street(self, along: float, across: float, up: float) -> Point:
        """Convert local to street coordinates."""
        c, s = math.cos(self.yaw), math.sin(self.yaw)
        return self.x + along * s + across * c, up, self.z + along * c - across * s

    def face(
        self,
        corners: Sequence[Point],
        color: Color,
        material: Material = Material.PAINT,
        glow: float = 0.0,
        shade: float | None = None,
    ) -> None:
        """Draw a flat polygon given in local coordinates."""
        points = [self.to_street(*corner) for corner in corners]
        depth = sum(p[2] for p in points) / len(points)
        lit = shade if shade is not None else abs_cosine(points, self.canvas.sun)
        part = Part(TRAIN_ID[self.label], color, self.instance, max(depth, NEAR), material, lit, glow)
        self.canvas.fill([self.canvas.camera.project(p) for p in points], part)

    def limb(
        self, a: Point, b: Point, radius: float, color: Color, material: Material = Material.CLOTH, glow: float = 0.0
    ) -> None:
        """Draw a round bar between two local points."""
        camera = self.canvas.camera
        p, q = self.to_street(*a), self.to_street(*b)
        (u0, v0), (u1, v1) = camera.project(p), camera.project(q)
        r = max(radius * camera.pixels_per_metre((p[2] + q[2]) / 2), 0.3)
        length = math.hypot(u1 - u0, v1 - v0)
        du, dv = ((u1 - u0) / length, (v1 - v0) / length) if length > 1e-6 else (0.0, 1.0)
        outline = [
            (u0 - dv * r, v0 + du * r),
            (u0 - (du + dv * 0.6) * r * 0.8, v0 - (dv - du * 0.6) * r * 0.8),
            (u0 - (du - dv * 0.6) * r * 0.8, v0 - (dv + du * 0.6) * r * 0.8),
            (u0 + dv * r, v0 - du * r),
            (u1 + dv * r, v1 - du * r),
            (u1 + (du + dv * 0.6) * r * 0.8, v1 + (dv - du * 0.6) * r * 0.8),
            (u1 + (du - dv * 0.6) * r * 0.8, v1 + (dv + du * 0.6) * r * 0.8),
            (u1 - dv * r, v1 + du * r),
        ]
        depth = max((p[2] + q[2]) / 2, NEAR)
        self.canvas.fill(outline, Part(TRAIN_ID[self.label], color, self.instance, depth, material, 0.4, glow))

    def ball(self, centre: Point, radius: float, color: Color, glow: float = 0.0, tall: float = 1.0) -> None:
        """Draw a sphere (``tall`` stretches it upwards)."""
        camera = self.canvas.camera
        point = self.to_street(*centre)
        u, v = camera.project(point)
        r = max(radius * camera.pixels_per_metre(point[2]), 0.4)
        outline = [(u + r * c, v + r * s * tall) for c, s in CIRCLE]
        depth = max(point[2], NEAR)
        self.canvas.fill(outline, Part(TRAIN_ID[self.label], color, self.instance, depth, Material.CLOTH, 0.5, glow))


def panel(a: tuple[float, float], b: tuple[float, float], low: float, high: float) -> list[Point]:
    """Return the corners of an upright rectangle over the ground line from ``a`` to ``b``, both (along, across)."""
    return [(*a, low), (*b, low), (*b, high), (*a, high)]


CIRCLE = [(math.cos(2 * math.pi * i / 12), math.sin(2 * math.pi * i / 12)) for i in range(12)]


def abs_cosine(points: Sequence[Point], sun: Point) -> float:
    """Return the cosine (0..1) between the sun and the normal of a face seen by the camera at the origin."""
    (ax, ay, az), (bx, by, bz), (cx, cy, cz) = points[0], points[1], points[2]
    ux, uy, uz, vx, vy, vz = bx - ax, by - ay, bz - az, cx - ax, cy - ay, cz - az
    nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
    size = math.sqrt(nx * nx + ny * ny + nz * nz) or 1.0
    if nx * ax + ny * (ay - 1.5) + nz * az > 0:
        size = -size
    return max(0.0, (nx * sun[0] + ny * sun[1] + nz * sun[2]) / size)
