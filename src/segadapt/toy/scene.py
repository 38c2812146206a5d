"""Layout of a toy street: camera, cross-section of the street, frontage, and the places of objects.

Two kinds of town differ in their statistics, as GTA5 and Cityscapes do: the ``game`` town has wide
roads, gaps, hills and palms, few people and a camera at any height; the ``euro`` town is narrow,
with parked cars, people, bicycles, trees and signs, seen from a car.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from segadapt.toy.canvas import Camera, Color, Point

Range = tuple[float, float]
FAR = 170.0


@dataclass(frozen=True)
class Town:
    """Layout statistics of a domain. Pairs are uniform ranges in metres; other numbers are probabilities or counts.

    The camera's ranges have other units: ``focal`` and ``centre`` are shares of the image's width, ``horizon``
    a share of its height.
    """

    name: str
    focal: Range
    camera_height: Range
    horizon: Range
    centre: Range
    bend: float
    lane: Range
    lanes: tuple[int, ...]
    sidewalk: Range
    parking: float
    verge: float
    median: float
    junction: float
    setback: Range
    frontage: Mapping[str, float]
    building_height: Range
    facades: tuple[Color, ...]
    traffic: float
    parked: float
    people: float
    bicycles: float
    riders: float
    motorcycles: float
    truck: float
    bus: float
    train: float
    tree_gap: Range
    pole_gap: Range
    signs: float
    palm: float
    hills: float


GAME = Town(
    name="game", focal=(0.75, 1.1), camera_height=(1.2, 3.0), horizon=(0.36, 0.5), centre=(0.38, 0.62), bend=6e-4,
    lane=(3.5, 4.0), lanes=(1, 2, 2), sidewalk=(2.0, 4.5), parking=0.3, verge=0.35, median=0.35, junction=0.55,
    setback=(0.0, 5.0),
    frontage={"building": 0.46, "wall": 0.15, "fence": 0.15, "hedge": 0.06, "park": 0.18},
    building_height=(5.0, 34.0),
    facades=((228, 196, 150), (236, 160, 128), (242, 232, 214), (156, 200, 210), (232, 208, 130), (204, 128, 104),
             (190, 190, 200)),
    traffic=0.55, parked=0.4, people=4.0, bicycles=0.8, riders=0.75, motorcycles=0.6, truck=0.5, bus=0.38, train=0.3,
    tree_gap=(12.0, 34.0), pole_gap=(20.0, 40.0), signs=3.0, palm=0.6, hills=0.6,
)  # fmt: skip

EURO = Town(
    name="euro", focal=(1.05, 1.15), camera_height=(1.3, 1.55), horizon=(0.38, 0.44), centre=(0.46, 0.54), bend=3e-4,
    lane=(2.9, 3.4), lanes=(1, 1, 1, 2), sidewalk=(2.5, 5.0), parking=0.65, verge=0.35, median=0.08, junction=0.6,
    setback=(0.0, 1.5),
    frontage={"building": 0.56, "wall": 0.13, "fence": 0.16, "hedge": 0.07, "park": 0.08},
    building_height=(9.0, 20.0),
    facades=((176, 166, 150), (196, 184, 158), (146, 104, 88), (152, 152, 150), (204, 194, 176), (126, 116, 108),
             (182, 156, 126), (160, 120, 100)),
    traffic=0.5, parked=0.75, people=9.0, bicycles=2.6, riders=1.1, motorcycles=0.6, truck=0.42, bus=0.36, train=0.32,
    tree_gap=(8.0, 24.0), pole_gap=(16.0, 32.0), signs=5.0, palm=0.0, hills=0.1,
)  # fmt: skip


@dataclass(frozen=True)
class Placed:
    """An object that stands on the ground with the centre of its footprint at (x, z).

    ``yaw`` 0 faces away from the camera; ``seed`` decides the details; ``key`` is the depth by
    which the painter sorts.
    """

    kind: str
    x: float
    z: float
    width: float
    height: float
    length: float
    yaw: float
    color: Color
    seed: int
    instance: int = 0

    @property
    def key(self) -> float:
        """Depth by which the painter sorts, in metres."""
        return self.z


@dataclass(frozen=True)
class Frontage:
    """A stretch of one street side: a row at signed ``x`` from depth z0 to z1, ``depth`` metres deep."""

    kind: str
    x: float
    z0: float
    z1: float
    height: float
    depth: float
    color: Color
    seed: int


@dataclass(frozen=True)
class Side:
    """Cross-section of one side, as signed distances (metres) from the camera axis, from the kerb outwards."""

    sign: int
    kerb: float
    verge: float
    walk: float
    line: float


@dataclass
class Scene:
    """The whole street to draw, in metres; ``boxes`` are rectangles of ground that are taken."""

    town: Town
    camera: Camera
    sun: Point
    sides: tuple[Side, Side]
    lane: float
    lanes: int
    middle: float
    median: float
    parking: tuple[bool, bool]
    junction: tuple[float, float] | None
    zebra: float | None
    rails: float | None
    frontage: list[Frontage] = field(default_factory=list)
    placed: list[Placed] = field(default_factory=list)
    boxes: list[tuple[float, float, float, float]] = field(default_factory=list)
    instances: int = 0

    def claim(self, x: float, z: float, half_width: float, half_length: float) -> bool:
        """Reserve a rectangle of ground; return False if it touches a reserved one."""
        for bx, bz, bw, bl in self.boxes:
            if abs(x - bx) < half_width + bw and abs(z - bz) < half_length + bl:
                return False
        self.boxes.append((x, z, half_width, half_length))
        return True

    def in_junction(self, z: float, length: float) -> bool:
        """Return whether an object from z to z + length would stand in or at the crossing street."""
        return self.junction is not None and z + length > self.junction[0] - 3 and z < self.junction[1] + 3

    def next_instance(self) -> int:
        """Return a new instance number, counted from 1."""
        self.instances += 1
        return self.instances

    def side_x(self, sign: int, name: str) -> float:
        """Return the signed x of a line of the cross-section on one side."""
        return sign * float(getattr(self.sides[0 if sign < 0 else 1], name))


def between(rng: np.random.Generator, limits: Range) -> float:
    """Draw a uniform number between limits."""
    return float(rng.uniform(*limits))


def chance(rng: np.random.Generator, probability: float) -> bool:
    """Return True with the given probability."""
    return bool(rng.random() < probability)


def draw_seed(rng: np.random.Generator) -> int:
    """Draw a seed for the details of one object."""
    return int(rng.integers(1 << 31))


def pick_color(rng: np.random.Generator, colors: tuple[Color, ...], spread: float = 8.0) -> Color:
    """Draw one of ``colors`` and change it slightly."""
    r, g, b = np.clip(np.asarray(colors[int(rng.integers(len(colors)))]) + rng.normal(0, spread, 3), 8, 250)
    return float(r), float(g), float(b)


def lay_out(rng: np.random.Generator, town: Town, height: int, width: int) -> Scene:
    """Draw at random the street itself: camera, cross-section, junction and light; :mod:`.populate` adds objects."""
    camera = Camera(
        focal=between(rng, town.focal) * width,
        height=between(rng, town.camera_height),
        horizon=between(rng, town.horizon) * height,
        centre=between(rng, town.centre) * width,
        bend=float(rng.normal(0.0, town.bend)) if chance(rng, 0.5) else 0.0,
    )
    lane = between(rng, town.lane)
    lanes = int(rng.choice(town.lanes))
    median = between(rng, (1.5, 4.0)) if chance(rng, town.median) else 0.0
    parking = (chance(rng, town.parking), chance(rng, town.parking))
    # The camera drives in the middle of the rightmost or the inner lane of its half of the road.
    own = lane * (0.5 if lanes == 1 or chance(rng, 0.5) else 1.5) + float(rng.normal(0.0, 0.15))
    middle = -own - median / 2
    sides = (
        _side(rng, town, -1, -(middle - median / 2 - lanes * lane) + 2.2 * parking[0]),
        _side(rng, town, 1, middle + median / 2 + lanes * lane + 2.2 * parking[1]),
    )
    start = between(rng, (14.0, 60.0))
    junction = (start, start + between(rng, (7.0, 13.0))) if chance(rng, town.junction) else None
    zebra = (
        junction[0] - 4.0 if junction and chance(rng, 0.6) else (between(rng, (9, 30)) if chance(rng, 0.2) else None)
    )
    azimuth = float(rng.uniform(0, 2 * math.pi))
    elevation = float(rng.uniform(0.5, 1.1))
    sun = (math.cos(elevation) * math.sin(azimuth), math.sin(elevation), math.cos(elevation) * math.cos(azimuth))
    return Scene(town, camera, sun, sides, lane, lanes, middle, median, parking, junction, zebra, rails=None)


def _side(rng: np.random.Generator, town: Town, sign: int, kerb: float) -> Side:
    verge = kerb + (between(rng, (1.0, 2.5)) if chance(rng, town.verge) else 0.0)
    walk = verge + between(rng, town.sidewalk)
    return Side(sign, kerb, verge, walk, walk + between(rng, town.setback))
