"""Runs: crashed in a step they resume to the same numbers; two processes equal one; labels stay closed.

Kills of real processes at other moments: tests/bench/test_faults.py.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

import segadapt.engine.loop as loop_module
from segadapt.core.documents import write_document
from segadapt.errors import RequestError, RunError
from segadapt.methods import registry
from segadapt.runs.config import build_config
from segadapt.runs.run import Run, resumed
from tests.tiny import LIGHT_ENCODER, config, raw_config

ROOT = Path(__file__).parents[2]


def weights(run: Path, stage: str = "adapt") -> dict[str, torch.Tensor]:
    return load_file(str(run / "stages" / stage / "model.safetensors"))


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], tolerance: float = 0.0) -> None:
    assert a.keys() == b.keys()
    for key in a:
        if tolerance:
            torch.testing.assert_close(a[key], b[key], rtol=tolerance, atol=tolerance, msg=key)
        else:
            assert torch.equal(a[key], b[key]), key


class Crash(BaseException):
    """Stands for a sudden end of the process."""


# One name of every class, the last: it has all the state that the others have. The oracle wants labels of the target,
# and a given model learns nothing.
METHODS = {info.method: name for name, info in registry.METHODS.items() if name not in ("oracle", "given")}


@pytest.mark.parametrize("method", METHODS.values())
def test_resume_equals_an_uninterrupted_run(tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Crash after a step between two checkpoints of every stage, then resume; source images take random colours."""
    raw = raw_config(tmp_path, method, encoder=LIGHT_ENCODER)
    for stage in raw["stages"].values():
        stage["augmentation"]["colour_transfer"] = "lab"
    settings = build_config(raw, "tiny")
    whole = Run.open(settings, tmp_path / "whole", quiet=True).execute(pictures=False)
    last = settings.stages[-1].name
    broken = tmp_path / "broken"
    real = loop_module.Loop.step
    steps = {"done": 0, "stop_at": 5}

    def crashing(self: Any, *args: Any) -> Any:
        if steps["done"] == steps["stop_at"]:
            raise Crash
        steps["done"] += 1
        return real(self, *args)

    monkeypatch.setattr(loop_module.Loop, "step", crashing)
    crashes = 0
    for stop_at in (5, 5, 2, 100):
        steps.update(done=0, stop_at=stop_at)
        try:
            results = (
                resumed(broken, quiet=True)
                if (broken / "config.json").exists()
                else Run.open(settings, broken, quiet=True)
            ).execute(pictures=False)
        except Crash:
            crashes += 1
    assert crashes >= (1 if method == "source_only" else 2)
    assert_same(weights(tmp_path / "whole", last), weights(broken, last))
    for a, b in zip(whole["rows"], results["rows"], strict=True):
        assert a["scores"] == b["scores"]
        assert a["steps"] == b["steps"]
    assert whole["labels"] == results["labels"]


def start(folder: Path, *command: str, **environment: str) -> subprocess.Popen[str]:
    env = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def kill_when(process: subprocess.Popen[str], log: Path, stage: str, number: int = signal.SIGKILL) -> None:
    """Send a signal as soon as the stage has logged a step."""
    limit = time.monotonic() + 120
    while time.monotonic() < limit:
        if log.exists() and f'"stage": "{stage}"' in log.read_text():
            process.send_signal(number)
            process.wait(60)
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    raise AssertionError(f"stage '{stage}' did not start")


def long_recipe(folder: Path) -> Path:
    raw = raw_config(folder, "cbst")
    raw["stages"]["source"].update(steps=60, checkpoint_every=7)
    raw["stages"]["adapt"].update(steps=60, rounds=2, checkpoint_every=7)
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    return path


def test_sigterm_saves_and_says_so(tmp_path: Path) -> None:
    recipe = long_recipe(tmp_path)
    out = tmp_path / "run"
    process = start(tmp_path, "-m", "segadapt", "adapt", str(recipe), "--out", str(out), "-q")
    kill_when(process, out / "log.jsonl", "source", signal.SIGTERM)
    assert process.returncode == 1
    assert "the state is saved" in process.communicate()[1]
    assert list((out / "stages/source/checkpoints").glob("*.pt"))


def test_two_processes_share_running_statistics_and_name_all_skipped_files(tmp_path: Path) -> None:
    """After one step the first layer has seen the same images, dealt out or not; later ones normalise by parts."""
    raw = raw_config(tmp_path, "source_only", test=False)
    raw["stages"]["source"].update(steps=1, batch_size=8, norm="train")
    raw["data"]["skip_damaged"] = True
    for name in ("000", "002", "003", "005", "007"):
        (tmp_path / f"source/images/{name}.png").write_bytes(b"\x89PNG no more")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(raw, sort_keys=False))
    Run.open(build_config(raw, "tiny"), tmp_path / "one", quiet=True).execute()
    two = start(
        tmp_path,
        *("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "segadapt"),
        *("adapt", str(recipe), "--out", str(tmp_path / "two"), "-q"),
    )
    _, err = two.communicate(timeout=200)
    assert two.returncode == 0, err
    one, other = (weights(tmp_path / run, "source") for run in ("one", "two"))
    for name in ("mean", "var"):
        key = next(k for k in one if k.endswith(f"conv1.1.running_{name}"))
        torch.testing.assert_close(one[key], other[key], rtol=1e-2 if name == "var" else 1e-5, atol=1e-5)
    logs = [(tmp_path / run / "log.jsonl").read_text().splitlines() for run in ("one", "two")]
    skipped = [{e["text"] for e in map(json.loads, log) if "skipped: " in e.get("text", "")} for log in logs]
    assert len(skipped[0]) == 5
    assert skipped[0] == skipped[1]


def test_a_finished_stage_is_reused_and_shared(tmp_path: Path) -> None:
    first = Run.open(config(tmp_path, "cbst"), tmp_path / "first", quiet=True)
    first.execute()
    stamp = (tmp_path / "first/stages/source/model.safetensors").stat().st_mtime_ns
    resumed(tmp_path / "first", quiet=True).execute()
    assert (tmp_path / "first/stages/source/model.safetensors").stat().st_mtime_ns == stamp
    second = Run.open(config(tmp_path, "st"), tmp_path / "second", quiet=True, reuse=(tmp_path / "first",))
    second.execute()
    assert not (tmp_path / "second/stages/source/checkpoints").exists()
    assert_same(weights(tmp_path / "first", "source"), weights(tmp_path / "second", "source"))


def test_a_stage_without_its_model_is_trained_and_not_taken_over(tmp_path: Path) -> None:
    """Results without models are what is left of a study that was copied for its numbers."""
    Run.open(config(tmp_path, "source_only"), tmp_path / "first", quiet=True).execute()
    (tmp_path / "first/stages/source/model.safetensors").unlink()
    second = Run.open(config(tmp_path, "st"), tmp_path / "second", quiet=True, reuse=(tmp_path / "first",))
    assert len(second.execute()["rows"]) == 2
    assert (tmp_path / "second/stages/source/model.safetensors").exists()


def test_a_reused_stage_has_the_scores_of_this_run(tmp_path: Path) -> None:
    raw = raw_config(tmp_path, "source_only")
    first = Run.open(build_config(raw, "tiny"), tmp_path / "first", quiet=True).execute()
    raw["data"]["test"].update({key: str(tmp_path / "source" / key) for key in ("images", "labels")})
    taken = Run.open(build_config(raw, "tiny"), tmp_path / "taken", quiet=True, reuse=(tmp_path / "first",)).execute()
    trained = Run.open(build_config(raw, "tiny"), tmp_path / "trained", quiet=True).execute()
    assert taken["rows"][0]["seconds"] == first["rows"][0]["seconds"]
    assert taken["rows"][0]["scores"] == trained["rows"][0]["scores"] != first["rows"][0]["scores"]
    del raw["data"]["test"]
    unscored = Run.open(
        build_config(raw, "tiny"), tmp_path / "unscored", quiet=True, reuse=(tmp_path / "first",)
    ).execute()
    assert unscored["rows"][0]["scores"] is None


def test_a_stage_made_with_other_data_is_not_passed_off(tmp_path: Path) -> None:
    Run.open(config(tmp_path, "source_only"), tmp_path / "run", quiet=True).execute()
    mask = tmp_path / "source/labels/003.png"
    cv2.imwrite(str(mask), np.zeros_like(cv2.imread(str(mask), cv2.IMREAD_UNCHANGED)))
    with pytest.raises(RequestError, match="settings, weights or data"):
        resumed(tmp_path / "run", quiet=True).execute()


def test_a_stage_trained_on_other_classes_is_not_taken_over(tmp_path: Path) -> None:
    raw = raw_config(tmp_path, "source_only")
    plain = Run.open(build_config(raw, "tiny"), tmp_path / "plain", quiet=True)
    plain.execute()
    raw["data"]["source"]["merge"] = {"disc": "box"}
    merged = Run.open(build_config(raw, "tiny"), tmp_path / "merged", quiet=True, reuse=(tmp_path / "plain",))
    merged.execute()
    done = [json.loads((tmp_path / run / "stages/source/done.json").read_text()) for run in ("plain", "merged")]
    assert done[0]["fingerprint"] != done[1]["fingerprint"]
    labels = np.unique(np.concatenate([merged.opened.training.source.label(i).ravel() for i in range(8)]))
    assert labels.tolist() == [0, 1, 255]


def test_another_configuration_does_not_overwrite_a_run(tmp_path: Path) -> None:
    run = Run.open(config(tmp_path, "cbst"), tmp_path / "run", quiet=True)
    for name, fingerprint in run.fingerprints.items():
        row = {"stage": name, "scores": None, "title": "", "seconds": 0.0, "steps": 1}
        done = {"fingerprint": fingerprint, "scored": "", "row": row, "labels": [], "files": {}}
        write_document(tmp_path / f"run/stages/{name}/done.json", done)
    with pytest.raises(RequestError, match=r"other settings \(adapt\.method, adapt\.policy\)"):
        Run.open(config(tmp_path, "st"), tmp_path / "run", quiet=True)
    Run.open(build_config({**raw_config(tmp_path, "cbst"), "title": "renamed"}, "tiny"), tmp_path / "run", quiet=True)


def test_what_is_refused_does_not_claim_its_folder(tmp_path: Path) -> None:
    raw = raw_config(tmp_path, "cbst")
    raw["model"]["weights"] = "./nothing.pth"
    with pytest.raises(RequestError, match="nothing"):
        Run.open(build_config(raw, "tiny"), tmp_path / "run", quiet=True)
    damaged = tmp_path / "target/images/000.png"
    whole = damaged.read_bytes()
    damaged.write_bytes(b"no picture")
    with pytest.raises(RequestError, match=r"000\.png"):
        Run.open(config(tmp_path, "cbst"), tmp_path / "run", quiet=True)
    damaged.write_bytes(whole)
    with pytest.raises(RequestError, match="reuse: there is no folder"):
        Run.open(config(tmp_path, "cbst"), tmp_path / "run", quiet=True, reuse=(tmp_path / "nowhere",))
    assert not (tmp_path / "run/config.json").exists()
    Run.open(config(tmp_path, "cbst"), tmp_path / "run", quiet=True)


def test_a_run_between_folders_is_resumed_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = raw_config(tmp_path, "source_only")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    for spec in raw["data"].values():
        spec.update({key: str(Path(path).relative_to(tmp_path)) for key, path in spec.items() if key != "size"})
    Run.open(build_config(raw, "tiny"), tmp_path / "run", quiet=True)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert len(resumed(tmp_path / "run", quiet=True).opened.training.source) == 8


def test_a_loss_that_is_not_finite_names_step_and_batch(tmp_path: Path) -> None:
    raw = raw_config(tmp_path, "source_only")
    raw["stages"]["source"]["optimiser"] = {"name": "sgd", "lr": 1e30}
    with pytest.raises(
        RunError, match=r"not finite in stage 'source', round 1, step \d+ .*batch: \d\d\d.*--reuse .*/run takes"
    ):
        Run.open(build_config(raw, "tiny"), tmp_path / "run", quiet=True).execute()


def test_bf16_stays_close_to_fp32(tmp_path: Path) -> None:
    raw = raw_config(tmp_path, "cbst")
    full = Run.open(build_config(raw, "tiny"), tmp_path / "full", quiet=True).execute()
    half = Run.open(build_config({**raw, "precision": "bf16-mixed"}, "tiny"), tmp_path / "half", quiet=True).execute()
    a, b = weights(tmp_path / "full"), weights(tmp_path / "half")
    difference = sum(float((a[k].float() - b[k].float()).square().sum()) for k in a) ** 0.5
    size = sum(float(a[k].float().square().sum()) for k in a) ** 0.5
    assert 0 < difference < 0.05 * size
    assert full["rows"][-1]["steps"] == half["rows"][-1]["steps"]


def test_label_files_of_the_target_are_never_opened(tmp_path: Path) -> None:
    """A whole run beside a folder of target labels that no decoder could survive, with every open() watched."""
    raw = raw_config(tmp_path, "cbst", test=False)
    (tmp_path / "target/labels").mkdir()
    for image in (tmp_path / "target/images").iterdir():
        (tmp_path / "target/labels" / image.name).write_bytes(b"whoever decodes this fails")
    opened: list[str] = []
    watching = [True]

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if watching[0] and event in ("open", "os.listdir", "os.scandir") and "target/labels" in str(arguments[0]):
            opened.append(f"{event} {arguments[0]}")

    sys.addaudithook(audit)
    results = Run.open(build_config(raw, "tiny"), tmp_path / "run", quiet=True).execute()
    watching[0] = False
    assert opened == []
    assert results["rows"][-1]["scores"] is None
    assert results["labels"]
