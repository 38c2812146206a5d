"""The rows beside a method: source-only always, the oracle where labels are given; and which model a run leaves."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import segadapt
from segadapt.cli.common import print_results
from segadapt.core.files import write_json
from segadapt.errors import RequestError
from segadapt.recipes import recipe_names
from segadapt.runs.config import load_config, resolve_folders
from segadapt.runs.results import RunResult, find_model, result_stage
from tests.tiny import write_folder

SHORT = [
    "accelerator=cpu",
    "model={name: timm:resnet10t, weights: null, arguments: {width: 16}}",
    "every.augmentation.crop=[32,32]",
    "source={steps: 2, batch_size: 2}",
]


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    """Source and target, both with masks."""
    for name, shift in (("A", 0.0), ("B", 1.0)):
        write_folder(tmp_path / name, 2, shift=shift)
    return {
        "source_images": tmp_path / "A/images",
        "source_labels": tmp_path / "A/labels",
        "target_images": tmp_path / "B/images",
    }


def row(name: str, role: str) -> dict[str, Any]:
    return {"stage": name, "role": role, "method": "", "title": name, "scores": None, "seconds": 0, "steps": 1}


@pytest.mark.parametrize("recipe", [name for name in recipe_names() if name.startswith("folders/")])
def test_every_method_of_folders_has_a_source_only_row(recipe: str) -> None:
    parts = {part: {"images": "a", "labels": "b"} for part in ("source", "oracle")} | {"target": {"images": "c"}}
    config = resolve_folders(recipe.removeprefix("folders/"), parts).config
    assert [stage.name for stage in config.stages if stage.role == "source"] == ["source"]
    assert config.stages[0].name == "source"
    rows = [row(stage.name, stage.role) for stage in config.stages]
    adapted = [stage.name for stage in config.stages if stage.role == "adapted"]
    assert result_stage({"rows": rows}) == (adapted[-1] if adapted else "source")


@pytest.mark.parametrize("method", ["dacs", "daformer", "hrda", "mic", "mpcl"])
def test_at_their_published_length_online_methods_start_from_imagenet(method: str) -> None:
    parts = {"source": {"images": "a", "labels": "b"}, "target": {"images": "c"}}
    short = resolve_folders(method, parts).config.stages
    whole = resolve_folders(method, parts, ["adapt.length=1", "adapt.short=null"]).config.stages
    assert [(stage.name, stage.initial) for stage in short] == [("source", "previous"), ("adapt", "previous")]
    assert [(stage.name, stage.initial) for stage in whole] == [("source", "previous"), ("adapt", "scratch")]
    assert [stage.name for stage in resolve_folders(method, parts, ["source=null"]).config.stages] == ["adapt"]


@pytest.mark.parametrize(
    ("roles", "chosen"),
    [
        (("source", "adapted", "oracle"), 1),
        (("adapted", "source"), 0),
        (("source", "adapted", "adapted", "source", "oracle"), 2),
        (("source", "oracle"), 0),
        (("oracle",), 0),
    ],
)
def test_the_model_of_a_run_is_the_adapted_one(tmp_path: Path, roles: tuple[str, ...], chosen: int) -> None:
    results = {"title": "t", "seed": 0, "rows": [row(f"s{n}", role) for n, role in enumerate(roles)]}
    write_json(tmp_path / "results.json", results)
    assert find_model(tmp_path) == tmp_path / f"stages/s{chosen}/model.safetensors"
    assert RunResult.of(results, tmp_path, None).model == find_model(tmp_path)


def test_a_comparison_is_not_taken_for_the_adapted_model(tmp_path: Path) -> None:
    stages = [{"name": "source", "role": "source"}, {"name": "adapt", "role": "adapted"}]
    write_json(tmp_path / "config.json", {"config": {"stages": stages}})
    write_json(tmp_path / "results.json", {"rows": [row("source", "source")]})
    with pytest.raises(RequestError, match=r"stage 'adapt' is not finished; .*resume .*stages/source/model"):
        find_model(tmp_path)


def test_the_demo_names_the_adapted_model() -> None:
    stages = load_config("toy/cbst").stages
    assert [stage.role for stage in stages] == ["source", "adapted", "oracle"]
    assert result_stage({"rows": [row(stage.name, stage.role) for stage in stages]}) == "adapt"


def test_an_oracle_between_folders(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RequestError, match=r"^method 'oracle' trains on .*--target-labels FOLDER"):
        segadapt.adapt(method="oracle", **folders, out=tmp_path / "run")
    with pytest.raises(RequestError, match=r"^stage 'adapt' trains on .*--target-labels FOLDER"):
        segadapt.plan(None, ["adapt={}", "adapt.method=oracle", "adapt.steps=1"], method="dacs", **folders)
    masks = tmp_path / "B/labels"
    result = segadapt.adapt(
        None, [*SHORT, "oracle.steps=2"], method="oracle", **folders, target_labels=masks, out=tmp_path / "run"
    )
    assert [(s.stage, s.role) for s in result.stages] == [("source", "source"), ("oracle", "oracle")]
    assert result.result.stage == "source"
    print_results(result)
    assert "stages/oracle/model.safetensors" in capsys.readouterr().out


def test_labels_of_the_target_that_nothing_learns_are_not_opened(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are not even looked for: the folder of the masks is gone before the run starts."""
    masks = tmp_path / "B/labels"
    shutil.rmtree(masks)
    settings = [*SHORT, "adapt={steps: 1, epochs: null, rounds: 1, batch_size: 2}"]
    settings.append("data.labelled=null")
    segadapt.adapt(None, settings, method="cbst", **folders, target_labels=masks, out=tmp_path / "run")
    assert "the labels of the target are not opened" in " ".join(capsys.readouterr().err.split())
