"""The models of studies are found, grouped by their source model, and measured once."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from segadapt.bench.criteria import groups_of, measure_criteria
from segadapt.core.files import read_json, write_json
from segadapt.errors import RequestError
from segadapt.labels import LabelSpace, distinct_colors
from segadapt.models.build import build_segmenter
from segadapt.models.store import save_model
from tests.tiny import config

SPACE = LabelSpace("source", ("ground", "box", "disc"), distinct_colors(3))


def run(folder: Path, role: str, initial: str, miou: float, seed: int) -> Path:
    """Write a run with one stage, a network with random weights; return its model file."""
    held = config(folder.parents[2] / "data").model_dump(mode="json")
    stage = {**held["stages"][0], "role": role, "initial": initial}
    write_json(folder / "config.json", {"config": {**held, "stages": [stage]}, "roots": {}})
    row = {"stage": "source", "role": role, "scores": {"miou": miou}}
    write_json(folder / "results.json", {"seed": 0, "rows": [row]})
    torch.manual_seed(seed)
    file = folder / "stages" / "source" / "model.safetensors"
    save_model(file, build_segmenter("timm:resnet10t", 3, weights=None, width=16), SPACE, {})
    return file


@pytest.fixture
def study(tmp_path: Path) -> Path:
    out = tmp_path / "study"
    source = run(out / "task" / "source_only" / "seed0", "source", "previous", 30, 0)
    run(out / "task" / "mic" / "seed0", "adapted", str(source), 35, 1)
    run(out / "task" / "oracle" / "seed0", "oracle", str(source), 60, 2)
    run(out / "task" / "lost" / "seed0", "adapted", "/nowhere/model.safetensors", 35, 3)
    shutil.copytree(out / "task" / "mic", out / "task" / "copy")
    return out


def test_models_are_measured_once(study: Path, tmp_path: Path) -> None:
    [((task, _), members)] = groups_of([study]).items()
    assert (task, [member.role for member in members]) == ("task", ["source", "adapted"])
    said: list[str] = []
    found = measure_criteria([study], tmp_path / "criteria.json", say=said.append)
    assert [(m["role"], m["miou"]) for m in found] == [("source", 30), ("adapted", 35)]
    assert all(isinstance(m["criteria"]["recoloured"], float) for m in found)
    assert said == ["task, seed 0: 2 models"]
    held: Any = read_json(tmp_path / "criteria.json")
    assert held["models"] == found
    assert held["machine"]
    assert measure_criteria([study], tmp_path / "criteria.json", say=said.append) == found
    assert len(said) == 1


def test_folders_without_runs(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"^no finished run with a source model below"):
        measure_criteria([tmp_path], tmp_path / "criteria.json")
