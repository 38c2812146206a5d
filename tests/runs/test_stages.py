"""Stages that build on others: networks of their own, teachers, weights files; and what is refused before training."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from segadapt.errors import RequestError
from segadapt.labels import LabelSpace
from segadapt.methods.daformer import DAFormer
from segadapt.methods.method import TaughtMethod
from segadapt.models.build import build_segmenter
from segadapt.models.multires import MultiRes
from segadapt.models.store import load_model, save_model
from segadapt.runs.config import build_config
from segadapt.runs.plan import plan_run
from segadapt.runs.run import Run
from segadapt.runs.stage import StageRunner
from tests.tiny import raw_config


def three_stages(folder: Path, **second: Any) -> dict[str, Any]:
    """Source, a wider student with weights from a file, and a third stage that goes on from it."""
    wide = build_segmenter("timm:resnet10t", 3, width=24)
    torch.save(wide.encoder.state_dict(), folder / "encoder.pth")
    network = {"name": "timm:resnet10t", "weights": str(folder / "encoder.pth"), "arguments": {"width": 24}}
    raw = raw_config(folder, "distill", network=network, threshold=0.2, **second)
    raw["stages"]["more"] = {"like": "adapt", "initial": "previous", "network": None, "teacher": "previous"}
    return raw


def test_a_student_with_a_network_of_its_own(tmp_path: Path) -> None:
    config = build_config(three_stages(tmp_path), "tiny")
    Run.open(config, tmp_path / "run", quiet=True).execute()
    models = {s.name: load_model(tmp_path / f"run/stages/{s.name}/model.safetensors").model for s in config.stages}
    assert [m.feature_channels for m in models.values()] == [16, 24, 24]
    planned = plan_run(config, {}, measure=True)
    assert [row["network"] for row in planned["stages"]] == ["timm:resnet10t"] * 3
    assert all(row["minutes"] > 0 for row in planned["stages"])


def test_an_earlier_stage_by_name_is_a_teacher(tmp_path: Path) -> None:
    raw = three_stages(tmp_path)
    raw["stages"]["more"]["teacher"] = "source"
    run = Run.open(build_config(raw, "tiny"), tmp_path / "run", quiet=True)
    run.execute()
    method = run.networks.method(run.config.stages[-1])
    assert isinstance(method, TaughtMethod)
    assert method.teacher.feature_channels == 16


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        ({"teacher": "nobody"}, "stage 'adapt' starts from 'nobody', which is neither an earlier stage"),
        ({"initial": "previous"}, "stage 'adapt': a network of its own starts from .*set initial=scratch or leave out"),
        ({"network": {"name": "lite", "weights": "simclr"}}, "where is the weights file 'simclr'"),
        ({"network": {"name": "lite", "weights": "./none.pth"}}, r"no weights file 'none\.pth' for the network 'lite'"),
    ],
)
def test_mistakes_are_named_before_anything_runs(tmp_path: Path, change: dict[str, Any], answer: str) -> None:
    raw = three_stages(tmp_path)
    raw["stages"]["adapt"].update(change)
    with pytest.raises(RequestError, match=answer):
        Run.open(build_config(raw, "tiny"), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run/stages").exists()


def online_stage(folder: Path, **settings: Any) -> Run:
    """DAFormer after a source stage."""
    raw = raw_config(folder, "daformer", initial="previous", feature_classes="all", **settings)
    return Run.open(build_config(raw, "tiny"), folder / "run", quiet=True)


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_features_are_kept_to_the_initial_weights_after_a_source_stage(tmp_path: Path) -> None:
    run = online_stage(tmp_path, optimiser={"lr": 0.01})
    run.execute()
    source, adapt = run.config.stages
    initial = run.networks.method(source).model
    method = run.networks.method(adapt)
    assert isinstance(method, DAFormer)
    assert method.imagenet is not None
    assert same_weights(method.imagenet.network, initial)
    assert same_weights(method.model, load_model(tmp_path / "run/stages/source/model.safetensors").model)
    assert not same_weights(method.model, initial)
    assert [row["minutes"] > 0 for row in plan_run(run.config, {}, measure=True)["stages"]] == [True, True]


def around_source(folder: Path, width: int) -> Run:
    """HRDA on a network of ``width`` after a source stage on one resolution, of width 16."""
    raw = raw_config(folder, "daformer", initial="source", feature_classes="all")
    wrapped = {"name": "hrda:timm:resnet10t", "weights": None, "arguments": {"detail": 16, "base": {"width": width}}}
    raw["stages"]["adapt"].update(method="hrda", network=wrapped)
    return Run.open(build_config(raw, "tiny"), folder / "run", quiet=True)


def test_two_resolutions_start_from_a_network_with_one(tmp_path: Path) -> None:
    run = around_source(tmp_path, width=16)
    run.execute()
    adapt = run.config.stages[1]
    started = run.networks.method(adapt).model
    assert isinstance(started, MultiRes)
    assert same_weights(started.base, load_model(tmp_path / "run/stages/source/model.safetensors").model)
    planned = plan_run(run.config, {}, measure=False)["stages"]
    assert [row["network"] for row in planned] == ["timm:resnet10t", "hrda:timm:resnet10t"]


def test_two_resolutions_start_from_nothing_else(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="'hrda:timm:resnet10t' cannot start from this 'timm:resnet10t'; it can if"):
        around_source(tmp_path, width=24)
    assert not (tmp_path / "run/stages").exists()


def test_a_model_file_brings_its_network(tmp_path: Path) -> None:
    """Stages after the one that starts from it know that it looks at two resolutions."""
    made = around_source(tmp_path, width=16)
    made.execute()
    raw = raw_config(tmp_path, "daformer", initial="previous", feature_classes="all", feature_distance=0)
    raw["stages"]["adapt"]["method"] = "hrda"
    raw["stages"]["source"]["initial"] = str(tmp_path / "run/stages/adapt/model.safetensors")
    Run.open(build_config(raw, "tiny"), tmp_path / "other", quiet=True).execute()
    raw["stages"]["adapt"]["initial"] = "scratch"
    with pytest.raises(RequestError, match="HRDA needs two resolutions"):
        Run.open(build_config(raw, "tiny"), tmp_path / "third", quiet=True)


def test_a_network_that_a_method_cannot_use_is_named_before_the_source_trains(tmp_path: Path) -> None:
    raw = raw_config(tmp_path, "daformer", feature_classes="all")
    raw["stages"]["adapt"]["method"] = "hrda"
    with pytest.raises(RequestError, match=r"set adapt\.network\.name=hrda:timm:resnet10t, or"):
        Run.open(build_config(raw, "tiny"), tmp_path / "run", quiet=True)


def test_one_stage_alone_needs_the_one_before(tmp_path: Path) -> None:
    run = Run.open(build_config(raw_config(tmp_path, "st"), "tiny"), tmp_path / "run", quiet=True)
    with pytest.raises(
        RequestError, match=r"stage 'adapt' needs the model of stage 'source', .*run that stage first, or all of them"
    ):
        run.execute("adapt")


def test_features_of_another_network_cannot_be_kept(tmp_path: Path) -> None:
    path = tmp_path / "wide.safetensors"
    raw = raw_config(tmp_path, "daformer", initial=str(path), feature_classes="all")
    names = tuple((tmp_path / "classes.txt").read_text().split())
    colours = tuple((c, c, c) for c in range(len(names)))
    save_model(path, build_segmenter("timm:resnet10t", 3, width=24), LabelSpace("tiny", names, colours), {})
    with pytest.raises(RequestError, match="feature_distance needs the initial weights of the network"):
        Run.open(build_config(raw, "tiny"), tmp_path / "run", quiet=True)


def test_a_teacher_needs_a_stage_before(tmp_path: Path) -> None:
    raw = three_stages(tmp_path)
    del raw["stages"]["source"]
    with pytest.raises(RequestError, match="stage 'adapt' starts from 'previous'"):
        Run.open(build_config(raw, "tiny"), tmp_path / "run", quiet=True)


def test_a_stage_can_be_left_out(tmp_path: Path) -> None:
    raw = three_stages(tmp_path)
    raw["stages"]["more"] = None
    assert [stage.name for stage in build_config(raw, "tiny").stages] == ["source", "adapt"]


def test_a_weights_file_behind_a_root(tmp_path: Path) -> None:
    raw = three_stages(tmp_path)
    raw["stages"]["adapt"]["network"]["weights"] = "backbone"
    run = Run.open(build_config(raw, "tiny"), tmp_path / "run", {"backbone": str(tmp_path / "encoder.pth")}, quiet=True)
    run.execute("source")
    student = run.networks.method(run.config.stages[1]).model
    wanted = torch.load(tmp_path / "encoder.pth", weights_only=True)
    for name, tensor in student.encoder.state_dict().items():  # type: ignore[union-attr]
        assert torch.equal(tensor, wanted[name]), name


def test_a_trained_stage_leaves_no_network_behind(tmp_path: Path) -> None:
    """Nothing that refers to itself keeps the networks of a stage while the next one trains."""
    run = Run.open(build_config(raw_config(tmp_path, "source_only"), "tiny"), tmp_path / "run", quiet=True)
    stage = run.config.stages[0]
    runner = StageRunner(run.config, run.opened, run.runtime, run.record, run.networks)
    method = run.networks.method(stage)
    left = weakref.ref(method.model)
    gc.collect()
    gc.disable()
    try:
        runner.train(stage, method, tmp_path / "run/stages/source", "")
        del method
        assert left() is None
    finally:
        gc.enable()
