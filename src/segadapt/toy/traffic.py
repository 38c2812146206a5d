"""Put vehicles, two-wheelers and people on a laid-out street."""

from __future__ import annotations

import math

import numpy as np

from segadapt.toy.canvas import Color
from segadapt.toy.scene import Placed, Scene, between, chance, draw_seed, pick_color

Rng = np.random.Generator

CAR_COLORS: dict[str, tuple[Color, ...]] = {
    "game": (
        (220, 40, 40),
        (40, 90, 210),
        (240, 200, 40),
        (245, 245, 245),
        (30, 30, 34),
        (50, 160, 90),
        (240, 120, 30),
    ),
    "euro": (
        (34, 34, 38),
        (120, 124, 128),
        (178, 180, 182),
        (206, 206, 204),
        (44, 56, 84),
        (110, 34, 34),
        (66, 72, 70),
    ),
}
TRUCK_COLORS: tuple[Color, ...] = ((214, 214, 208), (190, 150, 60), (70, 110, 160), (150, 60, 50), (90, 130, 90))
BUS_COLORS: tuple[Color, ...] = ((222, 178, 50), (196, 50, 44), (60, 120, 180), (226, 226, 220))
TRAM_COLORS: tuple[Color, ...] = ((200, 40, 40), (230, 210, 60), (70, 150, 90), (60, 90, 170))
CLOTHES: tuple[Color, ...] = (
    (44, 46, 56), (92, 84, 78), (150, 44, 40), (60, 84, 130), (186, 180, 170), (104, 110, 70), (200, 150, 70),
    (120, 90, 130),
)  # fmt: skip

VEHICLES = {  # kind: (width, height, length) ranges in metres
    "hatchback": ((1.65, 1.8), (1.42, 1.55), (3.7, 4.3)),
    "sedan": ((1.75, 1.9), (1.4, 1.5), (4.4, 4.9)),
    "suv": ((1.8, 2.0), (1.65, 1.85), (4.4, 4.9)),
    "van": ((1.85, 2.0), (1.9, 2.2), (4.6, 5.2)),
    "truck": ((2.3, 2.5), (3.0, 3.8), (7.0, 9.5)),
    "bus": ((2.5, 2.55), (3.0, 3.3), (10.0, 12.0)),
    "tram": ((2.4, 2.6), (3.4, 3.7), (9.0, 10.0)),
    "motorcycle": ((0.7, 0.8), (1.1, 1.25), (2.0, 2.3)),
    "bicycle": ((0.5, 0.6), (1.0, 1.1), (1.65, 1.85)),
}


def add_vehicles(scene: Scene, rng: Rng) -> None:
    """Add everything on wheels, big and rare vehicles first so that they find room."""
    _large_vehicles(scene, rng)
    _two_wheelers(scene, rng)
    _traffic(scene, rng)
    _parked(scene, rng)


def _vehicle(scene: Scene, rng: Rng, kind: str, x: float, z: float, yaw: float) -> Placed | None:
    """Place a vehicle if its ground is free, else return None; ``z`` is the near end of its footprint."""
    width, height, length = (between(rng, limits) for limits in VEHICLES[kind])
    across = abs(math.sin(yaw)) > 0.7
    half_x, half_z = (length / 2, width / 2) if across else (width / 2, length / 2)
    if not scene.claim(x, z + half_z, half_x + 0.15, half_z + 0.4):
        return None
    colors = {"truck": TRUCK_COLORS, "bus": BUS_COLORS, "tram": TRAM_COLORS}.get(kind, CAR_COLORS[scene.town.name])
    heading = yaw + math.atan(2 * scene.camera.bend * z) + (0.0 if across else float(rng.normal(0, 0.02)))
    color = pick_color(rng, colors, 8.0)
    number = scene.next_instance()
    placed = Placed(kind, x, z + half_z, width, height, length, heading, color, draw_seed(rng), number)
    scene.placed.append(placed)
    return placed


def _lane_x(scene: Scene, lane: int) -> float:
    """Return the centre x of a lane counted from the middle of the road; negative lanes are oncoming."""
    offset = scene.median / 2 + (abs(lane) - 0.5) * scene.lane
    return scene.middle + math.copysign(offset, lane)


def _lanes(scene: Scene) -> list[int]:
    return [s * i for i in range(1, scene.lanes + 1) for s in (-1, 1)]


def _own_lane_clear(scene: Scene, lane: int, z: float) -> float:
    """Return ``z``, moved away if needed, so that the camera's own lane is free for a few metres."""
    return max(z, 11.0) if abs(_lane_x(scene, lane)) < 2.4 else z


def _large_vehicles(scene: Scene, rng: Rng) -> None:
    town = scene.town
    if chance(rng, town.train):
        _tram(scene, rng)
    for kind, probability in (("bus", town.bus), ("truck", town.truck)):
        if not chance(rng, probability):
            continue
        for _ in range(6):
            lane = int(rng.choice(_lanes(scene)))
            side = int(np.sign(lane))
            z = between(rng, (7.0, 38.0))
            if scene.parking[0 if side < 0 else 1] and chance(rng, 0.25) and not scene.in_junction(z, 10.0):
                x = scene.side_x(side, "kerb") - side * 1.15
            else:
                x, z = _lane_x(scene, lane), _own_lane_clear(scene, lane, z)
            if _vehicle(scene, rng, kind, x, z, 0.0 if side > 0 else math.pi):
                break


def _tram(scene: Scene, rng: Rng) -> None:
    lane = int(rng.choice([-1, -1, 1]))
    x = _lane_x(scene, lane)
    scene.rails = x
    z = _own_lane_clear(scene, lane, between(rng, (7.0, 32.0)))
    yaw = 0.0 if lane > 0 else math.pi
    cars = int(rng.integers(2, 4))
    width, height, length = (between(rng, limits) for limits in VEHICLES["tram"])
    if not scene.claim(x, z + cars * length / 2, width / 2 + 0.2, cars * length / 2 + 0.5):
        return
    color, number, seed = pick_color(rng, TRAM_COLORS), scene.next_instance(), draw_seed(rng)
    for i in range(cars):
        placed = Placed("tram", x, z + (i + 0.5) * length, width, height, length, yaw, color, seed, number)
        scene.placed.append(placed)


def _car_kind(rng: Rng) -> str:
    return str(rng.choice(["hatchback", "sedan", "suv", "van"], p=[0.35, 0.3, 0.23, 0.12]))


def _traffic(scene: Scene, rng: Rng) -> None:
    for lane in _lanes(scene):
        z = _own_lane_clear(scene, lane, between(rng, (6.0, 20.0)))
        while z < 130:
            if chance(rng, scene.town.traffic):
                x = _lane_x(scene, lane) + float(rng.normal(0, 0.15))
                _vehicle(scene, rng, _car_kind(rng), x, z, 0.0 if lane > 0 else math.pi)
            z += 6.0 + float(rng.gamma(2.0, 5.0))
    if scene.junction and chance(rng, 0.45):
        z0, z1 = scene.junction
        right = chance(rng, 0.5)
        x = between(rng, (-12.0, 12.0))
        z = z0 + (z1 - z0) * (0.15 if right else 0.6)
        _vehicle(scene, rng, _car_kind(rng), x, z, math.pi / 2 if right else -math.pi / 2)


def _parked(scene: Scene, rng: Rng) -> None:
    for index, sign in enumerate((-1, 1)):
        if not scene.parking[index]:
            continue
        z = between(rng, (4.0, 12.0))
        x = scene.side_x(sign, "kerb") - sign * 1.1
        while z < 110:
            if not scene.in_junction(z, 4.5) and chance(rng, scene.town.parked):
                facing = 0.0 if sign > 0 or chance(rng, 0.2) else math.pi
                _vehicle(scene, rng, _car_kind(rng), x + float(rng.normal(0, 0.06)), z, facing)
            z += between(rng, (5.2, 6.2))


# --- two-wheelers and people ---------------------------------------------------------------------


def _two_wheelers(scene: Scene, rng: Rng) -> None:
    town = scene.town
    for _ in range(int(rng.poisson(town.riders))):
        _ridden(scene, rng, "bicycle" if chance(rng, 0.68) else "motorcycle")
    for _ in range(int(rng.poisson(town.motorcycles))):
        sign = 1 if chance(rng, 0.6) else -1
        on_walk = chance(rng, 0.4) or not scene.parking[0 if sign < 0 else 1]
        x = scene.side_x(sign, "verge") + sign * 0.5 if on_walk else scene.side_x(sign, "kerb") - sign * 1.1
        yaw = float(rng.normal(0, 0.3)) + (0.0 if chance(rng, 0.5) else 1.0)
        _vehicle(scene, rng, "motorcycle", x, between(rng, (6.0, 26.0)), yaw)
    for _ in range(int(rng.poisson(town.bicycles))):
        sign = 1 if chance(rng, 0.5) else -1
        walk, verge = scene.side_x(sign, "walk"), scene.side_x(sign, "verge")
        x = walk - sign * 0.5 if chance(rng, 0.6) else verge + sign * 0.4
        z, yaw = between(rng, (6.0, 28.0)), float(rng.uniform(0, 2 * math.pi))
        for i in range(int(rng.integers(1, 4))):
            _vehicle(scene, rng, "bicycle", x, z + 0.8 * i, yaw + float(rng.normal(0, 0.1)))


def _ridden(scene: Scene, rng: Rng, kind: str) -> None:
    """Add a bicycle or motorcycle with its rider; the rider has a separate instance number."""
    for _ in range(5):
        side = 1 if chance(rng, 0.6) else -1
        z = between(rng, (6.0, 26.0))
        if kind == "bicycle":
            x = scene.side_x(side, "kerb") - side * (0.6 + 2.2 * scene.parking[0 if side < 0 else 1])
        else:
            x = _lane_x(scene, side * int(rng.integers(1, scene.lanes + 1))) + float(rng.normal(0, 0.5))
            z = max(z, 8.0)
        if scene.junction and chance(rng, 0.15):
            z = between(rng, scene.junction)
            yaw = math.pi / 2 * (1 if chance(rng, 0.5) else -1)
        else:
            yaw = (0.0 if side > 0 else math.pi) + float(rng.normal(0, 0.15))
        mount = _vehicle(scene, rng, kind, x, z, yaw)
        if mount:
            number = scene.next_instance()
            rider = Placed(
                f"{kind} rider",
                mount.x,
                mount.z - 0.02,
                0.5,
                1.75,
                1.0,
                mount.yaw,
                pick_color(rng, CLOTHES),
                mount.seed,
                number,
            )
            scene.placed.append(rider)
            return


def add_people(scene: Scene, rng: Rng) -> None:
    """Add pedestrians on the sidewalks and on the crossing."""
    for _ in range(int(rng.poisson(scene.town.people))):
        sign = 1 if chance(rng, 0.5) else -1
        walk, verge = scene.side_x(sign, "walk"), scene.side_x(sign, "verge")
        x, z = sign * between(rng, (abs(verge) + 0.3, abs(walk) - 0.3)), 5.0 + float(rng.gamma(1.6, 11.0))
        yaw = float(rng.choice([0.0, math.pi])) + float(rng.normal(0, 0.3))
        if scene.zebra and chance(rng, 0.15):
            z = scene.zebra + between(rng, (0.3, 2.7))
            x, yaw = float(rng.uniform(scene.side_x(-1, "kerb"), scene.side_x(1, "kerb"))), math.pi / 2
        for i in range(1 + int(rng.random() < 0.35)):
            spot = x + 0.65 * i
            if z < 90 and scene.claim(spot, z, 0.28, 0.28):
                tall = between(rng, (1.1, 1.4)) if chance(rng, 0.1) else between(rng, (1.55, 1.9))
                color, number = pick_color(rng, CLOTHES, 14.0), scene.next_instance()
                scene.placed.append(Placed("person", spot, z, 0.5, tall, 0.4, yaw, color, draw_seed(rng), number))
