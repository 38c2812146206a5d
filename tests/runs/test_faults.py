"""Faults in the middle of a run: a full disk, an update that is no number, kills in a pass, signals anywhere."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from segadapt.core import files
from segadapt.core.files import read_json, replace_file, write_bytes
from segadapt.engine import loop as loop_module
from segadapt.engine import passes
from segadapt.engine.finite import require_finite
from segadapt.engine.loop import Loop
from segadapt.errors import Interrupted, RequestError, RunError
from segadapt.runs.config import build_config
from segadapt.runs.run import Run, resumed
from tests.runs.test_run import Crash, assert_same, weights
from tests.tiny import raw_config


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data and an uninterrupted run of two stages, ``run``."""
    folder = tmp_path_factory.mktemp("faults")
    opened(folder, folder / "run").execute(pictures=False)
    return folder


def opened(data: Path, out: Path) -> Run:
    """Open a run, or go on with it."""
    if (out / "config.json").exists():
        return resumed(out, quiet=True)
    raw = raw_config(data, "st", rounds=2, steps=2)
    raw["stages"]["source"]["steps"] = 2
    return Run.open(build_config(raw, "tiny"), out, quiet=True)


def equal(whole: Path, out: Path) -> None:
    opened(whole, out).execute(pictures=False)
    assert_same(weights(whole / "run"), weights(out))
    one, other = (read_json(run / "results.json")["rows"][1]["scores"] for run in (whole / "run", out))
    assert one == other


# ---- a full disk ----


@contextlib.contextmanager
def small_disk(size: int) -> Iterator[None]:
    """Let no file grow beyond a size, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(("size", "file"), [(300_000, r"checkpoint-\d+\.pt"), (2000, r"\.png|log\.jsonl|config\.json")])
def test_a_full_disk_is_one_line_and_loses_nothing(whole: Path, tmp_path: Path, size: int, file: str) -> None:
    with small_disk(size), pytest.raises(RunError, match=rf"({file})' cannot be written: .*; free") as told:
        opened(whole, tmp_path / "run").execute(pictures=False)
    assert "\n" not in str(told.value)
    assert [path for path in (tmp_path / "run").rglob("*") if path.name.startswith(".partial")] == []
    if size == 2000:
        equal(whole, tmp_path / "run")


def test_a_model_that_does_not_fit_on_the_disk(whole: Path, tmp_path: Path) -> None:
    from segadapt.models.store import load_model, save_model

    loaded = load_model(whole / "run/stages/adapt/model.safetensors")
    write_bytes(tmp_path / "model.safetensors", b"the old one")
    with small_disk(100_000), pytest.raises(RunError, match=r"model\.safetensors' cannot be written: [^\n]*$"):
        save_model(tmp_path / "model.safetensors", loaded.model, loaded.space, loaded.provenance)
    assert (tmp_path / "model.safetensors").read_bytes() == b"the old one"
    assert len(list(tmp_path.iterdir())) == 1


def test_only_what_could_not_be_written_counts_as_that(tmp_path: Path) -> None:
    def fail(_: Any) -> None:
        raise RequestError("of another kind") from OSError(28, "No space left on device")

    with pytest.raises(RequestError, match="of another kind"):
        replace_file(tmp_path / "a", fail)


# ---- numbers ----


def test_the_last_update_of_a_stage_is_looked_at(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its loss was a number; a weight behind it is none."""
    real = Loop.step

    def spoiling(loop: Loop, round_index: int, step: int, *given: Any) -> Any:
        made = real(loop, round_index, step, *given)
        if step == 1:
            weight = next(v for k, v in loop.method.model.state_dict().items() if k.endswith("weight"))
            weight[(0,) * weight.dim()] = torch.inf
        return made

    monkeypatch.setattr(Loop, "step", spoiling)
    with pytest.raises(RunError, match=r"stage 'source', round 1, step 2: 1 of .*weight'.*not saved") as told:
        opened(whole, tmp_path / "run").execute(pictures=False)
    assert "\n" not in str(told.value)
    assert not list(tmp_path.rglob("model.safetensors"))


def test_whatever_is_no_number_is_found() -> None:
    fine = {
        "half": torch.full((9,), 60000.0, dtype=torch.float16),
        "none": torch.zeros(0),
        "long": torch.ones(2).long(),
    }
    require_finite({"method": fine, "lr": float("nan"), "name": "x"}, "here")
    for value in (torch.nan, torch.inf, -torch.inf):
        for where in (
            {"method": {"running_var": torch.tensor([1.0, value])}},
            {"optimisers": [{0: torch.tensor(value)}]},
        ):
            with pytest.raises(RunError, match=r"^here: 1 of 2 tensors"):
                require_finite({**where, "more": {"half": fine["half"]}}, "here")
    both = {"a": torch.tensor([torch.inf, -torch.inf]), "huge": torch.full((4,), 3e38)}
    with pytest.raises(RunError, match="1 of 2 tensors are infinite or no number, first 'a'"):
        require_finite(both, "here")


# ---- passes ----


def test_a_killed_pass_goes_on_with_the_images_that_it_had(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In both rounds: scores of the first four images are not computed again, and the numbers are the same."""
    real, calls, out = passes.scores, [0], tmp_path / "run"
    kill_at = [5, 6 + 5 - 4]

    def counted(*given: Any) -> Any:
        calls[0] += 1
        if kill_at and calls[0] == kill_at[0]:
            kill_at.pop(0)
            until = time.monotonic() + 30
            while len(list(out.rglob("scores/*.scores"))) < 4 and time.monotonic() < until:
                time.sleep(0.01)  # they are written behind the pass
            calls[0] = 0
            raise Crash
        return real(*given)

    monkeypatch.setattr(passes, "scores", counted)
    for _ in range(2):
        with pytest.raises(Crash):
            opened(whole, out).execute(pictures=False)
    equal(whole, out)
    assert calls[0] == 6 - 4


def test_scores_of_other_weights_are_not_taken_for_these(tmp_path: Path) -> None:
    from segadapt.engine.stored import KeptScores

    kept = KeptScores(tmp_path / "scores")
    for key, again in (("a", True), ("b", False), ("", False)):
        kept.open(False, "a")
        kept.keep(3, torch.ones(2, 3, 4))
        kept.open(False, key)
        assert kept.has(3) == again
    kept.open(False, "a")
    kept.keep(3, torch.ones(2, 3, 4))
    file = tmp_path / "scores/000003.scores"
    file.write_bytes(file.read_bytes()[:-9] + b"\0" * 9)
    assert not kept.has(3)


@pytest.mark.parametrize("harm", ["redrawn", "removed", "unlisted"])
def test_labels_are_trusted_as_they_were_stored(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    out, real = tmp_path / "run", Loop.step
    shutil.copytree(whole / "run", out)
    shutil.rmtree(out / "stages/adapt")

    def crashing(loop: Loop, round_index: int, step: int, *given: Any) -> Any:
        if step == 1:
            raise Crash
        return real(loop, round_index, step, *given)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "step", crashing)
        with pytest.raises(Crash):
            resumed(out, quiet=True).execute(pictures=False)
    folder = out / "stages/adapt/round0"
    label = folder / "labels/002.png"
    if harm == "redrawn":
        shutil.copy(folder / "labels/003.png", label)
    elif harm == "removed":
        label.unlink()
    else:
        (folder / "files.json").unlink()
    with pytest.raises(RequestError, match=r"(002\.png|files\.json)' is .*; put it back .* or remove .*adapt'"):
        resumed(out, quiet=True).execute(pictures=False)


def test_labels_are_on_the_disk_before_a_checkpoint_calls_them_ready(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file and each folder of names; the order is what a power cut would find."""
    flushed: set[str] = set()
    real_sync, real_save = os.fsync, loop_module.save_checkpoint

    def fsync(handle: int) -> None:
        flushed.add(str(Path(f"/proc/self/fd/{handle}").readlink()))
        real_sync(handle)

    def save(folder: Path, *given: Any) -> Path:
        stored = [path for path in folder.parent.glob("round*/**/*") if path.name != "files.json"]
        assert {str(path) for path in stored} <= flushed
        return real_save(folder, *given)

    monkeypatch.setattr(files.os, "fsync", fsync)
    monkeypatch.setattr(loop_module, "save_checkpoint", save)
    out = tmp_path / "run"
    opened(whole, out).execute(pictures=False)
    assert {str(out / "stages/adapt"), str(out / "stages/adapt/round1/labels"), str(out)} <= flushed


# ---- signals ----


def test_a_signal_in_a_pass_stops_it_at_once(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = passes.scores, [0]

    def signalled(*given: Any) -> Any:
        calls[0] += 1
        if calls[0] == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*given)

    with monkeypatch.context() as patch:
        patch.setattr(passes, "scores", signalled)
        with pytest.raises(
            Interrupted, match=r"^stage 'adapt': stopped by SIGTERM; what was finished stays, .* goes on"
        ):
            opened(whole, tmp_path / "run").execute(pictures=False)
    assert calls[0] == 3


DEAF = """
import ctypes, signal, sys
from segadapt.core.signals import watched
def say(line): print(line, file=sys.stderr, flush=True)
with watched(say):
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT])  # its thread hears them
    print("ready", flush=True)
    ctypes.CDLL(None).sleep(30)
"""
LISTENING = """
import sys, time
from segadapt import cli
cli.app = lambda **_: (print("ready", flush=True), time.sleep(30))
cli.main()
"""


@pytest.mark.parametrize("code", [DEAF, LISTENING], ids=["in a library", "in Python"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_command_ends_within_a_second_with_a_line(code: str, number: int) -> None:
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.1)
    sent = time.monotonic()
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert time.monotonic() - sent < 4  # 0.8 s, and what a busy machine adds
    assert process.returncode == 1
    name = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
    assert (
        said.removeprefix("segadapt: ")
        == f"stopped by {name}; what was finished stays, and the same command goes on from there\n"
    )


FORKING = """
import os, sys, time
from segadapt.core.signals import watched
with watched(lambda line: print(line, flush=True)):
    for _ in range(20):
        child = os.fork()
        if child == 0:
            time.sleep(30)
            os._exit(0)
        os.kill(child, 15)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
    time.sleep(1.5)
    print("lives", flush=True)
"""


def test_a_forked_process_does_not_end_its_parent() -> None:
    """Not even by a signal that comes before Python has set it up."""
    done = subprocess.run([sys.executable, "-c", FORKING], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout.split(), done.stderr) == ([*["143"] * 20, "lives"], "")
