"""Studies: what a file may say, which runs follow from it, and that they can stop, fail and go on."""

from __future__ import annotations

import json
import re
import signal
import sys
from multiprocessing import Pipe
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError
from typer.testing import CliRunner

from segadapt.bench import study_runs
from segadapt.bench.study import Job, Row, Study, config_of, finished, jobs_of, read_study, with_settings
from segadapt.bench.study_runs import _ready, _reasons, run_study
from segadapt.bench.study_tables import ablations_of, write_tables
from segadapt.cli import app
from segadapt.core.files import write_json
from segadapt.errors import RequestError, Stopped
from segadapt.runs.config import load_config
from tests.bench.test_table import row, write_run
from tests.tiny import raw_config

ROOT = Path(__file__).parents[2]
ROWS: dict[str, Any] = {"source_only": None, "cbst": {"set": ["adapt.rounds=2"]}, "st": {}}


def study_file(folder: Path, **content: Any) -> Path:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({"tasks": {"toy": {}}, "rows": ROWS, **content}, sort_keys=False))
    return path


def study(rows: dict[str, Any], tasks: dict[str, Any] | None = None, seeds: tuple[int, ...] = (0,)) -> Study:
    return Study(seeds=seeds, tasks=tasks or {"toy": {}}, rows={"source_only": {}, **rows})


# ---- files ----


def test_a_file_is_read_with_its_defaults(tmp_path: Path) -> None:
    read = read_study(study_file(tmp_path, tasks={"toy": None, "toy_camvid": {"rows": ["source_only", "st"]}}))
    assert read.seeds == (0, 1, 2)
    assert read.rows["source_only"] == Row()
    assert read.rows["cbst"].set == ("adapt.rounds=2",)
    assert read.rows_of("toy") == ["source_only", "cbst", "st"]
    assert read.rows_of("toy_camvid") == ["source_only", "st"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"rows": {"st": {}}}, "has no row 'source_only', which the others start from"),
        ({"rows": ["source_only"]}, "'rows' input should be a valid dictionary"),
        ({"rows": {**ROWS, "x": {"recipes": "st"}}}, r"unknown key 'rows\.x\.recipes'"),
        ({"rows": {**ROWS, "x": {"of": "cbts"}}}, r"row 'x' is of 'cbts', which is no row \(did you mean 'cbst'\?\)"),
        ({"rows": {**ROWS, "x": {"of": "x"}}}, "row 'x' is of 'x', which is an ablation itself"),
        ({"rows": {**ROWS, "x": {"of": "st"}, "y": {"of": "x"}}}, "row 'y' is of 'x', which is an ablation itself"),
        ({"rows": {**ROWS, "x": {"of": "st", "paper": "plus"}}}, r"'rows\.x\.paper' input should be"),
        ({"tasks": {}}, "'tasks' dictionary should have at least 1 item"),
        ({"tasks": {"toy": {"rows": ["source_only", "stt"]}}}, r"names no row 'stt' \(did you mean 'st'\?\)"),
        ({"tasks": {"toy": {"rows": ["st"]}}}, "task 'toy' has row 'st' without 'source_only', which it needs"),
        (
            {"rows": {**ROWS, "x": {"of": "st"}}, "tasks": {"toy": {"rows": ["source_only", "x"]}}},
            "task 'toy' has row 'x' without 'st', which it needs",
        ),
        ({"tasks": {"a/toy": {}, "b/toy": {}}}, "two tasks have the same last name"),
        ({"seeds": []}, "'seeds' tuple should have at least 1 item"),
        ({"seeds": [1, 1]}, "'seeds' names a seed twice"),
        ({"runs": 3}, "unknown key 'runs'"),
    ],
)
def test_wrong_files_are_refused_with_the_reason(tmp_path: Path, content: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        read_study(study_file(tmp_path, **content))


@pytest.mark.parametrize(("text", "message"), [("- a", "is not a mapping"), ("a: [", "is not valid YAML")])
def test_files_that_are_no_mappings_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(RequestError, match=message):
        read_study(tmp_path / "x.yaml")
    with pytest.raises(RequestError, match="no study file"):
        read_study(tmp_path / "y.yaml")


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("study*.yaml")), ids=lambda path: path.stem)
def test_every_row_of_the_kept_studies_is_a_configuration(path: Path) -> None:
    kept = read_study(path)
    for job in jobs_of(kept):
        config = config_of(kept, job, Path("out"))
        assert config.seed == job.seed
        assert all(stage.name != "source" for stage in config.stages) or len(config.stages) == 1
    larger = with_settings(kept, ["model.name=deeplabv2_resnet50"])
    job = jobs_of(kept)[0]
    assert config_of(larger, job, Path("out")).model.name == "deeplabv2_resnet50"


# ---- runs ----


def test_runs_come_by_row_then_seed_then_task() -> None:
    made = study({"st": {}}, {"a": {}, "b": {"rows": ["source_only"]}}, seeds=(3, 5))
    assert [str(job) for job in jobs_of(made)] == [
        "a/source_only, seed 3",
        "b/source_only, seed 3",
        "a/source_only, seed 5",
        "b/source_only, seed 5",
        "a/st, seed 3",
        "a/st, seed 5",
    ]


def test_rows_start_from_the_source_model_of_their_seed(tmp_path: Path) -> None:
    made = study(
        {
            "bcl": {"title": "BCL's \"own\": 'a'"},
            "control": {"recipe": "source_only", "set": ["source.steps=7", "source.role=adapted"]},
            "raw": {"recipe": "proda", "of": "proda", "set": ["stage2=null", "stage3=null", "stage1.weights=none"]},
            "proda": {},
        }
    )
    out = tmp_path / "a folder: 'with' \"signs\" # and {more}"
    model = str(out / "toy/source_only/seed0/stages/source/model.safetensors")
    configs = {name: config_of(made, Job("toy", name, 0), out) for name in made.rows}
    assert configs["source_only"] == load_config("toy/source_only", ["seed=0"])
    assert [(s.name, s.steps, s.initial) for s in configs["control"].stages] == [("source", 7, model)]
    bcl = configs["bcl"].stages
    assert [s.name for s in bcl] == ["adapt", "distilled"]
    assert (bcl[0].initial, bcl[-1].title) == (model, "BCL's \"own\": 'a'")
    assert bcl[0].title == load_config("toy/bcl").stages[1].title
    assert [s.name for s in configs["raw"].stages] == ["warmup", "stage1"]
    assert configs["raw"].stages[0] == configs["proda"].stages[0], "an ablation takes over equal stages"
    unchanged = {"initial", "title"}
    for name in ("bcl", "proda"):
        own = [s.model_dump(exclude=unchanged) for s in load_config(f"toy/{name}").stages if s.name != "source"]
        assert [s.model_dump(exclude=unchanged) for s in configs[name].stages] == own


def test_settings_of_a_task_are_below_those_of_a_row_and_above_the_recipe() -> None:
    made = study({"st": {"set": ["adapt.rounds=2"]}}, {"toy": {"set": ["adapt.rounds=5", "adapt.batch_size=6"]}})
    with pytest.raises(RequestError, match="no setting or stage 'adapt'"):
        config_of(made, Job("toy", "source_only", 0), Path("out"))
    made = with_settings(study({"st": {"set": ["data.cache_mb=9"]}}), ["data.cache_mb=5", "data.workers=1"])
    data = config_of(made, Job("toy", "st", 0), Path("out")).data
    assert (data.cache_mb, data.workers) == (9, 1)
    with pytest.raises(ValidationError):
        Study(seeds=(0,), tasks={}, rows={})


def test_methods_of_plugins_are_rows_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from segadapt.methods.registry import METHODS

    monkeypatch.setattr(METHODS, "_added", {})
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    monkeypatch.delitem(sys.modules, "own_method", raising=False)
    (name,) = _registered_by(ROOT / "examples/own_method.py")
    made = read_study(study_file(tmp_path, rows={"source_only": {}, name: {}}, plugins=["own_method"]))
    config = config_of(made, Job("toy", name, 0), tmp_path)
    assert [(s.name, s.method) for s in config.stages] == [("adapt", name)]
    assert config.plugins == ("own_method",)
    monkeypatch.delitem(sys.modules, "own_method", raising=False)


def _registered_by(path: Path) -> list[str]:
    return re.findall(r"register_method\(\s*\"(\w+)\"", path.read_text())


def finish(out: Path, *jobs: Job, miou: float = 30.0, **changes: Any) -> None:
    """Write the files of finished runs of one stage."""
    for job in jobs:
        write_run(job.folder(out), [row(job.row, miou, **changes)])


def test_runs_wait_for_what_they_start_from(tmp_path: Path) -> None:
    made = study({"st": {}, "x": {"recipe": "st", "of": "st"}}, seeds=(0, 1))
    jobs = jobs_of(made)
    assert [str(j) for j in _ready(jobs, tmp_path, made, 9)] == ["toy/source_only, seed 0", "toy/source_only, seed 1"]
    assert len(_ready(jobs, tmp_path, made, 1)) == 1
    assert _ready(jobs, tmp_path, made, 0) == []
    finish(tmp_path, Job("toy", "source_only", 1))
    rest = [job for job in jobs if job.row != "source_only"]
    assert _ready(rest, tmp_path, made, 9) == [Job("toy", "st", 1)]
    finish(tmp_path, Job("toy", "st", 1))
    assert _ready(rest[2:], tmp_path, made, 9) == [Job("toy", "x", 1)]


def test_a_run_is_finished_with_the_result_of_its_last_stage(tmp_path: Path) -> None:
    job = Job("toy", "st", 0)
    assert not finished(job, tmp_path)
    write_run(job.folder(tmp_path), [row("st", 1.0)], planned=[row("st", 1.0), row("st", 1.0, stage="next")])
    assert not finished(job, tmp_path)
    finish(tmp_path, job)
    assert finished(job, tmp_path)


def test_each_missing_run_has_its_reason(tmp_path: Path) -> None:
    made = study({"st": {}, "cbst": {}, "x": {"recipe": "st", "of": "st"}}, seeds=(0, 1))
    finish(tmp_path, Job("toy", "source_only", 0), Job("toy", "source_only", 1))
    write_json(Job("toy", "cbst", 1).folder(tmp_path) / "config.json", {"config": {"stages": [{}, {}]}})
    reasons = _reasons(made, tmp_path, {Job("toy", "st", 0): "no memory"})
    table = write_tables(made, tmp_path, reasons)["toy"]
    assert table["left_out"] == {
        "st, seed 0": "no memory",
        "st, seed 1": "not run yet",
        "cbst, seed 0": "not run yet",
        "cbst, seed 1": "stopped before its end",
        "x, seed 0": "needs 'st', which failed",
        "x, seed 1": "not run yet",
    }
    assert json.loads((tmp_path / "toy/table.json").read_text()) == table
    assert "- no memory: `st` (seed 0)" in (tmp_path / "toy/table.md").read_text()


# ---- tables ----


def test_effects_are_those_of_the_stage_that_the_ablation_ends_with(tmp_path: Path) -> None:
    made = study({"two": {}, "x": {"of": "two", "part": "a part", "paper": "+", "set": ["a.b=1"]}}, seeds=(0, 1, 2, 3))
    for seed, (first, last, without) in enumerate([(40, 90, 38), (41, 90, 36), (45, 90, 44)]):
        stages = [row("m", first, stage="one"), row("m", last, stage="two", title="second")]
        write_run(tmp_path / f"two/seed{seed}", stages)
        write_run(tmp_path / f"x/seed{seed}", [row("m", without, stage="one")])
    write_run(tmp_path / "x/seed3", [row("m", 10, stage="one")])  # without its row, it has no effect
    (found,) = ablations_of(made, ["x"], tmp_path)
    assert found["effects"] == {"0": 2, "1": 5, "2": 1}
    assert (found["row"], found["of"], found["part"], found["paper"]) == ("x", "two", "a part", "+")
    assert found["settings"] == ["a.b=1"]
    assert found["mean"] == pytest.approx(8 / 3)
    assert found["spread"] == pytest.approx((((2 - 8 / 3) ** 2 + (5 - 8 / 3) ** 2 + (1 - 8 / 3) ** 2) / 2) ** 0.5)
    assert found["sign"] == "+"
    assert found["miou"] == pytest.approx(32)


def test_ablations_without_a_stage_in_common_are_left_out(tmp_path: Path) -> None:
    made = study({"st": {}, "x": {"of": "st"}, "y": {"of": "st"}})
    write_run(tmp_path / "st/seed0", [row("st", 30)])
    write_run(tmp_path / "x/seed0", [row("st", 30, stage="other")])
    assert ablations_of(made, ["x", "y"], tmp_path) == []


def test_a_run_that_stopped_before_its_end_has_no_effect_yet(tmp_path: Path) -> None:
    """It would be compared at an earlier stage, which is the same with the part and without it."""
    made = study({"two": {}, "x": {"of": "two"}})
    stages = [row("m", 40, stage="one"), row("m", 50, stage="two")]
    write_run(tmp_path / "two/seed0", stages)
    write_run(tmp_path / "x/seed0", stages)
    results = json.loads((tmp_path / "x/seed0/results.json").read_text())
    write_json(tmp_path / "x/seed0/results.json", {**results, "rows": results["rows"][:1]})
    assert ablations_of(made, ["x"], tmp_path) == []


def test_the_last_finished_stage_is_the_result_until_the_last_one_is_there(tmp_path: Path) -> None:
    made = study({"two": {}})
    for seed in (0, 1):
        write_run(tmp_path / f"toy/two/seed{seed}", [row("m", 40, stage="one"), row("m", 50, stage="two")])
    path = tmp_path / "toy/two/seed0/results.json"
    results = json.loads(path.read_text())
    whole = results["rows"]

    def result_stages() -> list[str]:
        return [r["stage"] for r in write_tables(made, tmp_path, {})["toy"]["rows"] if r["result"]]

    for seed in (0, 1):
        write_json(tmp_path / f"toy/two/seed{seed}/results.json", {**results, "rows": whole[:1]})
    assert result_stages() == ["one"]
    write_json(path, results)
    assert result_stages() == ["two"]


def test_a_table_has_the_seeds_that_were_run_no_ablations_among_its_rows_and_the_oracle_last(tmp_path: Path) -> None:
    rows = {"oracle": {}, "st": {}, "x": {"of": "st", "recipe": "st"}}
    made = study(rows, {"toy": {}, "toy_camvid": {}}, seeds=(0, 1, 2))
    finish(tmp_path, *(Job("toy", name, 1) for name in ("source_only", "st", "x")), Job("toy", "st", 2))
    finish(tmp_path, Job("toy", "oracle", 1), role="oracle")
    tables = write_tables(made, tmp_path, {})
    assert tables["toy"]["seeds"] == [1, 2]
    assert [r["method"] for r in tables["toy"]["rows"]] == ["source_only", "st", "oracle"]
    assert [found["row"] for found in tables["toy"]["ablations"]] == ["x"]
    assert tables["toy_camvid"]["rows"] == []
    assert not (tmp_path / "toy_camvid").exists()


# ---- processes ----


def test_a_study_that_gets_a_signal_writes_its_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def interrupted(*_: Any) -> None:
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(study_runs, "_started", interrupted)
    finish(tmp_path, Job("toy", "source_only", 0))
    with pytest.raises(Stopped, match="SIGTERM"):
        run_study(study({"st": {}}), tmp_path, {})
    assert signal.getsignal(signal.SIGTERM) is before
    assert json.loads((tmp_path / "toy/table.json").read_text())["left_out"] == {"st, seed 0": "not run yet"}


def test_wrong_settings_and_seeds_are_found_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"the study has no seed 4; its seeds: 0"):
        run_study(study({}), tmp_path, {}, seeds=[0, 4])
    with pytest.raises(RequestError, match="no setting or stage 'adopt'"):
        run_study(study({"st": {"set": ["adopt.rounds=2"]}}), tmp_path, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("closed", [False, True])
def test_a_run_sends_why_it_failed_even_when_nobody_listens(tmp_path: Path, closed: bool) -> None:
    here, there = Pipe(duplex=False)
    made = study({}, {"camvid_day_dusk": {}})
    if closed:
        here.close()
    study_runs._run(made, Job("camvid_day_dusk", "source_only", 0), tmp_path, {"camvid": str(tmp_path / "x")}, there)
    if not closed:
        assert str(tmp_path / "x") in here.recv()


def test_a_long_complaint_does_not_fill_the_pipe() -> None:
    here, there = Pipe(duplex=False)
    study_runs._send(there, "x" * 10_000_000)
    assert set(here.recv()) == {"x"}


class Clock:
    """Time that stands still until a run has logged its first steps, and is up then."""

    def __init__(self, log: Path) -> None:
        self.log, self.up = log, False

    def monotonic(self) -> float:
        return 1e6 if self.up else 0.0

    def wait(self, processes: Any, left: float | None) -> None:
        """Stand in for ``multiprocessing.connection.wait``."""
        wait(processes, 0.02)
        self.up = self.up or (self.log.is_file() and '"step"' in self.log.read_text())


@pytest.fixture
def tiny(tmp_path: Path) -> Study:
    """Return a study of a task of one's own, with a row that fails, a long row, and an ablation that lacks nothing."""
    task = tmp_path / "a task"
    task.mkdir()
    for method in ("source_only", "st"):
        (task / f"{method}.yaml").write_text(yaml.safe_dump(raw_config(tmp_path, method), sort_keys=False))
    longer = ["source.steps=200", "source.checkpoint_every=1000", "source.role=adapted"]
    rows = {
        "source_only": {},
        "broken": {"recipe": "source_only", "set": [f"data.target.images={tmp_path / 'nowhere'}"]},
        "needs_it": {"recipe": "st", "of": "broken"},
        "control": {"recipe": "source_only", "set": longer},
        "st": {"set": ["adapt.rounds=1"]},
        "same": {"recipe": "st", "of": "st", "part": "nothing", "paper": "+", "set": ["adapt.rounds=1"]},
    }
    return read_study(study_file(tmp_path, tasks={str(task): {}}, rows=rows, seeds=[1]))


def test_a_study_stops_in_time_names_what_fails_and_goes_on(
    tiny: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    folder = out / "a task"
    (table,) = run_study(tiny, out, {}, minutes=0).values()
    assert len(table["left_out"]) == 6
    assert not out.exists(), "0 minutes start nothing"

    imported_by_a_run = ("lightning_fabric", "torchmetrics", "torch.utils.tensorboard")  # there is no GPU to look for
    monkeypatch.setattr(study_runs, "_PRELOAD", (*study_runs._PRELOAD, *imported_by_a_run))
    clock = Clock(folder / "control/seed1/log.jsonl")
    said: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(study_runs, "wait", clock.wait)
        patch.setattr(study_runs, "time", clock)
        (table,) = run_study(tiny, out, {}, workers=2, minutes=1, say=said.append).values()
    assert table["left_out"]["control, seed 1"] == "stopped before its end"
    assert "source_only" in [r["method"] for r in table["rows"]]
    assert list((folder / "control/seed1/stages/source/checkpoints").iterdir())

    (table,) = run_study(tiny, out, {}, workers=8, say=said.append).values()
    steps = [json.loads(line) for line in clock.log.read_text().splitlines()]
    assert [e["step"] for e in steps if e["event"] == "step"].count(20) == 1, "the run went on where it stopped"
    assert [(r["method"], r["control"]) for r in table["rows"]] == [
        ("source_only", False),
        ("control", True),
        ("st", False),
    ]
    assert [r["steps"] for r in table["rows"]] == [6, 200, 4]
    (ablation,) = table["ablations"]
    assert (ablation["effects"], ablation["sign"]) == ({"1": 0.0}, "?")
    assert not (folder / "same/seed1/log.jsonl").exists(), "the equal stage was taken over"
    assert set(table["left_out"]) == {"broken, seed 1", "needs_it, seed 1"}
    assert "nowhere" in table["left_out"]["broken, seed 1"]
    assert table["left_out"]["needs_it, seed 1"] == "needs 'broken', which failed"
    assert any(line.startswith(f"{tmp_path / 'a task'}/broken, seed 1: ") and "nowhere" in line for line in said)
    assert json.loads((folder / "table.json").read_text()) == table

    # nothing is left to do; a row that was changed afterwards is named
    models = {path: path.stat().st_mtime_ns for path in out.rglob("model.safetensors")}
    rows = {name: row for name, row in tiny.rows.items() if "broken" not in (name, row.of)}
    changed = tiny.model_copy(update={"rows": {**rows, "st": Row(set=("adapt.rounds=3",))}})
    again: list[str] = []
    (table,) = run_study(changed, out, {}, workers=8, say=again.append).values()
    assert again[0] == "4 runs, 4 done before"
    (warning,) = again[1:]
    assert "st, seed 1: done with other settings (adapt.rounds); remove" in warning
    assert table["left_out"] == {}
    assert {path: path.stat().st_mtime_ns for path in out.rglob("model.safetensors")} == models


def test_the_command_says_what_is_wrong_and_shows_the_tables(tmp_path: Path) -> None:
    file = study_file(tmp_path, rows={"source_only": {}}, seeds=[0])
    finish(tmp_path / "out", Job("toy", "source_only", 0))
    shown = CliRunner().invoke(app, ["bench", "study", str(file), "--out", str(tmp_path / "out"), "--minutes", "0"])
    assert shown.exit_code == 0, shown.output
    assert "1 runs, 1 done before" in shown.output
    assert "| SOURCE_ONLY |" in shown.output
    made = CliRunner().invoke(app, ["bench", "study", str(file), "--out", str(tmp_path / "out"), "--json"])
    assert json.loads(made.output)["toy"]["rows"][0]["method"] == "source_only"
    options = ["--out", str(tmp_path / "out"), "--set", "data.cache_mb=many"]
    wrong = CliRunner().invoke(app, ["bench", "study", str(file), *options])
    assert isinstance(wrong.exception, RequestError)
    assert "cache_mb" in str(wrong.exception)
