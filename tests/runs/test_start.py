"""Runs that start from a given model: nothing of the source is needed, and what needs it says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import segadapt
from segadapt.core.files import read_json
from segadapt.data.bands import BandReader
from segadapt.data.scaling import Range
from segadapt.errors import RequestError
from segadapt.models.store import load_model, save_model
from segadapt.runs.config import RunConfig, build_config, load_config, resolve, resolve_folders
from segadapt.runs.fingerprint import fingerprints_of
from segadapt.runs.networks import Networks
from segadapt.runs.opening import open_data
from segadapt.runs.plan import plan_run
from segadapt.runs.run import Run
from segadapt.runs.start import known_of, methods_without_source, started
from tests.tiny import raw_config

FREE = ["st", "crst_lrent", "proda", "cpsl", "distill", "mpcl", "best"]
"""One method of each kind."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders, and in ``run`` a model that was trained on the source."""
    folder = tmp_path_factory.mktemp("world")
    raw = raw_config(folder, "source_only")
    Run.open(build_config(raw, "tiny"), folder / "run", quiet=True).execute(pictures=False)
    return folder


def model_of(world: Path) -> Path:
    return world / "run" / "stages" / "source" / "model.safetensors"


def config_of(world: Path, method: str, source: bool = False, **adapt: Any) -> RunConfig:
    """A run of a few steps from the model."""
    raw = raw_config(world, method, **adapt)
    if not source:
        raw["data"]["source"] = None
    told = {**raw, "start": str(model_of(world))}
    return build_config(started(raw, told, "tiny")[0], "tiny")


def folders(world: Path, method: str, *overrides: str) -> Any:
    """The request that the command makes of --model and --target-images."""
    data = {"target": {"images": str(world / "target" / "images")}}
    return resolve_folders(method, data, [f"start={model_of(world)}", *overrides])


@pytest.mark.parametrize("method", FREE)
def test_adapts_a_model_without_source(world: Path, tmp_path: Path, method: str) -> None:
    config = config_of(world, method, **({"threshold": 0.2} if method == "distill" else {}))
    run = Run.open(config, tmp_path, quiet=True)
    results = run.execute(pictures=False)
    given, adapted = results["rows"]
    before = read_json(world / "run" / "results.json")["rows"][0]
    assert given["role"] == "source"
    assert given["steps"] == 0
    assert given["scores"] == before["scores"]
    assert adapted["role"] == "adapted"
    one, other = (load_model(tmp_path / "stages" / stage / "model.safetensors") for stage in ("source", "adapt"))
    start = load_model(model_of(world)).model.state_dict()
    assert all(torch.equal(value, start[key]) for key, value in one.model.state_dict().items())
    assert any(not torch.equal(value, start[key]) for key, value in other.model.state_dict().items())
    assert other.space.names == load_model(model_of(world)).space.names


def test_the_list_of_methods_is_that_of_those_that_do() -> None:
    assert set(methods_without_source()) >= {"cbst", "dacs", "daformer", "hrda", "mic", *FREE} - {"distill"}
    assert not {"source_only", "adaptseg", "bcl", "cbst_sp", "given", "oracle"} & set(methods_without_source())


@pytest.mark.parametrize("method", ["source_only", "adaptseg", "bcl", "st_sp", "cbst_sp"])
def test_what_needs_the_source_names_what_does_not(world: Path, method: str) -> None:
    with pytest.raises(RequestError, match=rf"'{method}.*source images.*--method can be st, cbst, "):
        folders(world, method)


def test_warm_up_on_the_source_is_left_out(world: Path) -> None:
    found = folders(world, "proda")
    assert [stage.name for stage in found.config.stages] == ["source", "stage1", "stage2", "stage3"]
    assert found.config.stages[1].initial == "previous"
    assert any("'warmup'" in note and "left out" in note for note in found.notes)
    assert found.config.data.source is None


def test_source_terms_are_left_out_and_said(world: Path) -> None:
    found = folders(world, "mic")
    note, risk = found.notes
    assert note == "stage 'adapt' has feature_distance=0.0 and rare_temperature=null, as there are no source images"
    assert risk.startswith("stage 'adapt': MIC labels while it trains, and without source images")
    assert not any("labels while it trains" in note for note in folders(world, "cbst").notes)
    assert found.config.stages[1].feature_distance == 0
    with pytest.raises(RequestError, match=r"adapt.feature_distance=0\.0"):
        known_of(folders(world, "mic", "adapt.feature_distance=0.1").config)
    with pytest.raises(RequestError, match=r"masked looks at source images.*adapt\.masked=\"target\""):
        known_of(folders(world, "mic", "adapt.masked=both").config)


def test_a_given_model_takes_the_place_of_the_source_stage(world: Path) -> None:
    """With source images every term stays."""
    config = config_of(world, "mic", source=True)
    assert known_of(config) is None
    assert [(stage.name, stage.method) for stage in config.stages] == [("source", "given"), ("adapt", "mic")]
    assert config.stages[1].feature_distance > 0
    assert config.stages[1].initial == "previous"


def test_published_recipes_start_from_it_too(world: Path) -> None:
    published = "gta5_cityscapes/daformer"  # from ImageNet weights, without a source stage
    changes = [f"start={model_of(world)}", "data.source=null"]
    assert [stage.method for stage in load_config(published).stages] == ["daformer"]
    assert [(s.method, s.initial) for s in load_config(published, changes).stages] == [
        ("given", str(model_of(world))),
        ("daformer", "previous"),
    ]


def test_without_a_model_something_has_to_be_the_source(world: Path) -> None:
    data = {"target": {"images": str(world / "target" / "images")}}
    with pytest.raises(RequestError, match="stage 'source': method 'source_only' trains on source images"):
        known_of(resolve_folders("cbst", data).config)
    with pytest.raises(RequestError, match="starts from a model file, and stage 'adapt' starts from 'previous'"):
        known_of(resolve_folders("cbst", data, ["source=null"]).config)
    given = [f"source={{method: given, initial: {world / 'gone.safetensors'}, short: null}}"]
    with pytest.raises(RequestError, match=r"gone\.safetensors' is not there.*stages/source/model\.safetensors"):
        known_of(resolve_folders("cbst", data, given).config)


def test_size_inference_and_crop_are_those_of_the_model(world: Path, tmp_path: Path) -> None:
    loaded = load_model(model_of(world))
    known = {
        "size": [24, 48],
        "inference": {"flip": True, "align_corners": True},
        "settings": {"augmentation": {"crop": [24, 32]}},
    }
    save_model(tmp_path / "m.safetensors", loaded.model, loaded.space, {**loaded.provenance, **known})
    data = {part: {"images": str(world / "target" / "images")} for part in ("target", "test")}
    config = resolve_folders("cbst", data, [f"start={tmp_path / 'm.safetensors'}"]).config
    assert config.data.target.size == config.data.test_size == (24, 48)
    assert config.evaluation.flip
    adapt = config.stages[1]
    assert adapt.augmentation.crop == (24, 32)
    assert adapt.inference.align_corners
    changed = resolve_folders("cbst", data, [f"start={tmp_path / 'm.safetensors'}", "data.target.size=40"]).config
    assert changed.data.target.size == 40
    assert resolve("toy/cbst").config.start is None


def test_images_are_read_as_the_model_reads_them(world: Path, tmp_path: Path) -> None:
    loaded = load_model(model_of(world))
    reader = BandReader((3, 2, 1), Range((0.0,) * 3, (127.0,) * 3), "uint8")
    file = tmp_path / "m.safetensors"
    save_model(file, loaded.model, loaded.space, {**loaded.provenance, "input": reader.to_dict()})
    data = {"target": {"images": str(world / "target" / "images")}}
    config = resolve_folders("cbst", data, [f"start={file}"]).config
    opened = open_data(config.data, {}, tmp_path, None, known_of(config))
    plain = folders(world, "cbst").config
    usual = open_data(plain.data, {}, tmp_path, None, known_of(plain))
    assert usual.space.names == opened.space.names == loaded.space.names
    assert (opened.training.target.image(0)[..., 0].astype(int) >= usual.training.target.image(0)[..., 2]).all()


def test_another_model_is_another_run(world: Path, tmp_path: Path) -> None:
    loaded = load_model(model_of(world))
    file = tmp_path / "m.safetensors"
    found = []
    for factor in (1.0, 2.0):
        with torch.no_grad():
            list(loaded.model.parameters())[-1].mul_(factor)
        save_model(file, loaded.model, loaded.space, loaded.provenance)
        data = {"target": {"images": str(world / "target" / "images")}}
        config = resolve_folders("cbst", data, [f"start={file}"]).config
        opened = open_data(config.data, {}, tmp_path, None, known_of(config))
        found.append(fingerprints_of(config, opened, Networks(config, opened.space, {}, tmp_path)))
    assert found[0].keys() == found[1].keys() == {"source", "adapt"}
    assert all(found[0][name] != found[1][name] for name in found[0])


def test_a_plan_counts_no_step_of_the_given_model(world: Path) -> None:
    planned = plan_run(config_of(world, "mic"), {})
    assert [row["steps"] for row in planned["stages"]] == [0, 4]
    assert planned["data"]["source"] == 0
    assert planned["minutes"] > 0


def test_two_folders_less(world: Path, tmp_path: Path) -> None:
    """Python: a model and images; what changed is counted against the model, and the report shows both."""
    (tmp_path / "other.txt").write_text("disc: 2\nground: 0\nbox: 1\n")  # in another order: names decide
    result = segadapt.adapt(
        model=world / "run",
        target_images=world / "target/images",
        test_images=world / "test/images",
        test_labels=world / "test/labels",
        classes=tmp_path / "other.txt",
        overrides=["adapt.steps=2"],
        out=tmp_path / "run",
    )
    assert [stage.method for stage in result.stages] == ["given", "cbst"]
    assert result.raw["space"]["names"] == list(load_model(model_of(world)).space.names)
    assert result.raw["change"]["source"] == "source"
    assert result.report is not None
    assert "Given model" in result.report.read_text()
    again = segadapt.resume(tmp_path / "run")
    assert again.miou == result.miou
    (tmp_path / "other.txt").write_text("cup: 2\nground: 0\nbox: 1\n")
    with pytest.raises(RequestError, match="'cup'"):
        segadapt.plan(
            model=world / "run",
            target_images=world / "target/images",
            test_images=world / "test/images",
            test_labels=world / "test/labels",
            classes=tmp_path / "other.txt",
            measure=False,
        )


def test_images_of_a_script_need_no_class_names(world: Path) -> None:
    images = [torch.rand(3, 40, 56) for _ in range(2)]
    planned = segadapt.plan(model=model_of(world), target=images, method="cbst", measure=False)
    assert planned["data"] == {"source": 0, "target": 2, "labelled": 0, "test": 0, "classes": ["ground", "box", "disc"]}
    with pytest.raises(RequestError, match=r"no model file of segadapt at .*gone\.safetensors"):
        segadapt.plan(model=world / "gone.safetensors", target=images, measure=False)
    with pytest.raises(RequestError, match="give one of them"):
        segadapt.plan(model=model_of(world), target=images, network=torch.nn.Conv2d(3, 3, 1), measure=False)
