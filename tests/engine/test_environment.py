"""Passes over the data: damaged files are left out where a run allows that; what streams hold can be sent away."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from segadapt.data.dataset import DamagedFile
from segadapt.data.loader import Feeder
from segadapt.engine.environment import RoundEnvironment
from segadapt.engine.record import Record
from segadapt.engine.runtime import Runtime
from segadapt.errors import RequestError, RunError
from segadapt.methods.registry import method_info
from segadapt.models.build import build_segmenter
from segadapt.runs.config import RunConfig, build_config
from segadapt.runs.opening import open_data
from segadapt.runs.run import Run
from tests.tiny import raw_config

DAMAGE = b"\x89PNG no more"


def skipping(folder: Path, method: str = "cbst", **options: Any) -> RunConfig:
    raw = raw_config(folder, method, **options)
    raw["data"]["skip_damaged"] = True
    return build_config(raw, "tiny")


def opened(config: RunConfig, folder: Path, skip_damaged: bool = True) -> RoundEnvironment:
    found = open_data(config.data, {}, folder / "cache")
    data = replace(found.training, skip_damaged=skip_damaged)
    record = Record(folder, True, quiet=True)
    return RoundEnvironment(data, found.space, seed=0, runtime=Runtime("cpu"), record=record, folder=folder / "round0")


def warnings(folder: Path) -> list[str]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line["text"] for line in lines if line["event"] == "warning"]


@pytest.mark.parametrize("method", ["cbst_sp", "proda", "distill"])
def test_a_run_goes_on_without_damaged_target_images(tmp_path: Path, method: str) -> None:
    config = skipping(tmp_path, method, test=False)
    for name in ("000", "004"):
        (tmp_path / f"target/images/{name}.png").write_bytes(DAMAGE)
    Run.open(config, tmp_path / "run", quiet=True).execute()
    said = warnings(tmp_path / "run")
    assert any("skipped: " in line and "004.png" in line for line in said)
    assert "2 of 6 target images cannot be read and got no label" in said
    labels = sorted(p.name for p in (tmp_path / "run/stages/adapt/round0/labels").iterdir())
    assert labels == ["001.png", "002.png", "003.png", "005.png"]


def test_passes_name_every_damaged_file_once(tmp_path: Path) -> None:
    config = skipping(tmp_path)
    damaged = ("source/images/001.png", "source/labels/005.png", "target/images/000.png")
    for name in damaged:
        (tmp_path / name).write_bytes(DAMAGE)
    environment = opened(config, tmp_path / "skips")
    for _ in range(2):
        assert [index for index, _ in environment.target_images()] == [1, 2, 3, 4, 5]
        assert len(list(environment.source_images())) == 6
    assert environment.target_shape() == (40, 56)
    assert environment.source_shares().sum(1).gt(0).tolist() == [
        i not in (1, 5) for i in range(8)
    ]  # of a folder, labels are as large as images
    assert environment.source_frequencies((4, 4)).shape == (3, 4, 4)
    said = warnings(tmp_path / "skips")
    assert [sum(name in line for line in said) for name in damaged] == [1, 1, 1]
    strict = opened(config, tmp_path / "stops", skip_damaged=False)
    for look in (strict.target_images, strict.source_images, strict.source_shares, strict.target_shape):
        with pytest.raises(DamagedFile):
            list(look())


def test_no_readable_target_image_is_one_clear_error(tmp_path: Path) -> None:
    config = skipping(tmp_path)
    for path in (tmp_path / "target/images").iterdir():
        path.write_bytes(DAMAGE)
    with pytest.raises(RequestError, match="no image can be read"):
        opened(config, tmp_path / "run").target_shape()


def test_labels_that_cannot_be_written_stop_the_run(tmp_path: Path) -> None:
    environment = opened(skipping(tmp_path), tmp_path / "run")
    (tmp_path / "run/round0").mkdir()
    (tmp_path / "run/round0/labels").write_text("in the way")
    environment.keep_label(0, torch.zeros(40, 56))
    with pytest.raises(RunError, match=r"000\.png' cannot be written"):
        environment.finish_preparation("adapt", 0)
    assert not (tmp_path / "run/round0/labels.json").exists()


@pytest.mark.parametrize("method", ["proda", "crst_lrent"])
def test_streams_can_be_sent_to_decoding_processes(tmp_path: Path, method: str) -> None:
    """As systems without fork do; what arrives makes the same batches."""
    config = skipping(tmp_path, method)
    environment = opened(config, tmp_path / "run")
    made = method_info(method).method(
        config.stages[1], build_segmenter("timm:resnet10t", 3, weights=None, width=16), environment.space
    )
    with torch.no_grad():
        made.eval().prepare(0, environment)
    stream = made.streams(0, environment)["target" if method == "proda" else "pool"]
    sent = pickle.loads(pickle.dumps(stream))
    here, there = (next(Feeder(s, 1, torch.device("cpu")).batches(0, 1)) for s in (stream, sent))
    assert here.scores is not None
    assert there.scores is not None
    assert torch.equal(here.scores, there.scores)
    assert torch.equal(here.images, there.images)
    assert here.ids == there.ids


def test_a_missing_soft_label_is_named(tmp_path: Path) -> None:
    environment = opened(skipping(tmp_path), tmp_path / "run")
    environment.keep_soft_label(0, torch.full((3, 4, 5), -1.0))
    assert np.abs(environment.soft_label(0).astype(np.float32) + 1).max() < 0.1
    for missing in (environment.soft_label, environment.kept_scores):
        with pytest.raises(DamagedFile, match="remove the stage's folder and resume"):
            missing(1)
