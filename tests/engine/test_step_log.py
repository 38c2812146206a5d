"""The log of training steps: means of losses and of what methods measure."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from segadapt.engine.record import Record
from segadapt.engine.step_log import Measured, StepLog


class Quiet:
    """No online labels."""

    def take(self) -> dict[str, Any]:
        return {}


class TwoProcesses:
    """Adds what another process has to the tensors of this one, in place."""

    def __init__(self, *others: Tensor) -> None:
        self.others = list(others)

    def sum(self, tensors: list[Tensor]) -> None:
        for tensor in tensors:
            tensor += self.others.pop(0)


def written(folder: Path, runtime: Any, *steps: dict[str, float]) -> dict[str, Any]:
    """Return the event that a log writes after some steps."""
    record = Record(folder, active=True, quiet=True)
    log = StepLog("adapt", runtime, record, Quiet(), folder)  # type: ignore[arg-type]
    for number, numbers in enumerate(steps):
        loss = Measured(number, ["a"], torch.tensor([float(number)]), ["x"])
        log.add(loss, {name: torch.tensor(value) for name, value in numbers.items()})
    log.write(0, 0.1, len(steps))
    record.close()
    event: dict[str, Any] = json.loads((folder / "log.jsonl").read_text().splitlines()[-1])
    return event


def test_means_over_the_steps_and_processes_that_have_a_number(tmp_path: Path) -> None:
    """A number that does not exist yet is no zero, and no NaN: that would not be JSON."""
    steps = [{"q": 0.2, "late": math.nan, "never": math.nan}, {"q": 0.4, "late": 3.0, "never": math.nan}]
    other = torch.tensor([[0.6 + 0.8, 5.0, 0.0], [2.0, 1.0, 0.0]])  # sums and counts of another process
    event = written(tmp_path, TwoProcesses(torch.zeros(2), other), *steps)
    assert event["losses"] == {"a": 0.5, "total": 0.5}
    assert set(event["measured"]) == {"q", "late"}
    assert event["measured"] == pytest.approx({"q": 0.5, "late": 4.0})


def test_a_method_that_measures_nothing_has_no_entry(tmp_path: Path) -> None:
    assert "measured" not in written(tmp_path, TwoProcesses(torch.zeros(1)), {})


def test_steps_may_have_different_terms(tmp_path: Path) -> None:
    """A method that begins with fewer terms: each term's mean is that of its own steps, the total that of all."""
    record = Record(tmp_path, active=True, quiet=True)
    log = StepLog("adapt", TwoProcesses(torch.zeros(3)), record, Quiet(), tmp_path)  # type: ignore[arg-type]
    log.add(Measured(0, ["a"], torch.tensor([1.0]), ["x"]), {})
    log.add(Measured(1, ["a", "b"], torch.tensor([3.0, 5.0]), ["y"]), {"q": torch.tensor(0.5)})
    log._runtime.others.append(torch.tensor([[0.0], [0.0]]))  # type: ignore[attr-defined]
    log.write(0, 0.1, 2)
    record.close()
    event = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert event["losses"] == {"a": 2.0, "b": 5.0, "total": 4.5}
    assert event["measured"] == {"q": 0.5}
