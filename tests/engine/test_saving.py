"""Checkpoints by minutes: when they are written, and that they change no number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from segadapt.core.files import read_json
from segadapt.engine import stopping
from segadapt.engine.loop import Loop
from segadapt.engine.stopping import SaveRequest
from segadapt.runs.config import build_config
from segadapt.runs.run import Run, resumed
from tests.runs.test_run import Crash, assert_same, weights
from tests.tiny import raw_config


class Clock:
    """A clock that each training step moves by two minutes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.steps, self.stop_at = 0.0, 0, 1000
        real = Loop.step

        def step(loop: Loop, *given: Any) -> Any:
            self.now += 120
            self.steps += 1
            if self.steps == self.stop_at:
                raise Crash
            return real(loop, *given)

        monkeypatch.setattr(Loop, "step", step)
        monkeypatch.setattr(stopping.time, "monotonic", lambda: self.now)


def test_slow_steps_are_saved_and_resume_to_the_same_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = raw_config(tmp_path, "source_only")
    raw["stages"]["source"] |= {"checkpoint_every": 500, "checkpoint_minutes": None}
    Run.open(build_config(raw, "tiny"), tmp_path / "whole", quiet=True).execute()
    raw["stages"]["source"]["checkpoint_minutes"] = 3
    clock = Clock(monkeypatch)
    clock.stop_at = 6
    run = Run.open(build_config(raw, "tiny"), tmp_path / "run", quiet=True)
    with pytest.raises(Crash):
        run.execute()
    kept = read_json(tmp_path / "run/stages/source/checkpoints/checkpoints.json") or {}
    assert [entry["position"] for entry in kept["checkpoints"]] == [2, 4]
    resumed(tmp_path / "run", quiet=True).execute()
    assert clock.steps == 6 + 2  # steps 5 and 6 alone
    assert_same(weights(tmp_path / "whole", "source"), weights(tmp_path / "run", "source"))


def test_processes_save_after_the_same_step_by_the_clock_of_the_main_one(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(stopping.time, "monotonic", lambda: now[0])
    both = [SaveRequest(2, rank == 0, 1.0) for rank in range(2)]

    def decided() -> list[bool]:
        total = sum((save.wish(torch.device("cpu")) for save in both), torch.zeros(()))
        for save in both:
            save.heard(total)
        return [save.decided() for save in both]

    assert decided() == [False, False]
    now[0] = 61
    assert decided() == [True, True]
    both[0].saved()
    both[1].saved()
    assert decided() == [False, False]
    assert not SaveRequest(1, True, None).decided()
