"""One point from its beginning to its verdict."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from segadapt.bench.faults import between, interrupting
from segadapt.bench.faults.drawing import Point
from segadapt.bench.faults.judging import FAILURES, Case, Outcome
from segadapt.bench.faults.references import Workshop


def judge(point: Point, shop: Workshop) -> Outcome:
    """Do a point in a folder of its own, which is removed unless something is wrong."""
    place = shop.folder / "points" / f"{point.number:05d}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    processes = 2 if point.kind == "ranks" else 1
    case = Case(point, shop, place, shop.reference(point.method, processes), point.generator)
    outcome = JUDGES[point.kind](case)
    if outcome.verdict not in FAILURES:
        shutil.rmtree(place, ignore_errors=True)
    return outcome


JUDGES: Mapping[str, Callable[[Case], Outcome]] = {
    "kill": interrupting.kill,
    "stop": interrupting.stop,
    "power": interrupting.power,
    "disk": interrupting.disk,
    "together": interrupting.together,
    "damage": between.damage,
    "hostile": between.hostile,
    "ranks": interrupting.ranks,
}


def described(point: Point, outcome: Outcome) -> dict[str, Any]:
    """Return a point with its outcome as plain JSON values."""
    return {"number": point.number, "kind": point.kind, "method": point.method, **asdict(outcome)}
