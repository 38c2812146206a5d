"""Undisturbed runs, one per method and number of processes, that every disturbed one is compared with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segadapt.bench.faults.forked import Command, Ended, Entry, port, ranks, start
from segadapt.bench.faults.planted import Planted, folders
from segadapt.bench.faults.reading import numbers
from segadapt.bench.faults.world import recipe, write_recipe, write_world
from segadapt.core.files import read_json, write_json
from segadapt.errors import RunError


@dataclass(frozen=True)
class Reference:
    """An undisturbed run.

    Attributes:
        recipe: its recipe file.
        out: its folder.
        moments: everything that its first process did, in order.
        numbers: what came out, see :func:`segadapt.bench.faults.reading.numbers`.
        lengths: (steps of a round, rounds) of each stage.
        steps: optimiser steps of all networks in all.
    """

    recipe: Path
    out: Path
    moments: Sequence[Mapping[str, Any]]
    numbers: Mapping[str, Any]
    lengths: Mapping[str, tuple[int, int]]
    steps: int


@dataclass(frozen=True)
class Workshop:
    """The folder in which the bench works, and the command that it judges.

    Attributes:
        entry: the command.
        folder: holds the world, the references and the points at work.
    """

    entry: Entry
    folder: Path

    @property
    def world(self) -> Path:
        """Folder of the data."""
        return self.folder / "world"

    def prepare(self) -> None:
        """Write the data, once."""
        if not (self.world / "classes.txt").is_file():
            write_world(self.world)

    def planted(self, out: Path, at: int = -1, act: Any = None, world: Path | None = None) -> Planted:
        """Return what counts the moments of a run in ``out``."""
        return Planted(folders(out.resolve(), (world or self.world).resolve()), at, act)

    def start(
        self,
        arguments: Sequence[object],
        place: Path,
        planted: Planted,
        environment: Mapping[str, str] | None = None,
        trace: bool = False,
    ) -> Command:
        """Start a command; see :func:`segadapt.bench.faults.forked.start`."""
        return start(self.entry, arguments, place, planted, environment, trace)

    def run(self, arguments: Sequence[object], place: Path, planted: Planted, trace: bool = False) -> Ended:
        """Run a command to its end."""
        return self.start(arguments, place, planted, trace=trace).wait()

    def start_ranks(
        self, arguments: Sequence[object], place: Path, planted: Sequence[Planted], trace: bool = False
    ) -> list[Command]:
        """Start one process per entry of ``planted``, as ``torchrun`` would."""
        meeting = {"MASTER_PORT": port()}
        return [
            self.start(arguments, place / f"rank{rank}", one, {**ranks(len(planted), rank), **meeting}, trace)
            for rank, one in enumerate(planted)
        ]

    def reference(self, method: str, processes: int = 1) -> Reference:
        """Return the undisturbed run of a method; made where it is missing.

        Raises:
            RunError: it does not work.
        """
        place = self.folder / "references" / f"{method}-{processes}"
        out, file, kept = place / "run", place / "recipe.yaml", place / "reference.json"
        settings = recipe(self.world, method)
        held = read_json(kept)
        if held is None:
            write_recipe(file, settings)
            arguments = ["adapt", file, "--out", out, "-q"]
            if processes == 1:
                ended = self.run(arguments, place, self.planted(out), trace=True)
            else:
                commands = self.start_ranks(arguments, place, [self.planted(out) for _ in range(processes)], trace=True)
                ended, *_ = [command.wait() for command in commands]
            if ended.code:
                raise RunError(f"the undisturbed run of '{method}' failed: {ended.line}")
            held = {"moments": list(ended.moments), "numbers": numbers(out), "steps": ended.steps}
            held = json.loads(json.dumps(held))
            write_json(kept, held)
        lengths = {name: (int(s["steps"]), int(s.get("rounds", 1))) for name, s in settings["stages"].items()}
        return Reference(file, out, held["moments"], held["numbers"], lengths, held["steps"])
