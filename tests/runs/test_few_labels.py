"""Labels of some target images: which are opened, that every method learns them, and what is said about them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import segadapt
from segadapt.core.files import read_json
from segadapt.data.dataset import Dataset, Drawn
from segadapt.data.folder import open_folder
from segadapt.engine.loop import Loop
from segadapt.errors import RequestError
from segadapt.labels import LabelMap
from segadapt.methods.registry import METHODS
from segadapt.report import write_report
from segadapt.runs.config import RunConfig, build_config
from segadapt.runs.fingerprint import fingerprints_of
from segadapt.runs.networks import Networks
from segadapt.runs.opening import OpenedData, open_data
from segadapt.runs.run import Run, resumed
from segadapt.runs.target_labels import LabelledConfig, chosen
from tests.runs.test_run import Crash, assert_same, weights
from tests.tiny import raw_config, write_folder

MASKED = (1, 4)
"""Target images with a mask in the folder of the user."""


def write_masks(folder: Path) -> Path:
    """Masks of two of the six target images."""
    write_folder(folder / "all", 6, shift=1.0, seed=100)
    (folder / "masks").mkdir()
    for i in MASKED:
        shutil.copy(folder / f"all/labels/{i:03d}.png", folder / "masks")
    return folder / "masks"


def raw_with_labels(folder: Path, method: str = "dacs", **adapt: Any) -> dict[str, Any]:
    raw = raw_config(folder, method, **adapt)
    raw["data"]["oracle"] = {**raw["data"]["target"], "labels": str(write_masks(folder))}
    raw["data"]["oracle"]["classes"] = raw["data"]["source"]["classes"]
    raw["data"]["labelled"] = {}
    return raw


def opened(raw: dict[str, Any], folder: Path) -> tuple[RunConfig, OpenedData]:
    config = build_config(raw, "tiny")
    return config, open_data(config.data, {}, folder / "cache")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One world, and a source model in it, for the runs of all methods."""
    folder = tmp_path_factory.mktemp("world")
    raw = raw_with_labels(folder)
    raw["stages"] = {"source": {**raw["stages"]["source"], "steps": 1}}
    del raw["data"]["test"]
    Run.open(build_config(raw, "tiny"), folder / "run", quiet=True).execute(pictures=False)
    return {"folder": folder, "raw": raw, "model": str(folder / "run/stages/source/model.safetensors")}


DIFFERENT = {METHODS[name].method: name for name in sorted(METHODS, reverse=True) if name not in ("oracle", "given")}
"""A method of every class."""


@pytest.mark.parametrize("method", [*DIFFERENT.values(), "hrda"])
def test_every_method_learns_them(world: dict[str, Any], tmp_path: Path, method: str) -> None:
    stage = raw_config(world["folder"], method)["stages"].get("adapt", {"method": method, "role": "adapted"})
    start = {"initial": world["model"], "steps": 1, **({"rounds": 1} if "rounds" in stage else {})}
    if "teacher" in METHODS[method].method.Config.model_fields:
        start["teacher"] = world["model"]
    model = raw_config(world["folder"], method)["model"]
    stages = {"adapt": {**stage, "batch_size": 2, "augmentation": {"crop": [32, 32]}, **start}}
    raw = {**world["raw"], "model": model if method != "hrda" else world["raw"]["model"], "stages": stages}
    if method == "hrda":
        stages["adapt"]["network"] = model
    Run.open(build_config(raw, "tiny"), tmp_path / "run", quiet=True).execute(pictures=False)
    log = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    losses = next(event["losses"] for event in log if event["event"] == "step")
    assert losses["target labels"] > 0
    assert ("target labels/detail" in losses) == (method == "hrda")


def test_a_resumed_run_equals_an_uninterrupted_one(
    world: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = {**raw_config(world["folder"], "dacs")["stages"]["adapt"], "initial": world["model"]}
    raw = {**world["raw"], "stages": {"adapt": {**stage, "steps": 3, "checkpoint_every": 2}}}
    Run.open(build_config(raw, "tiny"), tmp_path / "whole", quiet=True).execute(pictures=False)
    real = Loop.step

    def step(loop: Loop, round_index: int, step: int, *given: Any) -> Any:
        if step == 2:
            raise Crash
        return real(loop, round_index, step, *given)

    run = Run.open(build_config(raw, "tiny"), tmp_path / "run", quiet=True)
    with monkeypatch.context() as patched:
        patched.setattr(Loop, "step", step)
        with pytest.raises(Crash):
            run.execute(pictures=False)
    resumed(tmp_path / "run", quiet=True).execute(pictures=False)
    assert_same(weights(tmp_path / "whole", "adapt"), weights(tmp_path / "run", "adapt"))


def test_they_decide_the_stages_that_learn_them_and_no_other(tmp_path: Path) -> None:
    raw = raw_with_labels(tmp_path)

    def fingerprints(**data: Any) -> dict[str, str]:
        changed = {**raw, "data": {k: v for k, v in {**raw["data"], **data}.items() if v is not None}}
        config, data_of = opened(changed, tmp_path)
        return fingerprints_of(config, data_of, Networks(config, data_of.space, {}, tmp_path / "stages", 3))

    bare, both = fingerprints(oracle=None, labelled=None), fingerprints()
    one = fingerprints(labelled={"images": 1})
    assert bare == fingerprints(labelled=None)
    assert bare["source"] == both["source"] == one["source"]
    assert len({bare["adapt"], both["adapt"], one["adapt"]}) == 3
    raw["stages"]["adapt"]["labelled_weight"] = 0.5
    assert fingerprints(oracle=None, labelled=None) == bare
    assert fingerprints()["adapt"] != both["adapt"]


def test_only_chosen_labels_are_ever_opened_and_what_is_said(
    world: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The target has no path to a label, and of a data set with all labels only those of the chosen images are read."""
    folder = world["folder"]
    stage = {**raw_config(folder, "dacs")["stages"]["adapt"], "initial": world["model"], "steps": 2}
    few = {"oracle": {"reader": "python"}, "labelled": {"names": ["004", "002"]}}
    raw = {**world["raw"], "data": {**world["raw"]["data"], **few}, "stages": {"adapt": stage}}
    full = open_folder(folder / "all/images", folder / "all/labels", folder / "classes.txt")
    read: set[str] = set()

    def read_label(path: Path) -> LabelMap:
        read.add(path.stem)
        return np.asarray(full.read_label(path))

    given = {"oracle": replace(full, read_label=read_label)}
    run = Run.open(build_config(raw, "tiny"), tmp_path / "run", given=given)
    assert not any(item.label for item in run.opened.training.target.items)
    results = run.execute(pictures=False)
    assert read == {"002", "004"}
    assert results["target"] == {"images": 6, "labelled": 2}
    assert read_json(tmp_path / "run/data.json")["parts"]["labelled"]["images"] == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "labelled 2 images" in said
    assert "labelled: 2 of 6 target images have labels that are learnt" in said
    assert "of 2 of 6 target images" in write_report(tmp_path / "run").read_text()


def names(dataset: Dataset) -> list[str]:
    return [item.id for item in dataset.items]


def test_which_images_are_chosen(tmp_path: Path) -> None:
    write_folder(tmp_path, 7)
    for i in (5, 6):
        (tmp_path / f"images/x{i}").mkdir()
        (tmp_path / f"images/{i:03d}.png").rename(tmp_path / f"images/x{i}/000.png")
        (tmp_path / f"labels/x{i}").mkdir()
        (tmp_path / f"labels/{i:03d}.png").rename(tmp_path / f"labels/x{i}/000.png")
    labelled = open_folder(tmp_path / "images", tmp_path / "labels")
    target = labelled.subset([1, 2, 3, 4, 5]).unlabelled()

    def choose(**settings: Any) -> list[str]:
        return names(chosen(labelled, target, LabelledConfig(**settings)))

    assert choose() == ["001", "002", "003", "004", "x5/000"]
    assert choose(images=3) == ["001", "003", "x5/000"]
    drawn = [choose(images=2, seed=seed) for seed in range(8)]
    assert all(pair == sorted(set(pair)) for pair in drawn)
    assert drawn[0] == choose(images=2, seed=0)
    assert len({tuple(pair) for pair in drawn}) > 2
    assert choose(names=["x5/000", "002", "002"]) == ["002", "x5/000"]
    assert choose(names=["000"]) == ["x5/000"]  # the end of the name of one
    with pytest.raises(RequestError, match=r"images is 6, but only 5 target images have labels"):
        choose(images=6)
    with pytest.raises(RequestError, match=r"no image '022' has labels .*did you mean '002'"):
        choose(names=["022"])
    with pytest.raises(RequestError, match=r"'000' may be x5/000 or x6/000"):
        chosen(labelled, labelled.subset([1, 5, 6]), LabelledConfig(names=("000",)))
    with pytest.raises(RequestError, match="of no target image"):
        chosen(labelled.subset([0]), target, LabelledConfig())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"images": 2, "names": ["a"]}, "by names, or by their number"),
        ({"seed": 1}, "set images"),
    ],
)
def test_contradictory_choices_are_refused(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    raw = raw_with_labels(tmp_path)
    raw["data"]["labelled"] = settings
    with pytest.raises(RequestError, match=said):
        build_config(raw, "tiny")


# ---- folders: what the command does ----

SHORT = [
    "accelerator=cpu",
    "model={name: timm:resnet10t, weights: null, arguments: {width: 16}}",
    "every.augmentation.crop=[32,32]",
    "source={steps: 1, batch_size: 2}",
    "adapt.steps=1",
]


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    raw_config(tmp_path)
    write_masks(tmp_path)
    return {
        "source_images": tmp_path / "source/images",
        "source_labels": tmp_path / "source/labels",
        "target_images": tmp_path / "target/images",
        "target_labels": tmp_path / "masks",
    }


def test_masks_that_do_not_fit_and_images_that_are_tested_too(folders: dict[str, Path], tmp_path: Path) -> None:
    tested = {"test_images": tmp_path / "all/images", "test_labels": tmp_path / "all/labels"}
    with pytest.raises(RequestError, match=r"2 of 6 images are also labelled target images"):
        segadapt.adapt(None, SHORT, method="dacs", **folders, **tested, out=tmp_path / "run")
    shutil.copy(tmp_path / "masks/001.png", tmp_path / "masks/zebra.png")
    with pytest.raises(RequestError, match=r"labelled: 1 files in .*masks have the name of no image.*zebra.png"):
        segadapt.adapt(None, SHORT, method="dacs", **folders, out=tmp_path / "run")
    for path in (tmp_path / "masks").iterdir():
        path.rename(path.with_name(f"other{path.name}"))
    with pytest.raises(RequestError, match=r"oracle: 6 of 6 images have no mask in .*masks.*there is other"):
        segadapt.adapt(None, SHORT, method="dacs", **folders, out=tmp_path / "run")


def test_an_oracle_learns_them_alone_and_measuring_leaves_them(folders: dict[str, Path], tmp_path: Path) -> None:
    plan = {"measure": False, **folders}
    planned = segadapt.plan(None, SHORT, method="dacs", **plan)
    assert (planned["data"]["target"], planned["data"]["labelled"], planned["notes"]) == (6, 2, [])
    oracle = segadapt.plan(None, [*SHORT[:-1], "oracle.epochs=1", "oracle.steps=null"], method="oracle", **plan)
    assert oracle["stages"][-1]["steps"] == 1  # an epoch of two images
    (note,) = segadapt.plan(None, SHORT[:-1], method="source_only", **plan)["notes"]
    assert "not learnt: no stage has the role adapted" in note
    with pytest.raises(RequestError, match=r"oracle: 4 of 6 images have no mask"):
        segadapt.plan(None, [*SHORT, "data.measure_labels=true"], method="dacs", **plan)
    masks = {**plan, "target_labels": tmp_path / "all/labels"}
    measured = segadapt.plan(None, [*SHORT, "data.measure_labels=true"], method="dacs", **masks)
    assert (measured["data"]["labelled"], measured["notes"]) == (0, [])
    assert segadapt.plan(None, SHORT, method="dacs", **masks)["data"]["labelled"] == 6


def test_annotations_of_some_images(tmp_path: Path) -> None:
    """Of COCO and of YOLO, where an image without an entry could be one without objects."""
    write_folder(tmp_path, 3, labels=False)
    for kind in ("coco", "yolo"):
        (tmp_path / kind).mkdir()
    square = [[4, 4, 20, 4, 20, 20, 4, 20]]
    coco = {
        "images": [{"id": 1, "file_name": "001.png", "width": 56, "height": 40}],
        "categories": [{"id": 1, "name": "box"}],
        "annotations": [{"image_id": 1, "category_id": 1, "segmentation": square, "id": 1, "iscrowd": 0}],
    }
    (tmp_path / "coco/a.json").write_text(json.dumps(coco))
    (tmp_path / "yolo/001.txt").write_text("0 0.1 0.1 0.5 0.1 0.5 0.5\n")
    (tmp_path / "yolo/classes.txt").write_text("box\n")
    for kind in ("coco", "yolo"):
        found = open_folder(tmp_path / "images", tmp_path / kind, partly=True)
        assert names(found) == ["001"]
        assert isinstance(found.items[0].label, Drawn)
        assert set(np.unique(found.label(0))) == {0, 1}


def test_a_pattern_pairs_some(tmp_path: Path) -> None:
    write_folder(tmp_path, 3)
    (tmp_path / "few").mkdir()
    mask = cv2.imread(str(tmp_path / "labels/002.png"), cv2.IMREAD_UNCHANGED)
    cv2.imwrite(str(tmp_path / "few/gt-002.png"), mask)
    assert names(open_folder(tmp_path / "images", tmp_path / "few", pair="{}.png=gt-{}.png", partly=True)) == ["002"]
    with pytest.raises(RequestError, match="3 of 3 images have no mask"):
        open_folder(tmp_path / "images", tmp_path / "few", pair="{}.png=mask-{}.png", partly=True)
