"""Models of runs compared without labels: ranking, the guard, and what is predicted with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import segadapt
from segadapt.api.adapting import _executed
from segadapt.cli import app
from segadapt.core.files import read_json, write_json
from segadapt.errors import RequestError
from segadapt.evaluation.criteria import CRITERIA
from segadapt.labels import LabelSpace, distinct_colors
from segadapt.models.store import load_model, save_model
from segadapt.report import write_report
from segadapt.runs.config import build_config
from segadapt.runs.guard import THRESHOLDS, WORDS, verdict_of
from segadapt.runs.judging import judged
from segadapt.runs.ranking import data_of
from segadapt.runs.results import find_model
from segadapt.runs.run import Run
from tests.tiny import raw_config, write_folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two stages, trained and judged once."""
    folder = tmp_path_factory.mktemp("run")
    _executed(Run.open(build_config(raw_config(folder), "tiny"), folder / "run", quiet=True), None)
    return folder / "run"


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """A run that a test may change."""
    return Path(shutil.copytree(run, tmp_path / "copy"))


def judged_again(run: Path) -> dict[str, Any]:
    """Judge a run whose models changed."""
    results = {key: value for key, value in (read_json(run / "results.json") or {}).items() if key != "guard"}
    data = data_of(run)
    made, warnings = judged(run, results, data.target, data.source, "cpu", guarded=True)
    return {**made["guard"], "warnings": warnings}


# ---- the verdict ----


def criteria(**values: float) -> dict[str, float | None]:
    return {**dict.fromkeys(CRITERIA, 50.0), "kept": 1.0, **values}


def test_the_rule_has_three_answers() -> None:
    before = criteria()
    high = {name: 50.0 + limits[1] + 1 for name, limits in THRESHOLDS.items()}
    low = {name: 50.0 + limits[0] - 1 for name, limits in THRESHOLDS.items()}
    assert verdict_of(before, criteria(**high)) == "helped"
    assert verdict_of(before, criteria(**low)) == "not helped"
    assert verdict_of(before, before) != "helped"
    assert verdict_of(before, {**criteria(**high), "recoloured": None}) == "helped"
    assert verdict_of(dict.fromkeys(CRITERIA), dict.fromkeys(CRITERIA)) == "unknown"
    assert verdict_of(before, criteria(**{**high, "light": 50.0})) == "unknown"


# ---- the guard of a run ----


def test_a_run_is_judged_and_keeps_both_models(run: Path) -> None:
    found = (read_json(run / "results.json") or {})["guard"]
    assert found["verdict"] in WORDS
    assert (found["source"], found["adapted"], set(found["stages"])) == ("source", "adapt", {"source", "adapt"})
    assert all(WORDS[found["verdict"]] in card.read_text() for card in run.glob("stages/*/model_card.md"))
    assert found["recommended"] == ("adapt" if found["verdict"] == "helped" else "source")
    assert found["line"].startswith(WORDS[found["verdict"]])
    assert all((run / "stages" / name / "model.safetensors").is_file() for name in ("source", "adapt"))
    assert find_model(run) == run / "stages" / found["recommended"] / "model.safetensors"


def test_a_ruined_model_is_not_recommended(copy: Path) -> None:
    file = copy / "stages" / "adapt" / "model.safetensors"
    loaded = load_model(file)
    with torch.no_grad():
        for parameter in loaded.model.parameters():
            parameter += parameter.std().nan_to_num() * torch.randn(parameter.shape)
    save_model(file, loaded.model, loaded.space, loaded.provenance)
    (file.parent / "done.json").unlink()  # which has the checksum of the one before
    found = judged_again(copy)
    assert (found["verdict"], found["recommended"]) == ("not helped", "source")
    assert str(file) in found["warnings"][-1]
    assert segadapt.load(copy).provenance["stage"] == "source"
    assert segadapt.load(copy, stage="adapt").provenance["stage"] == "adapt"


def test_where_nothing_changed_the_source_model_stays(copy: Path) -> None:
    shutil.copy(copy / "stages/source/model.safetensors", copy / "stages/adapt/model.safetensors")
    found = judged_again(copy)
    assert found["verdict"] != "helped"
    assert found["recommended"] == "source"


def test_the_guard_can_be_switched_off(tmp_path: Path) -> None:
    raw = raw_config(tmp_path, "st", rounds=1, steps=1)
    raw["stages"]["source"]["steps"] = 1
    made = _executed(Run.open(build_config({**raw, "guard": False}, "tiny"), tmp_path / "run", quiet=True), None)
    assert "guard" not in made.raw
    assert made.result.stage == "adapt"


# ---- using what is recommended ----


def cli(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_predict_says_which_model_it_takes(copy: Path, tmp_path: Path) -> None:
    results = read_json(copy / "results.json") or {}
    results["guard"] |= {"recommended": "source", "line": "adaptation probably did not help"}
    write_json(copy / "results.json", results)
    write_folder(tmp_path / "some", 1, labels=False)
    made = cli("predict", copy, tmp_path / "some/images", "--out", tmp_path / "out")
    assert made.exit_code == 0, made.output
    assert "adaptation probably did not help; for the other one: --stage adapt" in made.output
    said = (read_json(tmp_path / "out/legend.json") or {})["model"]
    assert said["stage"] == "source"
    made = cli("predict", copy, tmp_path / "some/images", "--out", tmp_path / "other", "--stage", "adapt")
    assert "probably" not in made.output
    assert (read_json(tmp_path / "other/legend.json") or {})["model"]["stage"] == "adapt"
    with pytest.raises(RequestError, match=r"no finished stage 'adopt'; it has: source, adapt"):
        find_model(copy, "adopt")
    with pytest.raises(RequestError, match="is a model file"):
        find_model(find_model(copy), "adapt")


def test_the_report_shows_the_verdict_and_the_criteria(run: Path, tmp_path: Path) -> None:
    page = write_report(run, tmp_path / "report.html").read_text()
    assert "Judged without labels" in page
    assert (read_json(run / "results.json") or {})["guard"]["line"][1:] in page.replace("&#39;", "'")
    assert "mIoU on source images in the colours of the target" in page


# ---- ranking ----


def test_models_of_runs_are_ranked(run: Path, copy: Path) -> None:
    made = segadapt.rank([run, copy])
    assert len(made.models) == 4
    values = [model.criteria[made.criterion] for model in made.models]
    assert values == sorted(values, reverse=True)  # type: ignore[type-var]
    assert made.best.model.is_file()
    other = segadapt.rank(run, criterion="certainty")
    assert [m.criteria["certainty"] for m in other.models] == sorted(
        (m.criteria["certainty"] for m in other.models), reverse=True
    )


def test_ranking_on_a_folder_of_images(run: Path, tmp_path: Path) -> None:
    write_folder(tmp_path / "new", 2, seed=7, labels=False)
    made = cli("rank", run, "--images", tmp_path / "new/images", "--json")
    assert made.exit_code == 0, made.output
    found = json.loads(made.stdout)
    assert (found["images"], len(found["models"])) == (2, 2)
    shown = cli("rank", run, "--criterion", "light")
    assert "by 'light', best first" in shown.output
    assert "recoloured" in shown.output


def test_runs_that_cannot_be_compared_are_refused(run: Path, copy: Path, tmp_path: Path) -> None:
    held = read_json(copy / "config.json") or {}
    write_folder(tmp_path / "B", 3, seed=50, labels=False)
    held["config"]["data"]["target"]["images"] = str(tmp_path / "B/images")
    write_json(copy / "config.json", held)
    with pytest.raises(RequestError, match=r"different target images; give the images to compare on: --images FOLDER"):
        segadapt.rank([run, copy])
    assert len(segadapt.rank([run, copy], images=tmp_path / "B/images").models) == 4
    classes = tmp_path / "classes.txt"
    classes.write_text("ground\nbox\nring\n")
    held["config"]["data"]["source"]["classes"] = str(classes)
    write_json(copy / "config.json", held)
    with pytest.raises(RequestError, match=r"different classes \(ground, box, disc; ground, box, ring\)"):
        segadapt.rank([run, copy])
    with pytest.raises(RequestError, match=r"no criterion 'ligth'.*light"):
        segadapt.rank(run, criterion="ligth")
    with pytest.raises(RequestError, match=r"without a finished stage"):
        segadapt.rank(tmp_path)


def test_labels_of_the_target_are_never_opened(run: Path) -> None:
    opened = data_of(run)
    assert not opened.target.labelled
    assert all(item.label is None for item in opened.target.items)
    assert opened.source is not None
    assert opened.source.labelled
    assert opened.space.names == LabelSpace("x", ("ground", "box", "disc"), distinct_colors(3)).names
    assert isinstance(opened.target.image(0), np.ndarray)
