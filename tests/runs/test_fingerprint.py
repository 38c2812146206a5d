"""A finished stage or a checkpoint is taken only where all that decides its numbers is the same."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

import segadapt.engine.loop as loop_module
from segadapt.errors import RequestError
from segadapt.models.build import build_segmenter
from segadapt.models.store import save_model
from segadapt.runs.config import build_config
from segadapt.runs.fingerprint import Fingerprints
from segadapt.runs.run import Run, resumed
from tests.runs.test_run import Crash
from tests.tiny import raw_config


def fingerprints(raw: dict[str, Any], out: Path) -> dict[str, str]:
    """Return the fingerprints of all stages, by name; nothing is trained."""
    shutil.rmtree(out, ignore_errors=True)
    run = Run.open(build_config(raw, "tiny"), out, quiet=True)
    made = Fingerprints(run.config, run.opened)
    return {stage.name: made.next(stage, run.networks.outside_files(stage)) for stage in run.config.stages}


def changed(before: dict[str, str], after: dict[str, str]) -> list[str]:
    return [name for name in before if before[name] != after[name]]


def test_other_weights_under_the_same_path(tmp_path: Path) -> None:
    raw, weights, model = raw_config(tmp_path, "st"), tmp_path / "encoder.pth", tmp_path / "model.safetensors"
    network = build_segmenter("timm:resnet10t", 3, width=16)
    space = Run.open(build_config(raw, "tiny"), tmp_path / "run", quiet=True).opened.space
    raw["model"]["weights"] = str(weights)
    raw["stages"]["other"] = {**raw["stages"]["adapt"], "initial": str(model)}
    torch.save(network.encoder.state_dict(), weights)
    save_model(model, network, space, {})
    first = fingerprints(raw, tmp_path / "run")
    assert fingerprints(raw, tmp_path / "run") == first
    save_model(model, network, space, {"other": 1})
    second = fingerprints(raw, tmp_path / "run")
    assert changed(first, second) == ["other"]
    with torch.no_grad():
        next(network.encoder.parameters()).add_(1)
    torch.save(network.encoder.state_dict(), weights)
    third = fingerprints(raw, tmp_path / "run")
    assert changed(second, third) == ["source", "adapt"], "the last one builds on neither"


def test_a_stage_holds_the_one_that_it_names(tmp_path: Path) -> None:
    """Also over one from scratch, which holds none before it."""
    raw = raw_config(tmp_path, "st")
    raw["stages"]["afresh"] = {**raw["stages"]["source"], "initial": "scratch"}
    raw["stages"]["last"] = {**raw["stages"]["adapt"], "initial": "source"}
    raw["stages"]["taught"] = {**raw["stages"]["source"], "method": "distill", "teacher": "adapt", "initial": "afresh"}
    before = fingerprints(raw, tmp_path / "run")
    raw["stages"]["source"]["steps"] += 1
    assert changed(before, fingerprints(raw, tmp_path / "run")) == ["source", "adapt", "last", "taught"]


def test_a_source_model_serves_every_target(tmp_path: Path) -> None:
    """But for one that takes colours from the target, or learns labels of it."""
    raw = raw_config(tmp_path, "st")
    before = fingerprints(raw, tmp_path / "run")
    raw["data"]["target"]["limit"] = 4
    assert changed(before, fingerprints(raw, tmp_path / "run")) == ["adapt"]
    for part, setting in (("target", {"size": 24}), ("source", {"limit": 4})):
        other = {**raw, "data": {**raw["data"], part: {**raw["data"][part], **setting}}}
        assert changed(before, fingerprints(other, tmp_path / "run")) == ["source", "adapt"]
    for changes in (
        {"augmentation": {"crop": [32, 32], "colour_transfer": "lab"}},
        {"role": "adapted", "labelled_weight": 1.0},
    ):
        raw = raw_config(tmp_path, "source_only")
        raw["data"] |= {"target": dict(raw["data"]["test"]), "oracle": dict(raw["data"]["test"]), "labelled": {}}
        raw["stages"]["source"] |= changes
        first = fingerprints(raw, tmp_path / "run")
        raw["data"]["target"]["limit"] = 2
        assert changed(first, fingerprints(raw, tmp_path / "run")) == ["source"]


def test_the_labels_of_an_oracle(tmp_path: Path) -> None:
    raw = raw_config(tmp_path, "st")
    raw["data"]["oracle"] = dict(raw["data"]["test"])
    raw["stages"]["oracle"] = {**raw["stages"]["source"], "method": "oracle"}
    before = fingerprints(raw, tmp_path / "run")
    raw["data"]["oracle"]["limit"] = 2
    limited = fingerprints(raw, tmp_path / "run")
    assert changed(before, limited) == ["oracle"]
    mask = tmp_path / "test/labels/000.png"
    cv2.imwrite(str(mask), np.zeros_like(cv2.imread(str(mask), cv2.IMREAD_UNCHANGED)))
    assert changed(limited, fingerprints(raw, tmp_path / "run")) == ["oracle"]


def test_a_checkpoint_made_with_other_data_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, steps = loop_module.Loop.step, iter(range(5))

    def crashing(self: Any, *args: Any) -> Any:
        if next(steps) == 4:
            raise Crash
        return real(self, *args)

    monkeypatch.setattr(loop_module.Loop, "step", crashing)
    with pytest.raises(Crash):
        Run.open(build_config(raw_config(tmp_path, "source_only"), "tiny"), tmp_path / "run", quiet=True).execute()
    monkeypatch.undo()
    mask = tmp_path / "source/labels/003.png"
    cv2.imwrite(str(mask), np.zeros_like(cv2.imread(str(mask), cv2.IMREAD_UNCHANGED)))
    with pytest.raises(
        RequestError, match=r"source/checkpoints' was made with other .* choose another folder for the run .*or remove"
    ):
        resumed(tmp_path / "run", quiet=True).execute()
    shutil.rmtree(tmp_path / "run/stages/source/checkpoints")
    assert resumed(tmp_path / "run", quiet=True).execute()["rows"][0]["steps"] == 6
