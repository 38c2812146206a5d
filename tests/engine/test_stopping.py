"""A run that is asked to stop: after which step, with what saved, by which processes."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
import torch
import yaml

from segadapt.engine.checkpoint import load_checkpoint
from segadapt.engine.record import Steps
from segadapt.engine.stopping import StopRequest
from segadapt.errors import Interrupted
from segadapt.runs.config import build_config
from segadapt.runs.run import Run, resumed
from tests.runs.test_run import start
from tests.tiny import raw_config


def test_a_second_interrupt_stops_at_once() -> None:
    def insisted() -> None:
        with StopRequest() as stop, stop.steps():
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.decided()
            os.kill(os.getpid(), signal.SIGINT)
            pytest.fail("went on")

    with pytest.raises(Interrupted, match="stopped by Ctrl-C"):
        insisted()


def test_a_signal_that_no_step_answers_ends_the_stage_behind_the_steps() -> None:
    before, done = signal.getsignal(signal.SIGTERM), []

    def trained() -> None:
        with StopRequest(where="stage 'adapt': ") as stop:
            with stop.steps():
                os.kill(os.getpid(), signal.SIGTERM)
                done.append("the step")
            done.append("what follows")

    with pytest.raises(Interrupted, match=r"^stage .adapt.: stopped by SIGTERM; what was finished stays"):
        trained()
    assert done == ["the step"]
    assert signal.getsignal(signal.SIGTERM) is before


def test_outside_steps_a_signal_ends_the_work_where_it_is() -> None:
    def passing() -> None:
        with StopRequest():
            try:
                os.kill(os.getpid(), signal.SIGINT)
            except Exception:  # nothing takes it for a fault
                pytest.fail("swallowed")
            pytest.fail("went on")

    with pytest.raises(Interrupted, match="Ctrl-C"):
        passing()


def test_processes_decide_alike_by_the_message_of_the_step() -> None:
    """Of two processes, one hears of the signal, and only after the step's message has left."""
    both = [StopRequest(processes=2) for _ in range(2)]

    def exchanged() -> None:
        total = sum((stop.wish(torch.device("cpu")) for stop in both), torch.zeros(()))
        for stop in both:
            stop.heard(total)

    exchanged()
    both[1].asked = True
    assert [stop.decided() for stop in both] == [False, False]
    exchanged()
    assert [stop.decided() for stop in both] == [True, True]


def test_a_signal_at_the_end_of_a_step_waits_for_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says that the state is saved, and it is; files that were skipped so far are named."""
    raw = raw_config(tmp_path, "source_only", test=False)
    raw["data"]["skip_damaged"] = True
    (tmp_path / "source/images/003.png").write_bytes(b"\x89PNG no more")
    raw["stages"]["source"].update(steps=12, checkpoint_every=100)
    advance, steps = Steps.advance, iter(range(1, 13))

    def late(self: Steps, note: str = "") -> None:
        if next(steps) == 9:
            os.kill(os.getpid(), signal.SIGTERM)
        advance(self, note)

    monkeypatch.setattr(Steps, "advance", late)
    with pytest.raises(Interrupted, match=r"step 10; the state is saved"):
        Run.open(build_config(raw, "tiny"), tmp_path / "run", quiet=True).execute()
    state = load_checkpoint(tmp_path / "run/stages/source/checkpoints", pytest.fail)
    assert state is not None
    assert state["step"] == 10
    events = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    skipped = [e["text"] for e in events if e["event"] == "warning" and e["text"].startswith("skipped: ")]
    assert len(skipped) == 1
    assert "003.png" in skipped[0]


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the second process by its environment")
def test_a_signal_to_one_process_stops_all(tmp_path: Path) -> None:
    raw = raw_config(tmp_path, "source_only", test=False)
    raw["stages"]["source"].update(steps=120, checkpoint_every=7)
    recipe, out = tmp_path / "recipe.yaml", tmp_path / "run"
    recipe.write_text(yaml.safe_dump(raw))
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "segadapt")
    process = start(tmp_path, *launcher, "adapt", str(recipe), "--out", str(out), "-q")
    log, limit = out / "log.jsonl", time.monotonic() + 200
    while not (log.exists() and '"event": "step"' in log.read_text()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.01)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    second = [c for c in children if b"RANK=1" in Path(f"/proc/{c}/environ").read_bytes().split(b"\0")]
    os.kill(int(second[0]), signal.SIGTERM)
    try:
        _, err = process.communicate(timeout=120)
    finally:
        process.terminate()  # ends the others too, should they wait for each other
        process.wait(60)
    assert err.count("the state is saved") >= 1
    assert not (out / "results.json").exists()
    state = load_checkpoint(out / "stages/source/checkpoints", pytest.fail)
    assert state is not None
    assert f"step {state['step']}; the state is saved" in err
    assert len(resumed(out, quiet=True).execute()["rows"]) == 1
