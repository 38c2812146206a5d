"""Exceptions of libraries become one line with the sizes and the settings that mend them."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import segadapt.cli as cli
from segadapt.core.faults import Ways, in_words, told_fault
from segadapt.engine.loop import Loop
from segadapt.errors import PeerGone, RequestError, RunError
from segadapt.models.build import build_segmenter
from segadapt.models.inference import InferenceConfig, predict_labels
from segadapt.models.segmenter import Segmenter
from segadapt.runs.config import build_config
from segadapt.runs.plan import plan_run
from segadapt.runs.run import Run
from tests.tiny import raw_config

HUGE = 10**15


def _numpy() -> None:
    np.empty(HUGE)


def _torch() -> None:
    torch.empty(HUGE)


def _norm() -> None:
    nn.BatchNorm2d(4)(torch.zeros(1, 4, 1, 1))


def _kernel() -> None:
    nn.Conv2d(1, 1, 5)(torch.zeros(1, 1, 2, 2))


def _pool() -> None:
    nn.MaxPool2d(2)(torch.zeros(1, 1, 1, 1))


def _gpu() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")


def _worker() -> None:
    raise RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed.")


def _peer() -> None:
    raise RuntimeError("[transport/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:28909. Check the logs")


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        (_numpy, RunError, "memory is not enough; give LESS"),
        (_torch, RunError, "memory is not enough; give LESS"),
        (_gpu, RunError, "memory is not enough; give LESS"),
        (_worker, RunError, "ended by the system, .* set WORKERS"),
        (_norm, RequestError, "one value per channel, .*; NORM"),
        (_kernel, RequestError, "too small for the network; give SIZE"),
        (_pool, RequestError, "too small for the network; give SIZE"),
    ],
)
def test_faults_that_a_person_can_mend_are_one_line(fault: Any, kind: type[Exception], words: str) -> None:
    facts = {"batch": 4, "crop": (32, 48), "window": None}
    with (
        pytest.raises(kind, match=rf"^stage 'a' \(batch 4, crop 32x48\): .*{words}$"),
        in_words("stage 'a'", facts, Ways("LESS", "NORM", "SIZE", "WORKERS")),
    ):
        fault()


def test_a_process_that_is_gone_is_one_line() -> None:
    line = r"^stage 'a': another process of the run has ended, .* the last checkpoint$"
    with pytest.raises(PeerGone, match=line), in_words("stage 'a'", {"batch": 4}):
        _peer()


@pytest.mark.parametrize("problem", [RuntimeError("a bug"), KeyError("out of memory"), RequestError("said"), OSError()])
def test_other_exceptions_go_on_as_they_are(problem: Exception) -> None:
    assert told_fault(problem, "x", {}) is None
    with pytest.raises(type(problem)) as caught, in_words("x", {}):
        raise problem
    assert caught.value is problem


@pytest.mark.parametrize("where", ["step", "_prepare"])
def test_a_stage_names_what_it_trains_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    config = build_config(raw_config(tmp_path, "source_only"), "tiny")
    monkeypatch.setattr(Loop, where, lambda *_: _gpu())
    line = r"^stage 'source' \(network timm:resnet10t, batch 2, crop 32x32, norm affine\): .*source\.batch_size"
    with pytest.raises(RunError, match=line):
        Run.open(config, tmp_path / "run", quiet=True).execute()
    if where == "step":
        with pytest.raises(RunError, match=line):
            plan_run(config, {})


def test_batch_norm_of_one_value_names_batch_crop_and_norm(tmp_path: Path) -> None:
    raw = raw_config(tmp_path, "source_only")
    raw["stages"]["source"].update(norm="train", batch_size=1, augmentation={"crop": [8, 8]})
    with pytest.raises(RequestError, match=r"batch 1, crop 8x8, norm train.*source\.batch_size of at least 2"):
        Run.open(build_config(raw, "tiny"), tmp_path / "run", quiet=True).execute()


def test_a_prediction_names_image_and_window(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_segmenter("timm:resnet10t", 3, width=16)
    monkeypatch.setattr(Segmenter, "forward", lambda *_: _torch())
    with pytest.raises(RunError, match=r"^prediction \(network timm:resnet10t, image 20x24, window none.*--window"):
        predict_labels(model, torch.zeros(1, 3, 20, 24), (20, 24), InferenceConfig())


def test_the_command_has_one_line_for_what_nobody_caught(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "app", lambda **_: _numpy())
    monkeypatch.setattr(sys, "argv", ["segadapt"])
    with pytest.raises(SystemExit) as status:
        cli.main()
    assert status.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"segadapt: 8,\d+,[\d.]+ GB were asked for at once, and the memory is not .*", line)
