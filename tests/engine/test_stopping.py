"""A run that is asked to stop: after which step, with what saved, by which processes."""

from __future__ import annotations

import json
import os
import re
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
from segadapt.runs.run import Run
from tests.processes import commands, in_processes, needs_fork
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


# ---- several processes ----


def training(folder: Path, steps: int) -> tuple[list[object], Path]:
    """Write a recipe of so many steps; return the command that runs it and its folder."""
    raw = raw_config(folder, "source_only", test=False)
    raw["stages"]["source"].update(steps=steps, checkpoint_every=7)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(raw))
    return ["adapt", folder / "recipe.yaml", "--out", folder / "run", "-q"], folder / "run"


def wait_for_steps(out: Path) -> None:
    """Wait until a checkpoint tells that some steps are done."""
    limit = time.monotonic() + 60
    while not any((out / "stages/source/checkpoints").glob("*7.pt")) and time.monotonic() < limit:
        time.sleep(0.005)


@needs_fork
def test_a_signal_to_one_process_stops_all(tmp_path: Path) -> None:
    command, out = training(tmp_path, 400)

    def stop(numbers: list[int]) -> None:
        wait_for_steps(out)
        os.kill(numbers[1], signal.SIGTERM)

    both = in_processes(2, commands(command), tmp_path / "said", stop)
    assert [process.status for process in both] == [1, 1]
    assert not (out / "results.json").exists()
    state = load_checkpoint(out / "stages/source/checkpoints", pytest.fail)
    assert state is not None
    assert all(f"step {state['step']}; the state is saved" in process.err for process in both)


def late(began: float) -> bool:
    return time.monotonic() > began + 20


@needs_fork
@pytest.mark.parametrize(
    ("signals", "said"),
    [
        ((signal.SIGTERM,), "stopped by SIGTERM; the step that it was at takes too long, as if another process hung"),
        ((signal.SIGINT, signal.SIGINT), "stopped by Ctrl-C; what was finished stays"),
    ],
)
def test_no_signal_waits_for_a_process_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signals: tuple[int, ...], said: str
) -> None:
    """What is on the disk is whole, and the other process ends when it runs again."""
    command, out = training(tmp_path, 400)
    if len(signals) == 2:
        monkeypatch.setattr(StopRequest, "hangs", lambda _: False)  # the second one has to do it
    waited = []

    def stop(numbers: list[int]) -> None:
        wait_for_steps(out)
        os.kill(numbers[1], signal.SIGSTOP)
        time.sleep(0.1)
        began = time.monotonic()
        for number in signals:
            os.kill(numbers[0], number)
            time.sleep(0.05)
        while os.waitid(os.P_PID, numbers[0], os.WEXITED | os.WNOWAIT | os.WNOHANG) is None and not late(began):
            time.sleep(0.01)
        waited.append(time.monotonic() - began)
        os.kill(numbers[1], signal.SIGCONT)

    first, second = in_processes(2, commands(command), tmp_path / "said", stop)
    assert (first.status, second.status) == (1, 1)
    assert said in first.err.splitlines()[-1]
    assert re.match("segadapt: .*ended", second.err.splitlines()[-1])  # with the first one, which may have left a note
    assert "Traceback" not in first.err + second.err
    assert waited[0] < 5  # 0.8 seconds and the ways of a busy machine; process_timeout is 600
    state = load_checkpoint(out / "stages/source/checkpoints", pytest.fail)
    assert state is not None
    assert state["step"] % 7 == 0
