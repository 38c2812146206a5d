"""The plan of a run: the same request as adapt, and an honest cost."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import segadapt
import segadapt.api.planning as planning
from segadapt.cli import adapting, app
from segadapt.cli import planning as command
from segadapt.methods.best import Best
from segadapt.runs import plan as plan_module
from segadapt.runs.budget import METHOD
from segadapt.runs.config import build_config, resolve_folders
from segadapt.runs.plan import advice, plan_run
from tests.tiny import raw_config, write_folder

OF_THE_RUN = {"out", "stage", "reuse", "quiet", "accept", "yes"}
"""Options of adapt that say where a run goes, and not what it is."""


@pytest.mark.parametrize(
    ("adapt", "plan"), [(segadapt.adapt, segadapt.plan), (adapting.adapt, command.plan)], ids=["python", "command"]
)
def test_plan_takes_what_adapt_takes(adapt: Any, plan: Any) -> None:
    of_adapt, of_plan = inspect.signature(adapt).parameters, inspect.signature(plan).parameters
    assert set(of_adapt) - set(of_plan) <= OF_THE_RUN
    assert [name for name in of_plan if name in of_adapt] == [name for name in of_adapt if name in of_plan]


def test_the_plan_of_two_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "A", 2)
    folders = [f"--source-{what}={tmp_path / 'A' / what}" for what in ("images", "labels")]
    target = f"--target-images={tmp_path / 'A/images'}"
    shown = CliRunner().invoke(app, ["plan", *folders, target, "--no-measure", "source.steps=7"])
    assert shown.exit_code == 0, shown.output
    assert shown.output.startswith("chosen for these data, this machine; a setting of your own counts more:")
    assert f"method  {METHOD}: " in shown.output
    assert f"folders/{METHOD}" in shown.output
    assert "7" in shown.output
    refused = CliRunner().invoke(app, ["plan", *folders])
    assert "--target-images is missing" in str(refused.exception)
    seen: dict[str, Any] = {}
    monkeypatch.setattr(planning, "plan_run", lambda config, *rest: seen.update(config=config) or {})
    segadapt.plan(
        source_images=tmp_path / "A/images",
        source_labels=tmp_path / "A/labels",
        target_images=tmp_path / "B",
        method="cbst",
        overrides="source.steps=7",
        seed=3,
    )
    parts = {
        "source": {"images": str(tmp_path / "A/images"), "labels": str(tmp_path / "A/labels")},
        "target": {"images": str(tmp_path / "B")},
    }
    assert seen["config"] == resolve_folders("cbst", parts, ["source.steps=7", "seed=3"]).config


def test_the_cost_has_steps_passes_and_scores_without_the_first_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps of 100 s at first and 1 s later; images of 10 s: 6 + 8 steps, 3 test images a round, 6 target images."""
    clock = {"now": 0.0, "steps": 0}

    def step(*_: Any) -> None:
        clock["now"] += 100.0 if clock["steps"] == 0 else 1.0
        clock["steps"] += 1

    def predict(*_: Any) -> None:
        clock["now"] += 10.0

    def timed(loop: Any, *given: Any) -> Any:
        clock["steps"] = 0
        return real(loop, *given)

    real = plan_module.measured
    monkeypatch.setattr(plan_module.Loop, "step", step)
    monkeypatch.setattr(plan_module, "measured", timed)
    monkeypatch.setattr(plan_module, "predict_labels", predict)
    monkeypatch.setattr(plan_module.time, "perf_counter", lambda: clock["now"])
    planned = plan_run(build_config(raw_config(tmp_path, "cbst"), "tiny"), {})
    source, adapt = planned["stages"]
    assert source["step_seconds"] == adapt["step_seconds"] == 1.0
    assert source["minutes"] * 60 == pytest.approx(6 + 3 * 10)
    assert adapt["minutes"] * 60 == pytest.approx(2 * (4 + 6 * 10 + 3 * 10))
    assert planned["minutes"] == pytest.approx(source["minutes"] + adapt["minutes"])
    assert planned["advice"] == ""


def test_steps_on_the_source_alone_count_by_their_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first 3 of 4 steps of ``best`` take 1 s, the last one 5 s."""
    clock = {"now": 0.0}

    def step(loop: Any, *_: Any) -> None:
        clock["now"] += 1.0 if getattr(loop.method.config, "source_share", 1) else 5.0

    monkeypatch.setattr(plan_module.Loop, "step", step)
    monkeypatch.setattr(plan_module, "around_the_steps", lambda *_: 0.0)
    monkeypatch.setattr(plan_module.time, "perf_counter", lambda: clock["now"])
    monkeypatch.setattr(Best, "after_step", lambda *_: None)
    config = build_config(raw_config(tmp_path, "best", test=False, source_share=0.75), "tiny")
    assert plan_run(config, {})["stages"][1]["step_seconds"] == 0.75 * 1 + 0.25 * 5


def test_a_long_run_is_offered_a_shorter_one() -> None:
    parts = {"source": {"images": "a", "labels": "b"}, "target": {"images": "c"}}
    config = resolve_folders("daformer", parts).config
    rows = [
        {"name": "source", "minutes": 20.0, "step_seconds": 1.0},
        {"name": "adapt", "minutes": 160.0, "step_seconds": 12.0},
    ]
    line = advice(config, rows, 180.0)
    assert line.startswith(
        "3.0 hours on this machine, 12.0 s a step in stage 'adapt'; about an hour with --length 0.005,"
    )
    assert advice(config, rows, 60.0) == ""
    rows[0]["minutes"] = 170.0
    assert "--length" not in advice(config, rows, 330.0)
