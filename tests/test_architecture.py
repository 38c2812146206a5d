"""The walks of docs/architecture.md pass functions that there are, each on no higher floor than the one before."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

from tests.test_house import floor_of

PAGE = (Path(__file__).parents[1] / "docs" / "architecture.md").read_text()
WALKS = re.findall(r"\*\*(One [a-z]+[^*]*)\*\*.*?\n\n((?:\|[^\n]*\n)+)", PAGE, re.DOTALL)
SHORT = {"CBST.streams": "methods.cbst.CBST.streams"}


def names(table: str) -> list[str]:
    first = [row.split("|")[1] for row in table.splitlines()[2:]]
    return [SHORT.get(name, name) for cell in first for name in re.findall(r"`([\w.]+)`", cell)]


def resolve(name: str) -> tuple[str, Any]:
    """The module of a dotted name, and what lies behind the name."""
    parts = ["segadapt", *name.split(".")]
    for length in range(len(parts), 0, -1):
        module = ".".join(parts[:length])
        try:
            found: Any = importlib.import_module(module)
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            found = getattr(found, part)
        return module, found
    raise AssertionError(name)


def test_there_are_two_walks() -> None:
    assert [title for title, _ in WALKS] == ["One setting", "One target image"]
    assert all(len(names(table)) > 10 for _, table in WALKS)


@pytest.mark.parametrize("name", [name for _, table in WALKS for name in names(table)])
def test_what_a_walk_passes_exists(name: str) -> None:
    assert callable(resolve(name)[1])


def test_a_setting_visits_no_room_twice() -> None:
    rooms = [resolve(name)[0].split(".")[1] for name in names(WALKS[0][1])]
    visits = [room for before, room in zip(["", *rooms], rooms, strict=False) if room != before]
    assert floor_of("segadapt.cli") > floor_of("segadapt.api") > floor_of("segadapt.runs") > floor_of("segadapt.engine")
    # runs asks recipes and core.settings for one thing each, and comes back to itself.
    assert visits == ["cli", "api", "runs", "recipes", "runs", "core", "runs", "engine"]
