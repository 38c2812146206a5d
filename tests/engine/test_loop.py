"""What the loop makes of a stage's settings in one step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from segadapt.data.dataset import Dataset
from segadapt.engine.bundle import DataBundle
from segadapt.engine.loop import Loop
from segadapt.engine.record import Record
from segadapt.engine.runtime import Runtime
from tests.methods.small import SPACE, Pointwise, make, samples


def loop(folder: Path, method: str, **settings: Any) -> Loop:
    none = Dataset("none", SPACE, (), lambda _: pytest.fail("opened"), lambda _: pytest.fail("opened"))
    data = DataBundle(source=none, target=none, cache_folder=folder)
    record = Record(folder / "record", False, quiet=True)
    made = make(method, Pointwise(), **settings)
    return Loop(made, data, runtime=Runtime("cpu"), record=record, folder=folder, seed=0)


@pytest.mark.parametrize("limit", [None, 1e-3])
def test_gradients_are_clipped_to_the_norm_that_is_asked_for(tmp_path: Path, limit: float | None) -> None:
    plain = {"lr": 1.0, "head_factor": 1.0, "momentum": 0.0, "weight_decay": 0.0}
    trained = loop(tmp_path, "source_only", gradient_clip=limit, optimiser=plain)
    before = torch.cat([p.detach().flatten() for p in trained.method.parameters()])
    trained.step(0, 0, {"labelled": samples(0, 2, 12, 16, 0, True)}, trained.optimisers(0))
    moved = (torch.cat([p.detach().flatten() for p in trained.method.parameters()]) - before).norm().item()
    assert moved == pytest.approx(limit, rel=1e-3) if limit else moved > 0.05


def test_the_learning_rate_may_decay_from_round_to_round(tmp_path: Path) -> None:
    trained = loop(tmp_path, "cbst", lr_factor=0.5, optimiser={"lr": 0.8, "head_factor": 1.0})
    rates = [{g["base_lr"] for g in trained.optimisers(round_index)["model"].param_groups} for round_index in range(3)]
    assert rates == [{0.8}, {0.4}, {0.2}]
