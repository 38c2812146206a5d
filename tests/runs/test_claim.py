"""What a refused or failed request leaves behind, and data that moved: the folder of a run stays usable."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import segadapt
from segadapt.core.files import read_json
from segadapt.engine.loop import Loop
from segadapt.errors import RequestError
from segadapt.models import online, weights
from segadapt.runs.config import build_config
from segadapt.runs.run import Run, resumed
from tests.tiny import raw_config


def opened(folder: Path, **change: Any) -> Run:
    """Open the tiny run with settings of its stages, or of the whole run, changed."""
    raw = raw_config(folder, "cbst")
    for name, value in change.items():
        if isinstance(value, dict) and name in raw["stages"]:
            raw["stages"][name] |= value
        else:
            raw[name] = value
    return Run.open(build_config(raw, "tiny"), folder / "run", quiet=True)


def failing_in(monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    """Let the first step of a stage fail."""
    real = Loop.step

    def step(self: Loop, *given: Any) -> Any:
        if self.config.name == stage:
            raise RequestError("refused at its first step")
        return real(self, *given)

    monkeypatch.setattr(Loop, "step", step)


def test_what_trained_nothing_is_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Refused before training, and failed at the first step; then asked for with other settings."""
    wide = {"name": "timm:resnet10t", "weights": None, "arguments": {"width": 24}}
    with pytest.raises(RequestError, match="no network 'nothing'"):
        opened(tmp_path, model={"name": "nothing", "weights": None})
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run").glob("*.json*"))
    with monkeypatch.context() as patch:
        failing_in(patch, "source")
        with pytest.raises(RequestError, match="at its first step"):
            opened(tmp_path).execute()
    opened(tmp_path, model=wide, seed=3).execute("source")
    assert "held other settings (seed, model.arguments.width), with which nothing was trained" in " ".join(
        capsys.readouterr().err.split()
    )
    with pytest.raises(RequestError, match=r"holds a run with other settings \(seed\)"):
        opened(tmp_path, model=wide, seed=4)


def test_a_stage_that_trained_nothing_may_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        failing_in(patch, "adapt")
        with pytest.raises(RequestError, match="at its first step"):
            opened(tmp_path).execute()
    results = opened(tmp_path, adapt={"rounds": 1, "batch_size": 3}).execute()
    assert [row["stage"] for row in results["rows"]] == ["source", "adapt"]
    assert read_json(tmp_path / "run/config.json")["config"]["stages"][1]["batch_size"] == 3
    with pytest.raises(RequestError, match=r"other settings \(source\.batch_size\)"):
        opened(tmp_path, source={"batch_size": 3}, adapt={"rounds": 1, "batch_size": 3})


def test_settings_that_decide_no_number_may_change(tmp_path: Path) -> None:
    run = opened(tmp_path)
    run.execute("source")
    raw = raw_config(tmp_path, "cbst")
    raw["data"] |= {"cache_mb": 1}
    raw["stages"]["source"] |= {"checkpoint_every": 1, "checkpoint_minutes": None, "title": "other"}
    Run.open(build_config(raw, "tiny"), tmp_path / "run", quiet=True)


def test_a_run_of_another_version_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(version: str) -> bool:
        monkeypatch.setattr("segadapt.runs.claim.__version__", version)
        run = opened(tmp_path)
        run.hold.end()
        return f"was begun with segadapt 0.9.1 and goes on with {version}" in " ".join(capsys.readouterr().err.split())

    assert not said("0.9.1")
    assert not said("0.10.0")  # where nothing was trained, nothing is mixed
    opened(tmp_path).execute("source")
    assert [said(version) for version in ("0.9.4", "0.10.0", "1.9.1")] == [False, True, True]


def test_a_run_goes_on_where_its_data_lie_now(tmp_path: Path) -> None:
    opened(tmp_path).execute("source")
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("source", "target", "test", "classes.txt", "run"):
        shutil.move(tmp_path / name, moved / name)
    places: dict[str, Any] = {
        **{f"{part}_images": moved / part / "images" for part in ("source", "target", "test")},
        **{f"{part}_labels": moved / part / "labels" for part in ("source", "test")},
        "classes": moved / "classes.txt",
    }
    with pytest.raises(RequestError, match=r"source: '.*images' .* not there any more; .* --source-images NEW"):
        segadapt.resume(moved / "run", stage="adapt")
    result = segadapt.resume(moved / "run", **places, stage="adapt")
    assert [stage.stage for stage in result.stages] == ["source", "adapt"]
    resumed(moved / "run", quiet=True)  # config.json has the new places
    mask = moved / "source/labels/000.png"
    cv2.imwrite(str(mask), np.zeros_like(cv2.imread(str(mask), cv2.IMREAD_UNCHANGED)))
    with pytest.raises(RequestError, match="was made with other settings, weights or data"):
        segadapt.resume(moved / "run", **places)
    with pytest.raises(RequestError, match=r"the run has no folder oracle\.labels"):
        segadapt.resume(moved / "run", target_labels=moved)


def test_no_network_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the folder is claimed, and without asking a library that tries for a minute."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(online, "answers", lambda url: False)
    monkeypatch.setattr(weights, "_timm_imagenet", lambda name: pytest.fail("asked"))
    for name in ("timm:resnet10t", "hrda:timm:resnet10t", "deeplabv2_resnet50"):
        monkeypatch.setattr(online, "_in_torch_cache", lambda url: False)
        with pytest.raises(RequestError, match=r"no network to download .*model\.weights=FILE.*model\.weights=null"):
            opened(tmp_path, model={"name": name, "weights": "imagenet"})
    assert not (tmp_path / "run/config.json").exists()


def test_a_host_that_does_not_exist_answers_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(online, "getproxies", dict)
    monkeypatch.setattr(online, "WAIT", 0.2)
    assert not online.answers("https://127.0.0.1:9/none")
