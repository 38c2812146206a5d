"""A user's ids in an order that is not 0, 1, 2, from the masks to a model and back, by the command and from Python."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import segadapt
from segadapt.data.masks.classes_file import read_classes, space_of
from segadapt.errors import RequestError
from segadapt.labels import LabelSpace, distinct_colors
from segadapt.models.build import build_segmenter
from segadapt.models.store import load_model, save_model
from segadapt.runs.config import build_config
from segadapt.runs.networks import Networks
from tests.test_cli import FAST, assert_refused, call
from tests.tiny import raw_config, write_folder

Call = Callable[..., tuple[int, str, str]]
KINDS = {
    "ids": "- {name: water, id: 1}\n- {name: ice, id: 2}\n- {name: land, id: 0}\n",
    "fundus": "{disc: 255, cup: 128, rest: 0}",
    "wide": "{a: 26001, b: 300, c: 0}",
    "colours": "{a: [0, 0, 9], b: [9, 0, 0], c: [0, 0, 0]}",
    "parts": "a: {ids: {source: [1, 5], test: 7}}\nb: {ids: {source: 0, test: 1}}\nc: {ids: {source: 2, test: 0}}\n",
}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    return lambda *arguments: call(monkeypatch, capsys, *map(str, arguments))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("own")
    write_folder(root, 2, labels=False)
    return root / "images"


def model_of(folder: Path, classes: Path) -> Path:
    """A model file of a network that nobody trained."""
    space = space_of("source", read_classes(classes, "source"))
    torch.manual_seed(0)
    save_model(folder / "m.safetensors", build_segmenter("timm:resnet10t", 3, width=8), space, {"run": "by hand"})
    return folder / "m.safetensors"


@pytest.mark.parametrize("kind", ["ids", "colours"])
def test_a_model_agrees_with_its_own_output(tmp_path: Path, images: Path, kind: str, run: Call) -> None:
    """Predictions in train ids, in own ids, as colours, and pseudo labels; copied, too."""
    classes = tmp_path / "classes.yaml"
    classes.write_text(KINDS[kind])
    model = model_of(tmp_path, classes)

    def agreement(masks: Path) -> float:
        with pytest.warns(UserWarning, match="labels: the masks were written by segadapt"):
            return segadapt.evaluate(model, images=images, labels=masks, classes=classes).pixel_accuracy

    for ids in ("train", "own"):
        out = tmp_path / ids
        assert run("predict", model, images, "--out", out, "--ids", ids)[0] == 0
        assert json.loads((out / "legend.json").read_text())["model"] == {"run": "by hand"}
        assert agreement(out) == 100
        shutil.copytree(out, tmp_path / f"copy of {ids}", ignore=shutil.ignore_patterns("legend.json"))
        assert agreement(tmp_path / f"copy of {ids}") == 100
        out = tmp_path / f"labels {ids}"
        how = ["--ids", ids, "--portion", "1", "--policy", "global"]
        assert run("label", model, images, "--out", out, *how)[0] == 0
        assert agreement(out / "labels") > 97  # the network is random, so scores that are rounded may change places


def test_own_ids_are_those_of_the_masks(tmp_path: Path, images: Path, run: Call) -> None:
    for kind, allowed in (("fundus", {0, 128, 255}), ("wide", {26001, 300, 0}), ("parts", {7, 1, 0})):
        (tmp_path / "c.yaml").write_text(KINDS[kind])
        model = model_of(tmp_path, tmp_path / "c.yaml")
        out = tmp_path / kind
        segadapt.label(model, images, out / "l", ids="own", portion=1.0)
        assert run("predict", model, images, "--out", out / "p", "--ids", "own")[0] == 0
        for path in (*(out / "l/labels").iterdir(), *(out / "p").glob("*[0-9].png")):
            stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            assert stored.ndim == 2
            assert set(np.unique(stored)) <= allowed
    for path in (out / "p").glob("*[0-9]*"):
        path.unlink()
    assert_refused(run("predict", model, images, "--out", out / "p"), "legend", "--overwrite")
    assert_refused(run("predict", model, images, "--out", out / "q", "--ids", "mine"), "train, cityscapes, own")


def test_a_model_of_another_order_and_its_labels_start_a_run(tmp_path: Path, images: Path, run: Call) -> None:
    """The same classes file reads the labels; the classifier comes by names; the new model has the user's ids again."""
    (tmp_path / "c.yaml").write_text(KINDS["ids"])
    (tmp_path / "other.yaml").write_text("{land: 0, water: 1, ice: 2}")
    model = model_of(tmp_path, tmp_path / "other.yaml")
    segadapt.label(model, images, tmp_path / "l", portion=1.0)
    data = ["adapt", "--source-images", images, "--source-labels", tmp_path / "l/labels", "--target-images", images]
    data += ["--classes", tmp_path / "c.yaml", "--method", "cbst", "--stage", "source", "-q", *FAST, "source.steps=1"]
    code, _, err = run(*data, f"source.initial={model}", "--out", tmp_path / "run")
    assert code == 0, err
    assert "source: the masks were written by segadapt" in err
    assert "has its classes in another order; they are matched by name" in err
    space = load_model(tmp_path / "run/stages/source/model.safetensors").space
    assert (space.names, space.ids) == (("water", "ice", "land"), (1, 2, 0))
    (tmp_path / "other.yaml").write_text("{land: 0, Water: 1, ice: 2}")
    other = model_of(tmp_path, tmp_path / "other.yaml")
    assert_refused(run(*data, f"source.initial={other}", "--out", tmp_path / "no"), "lacks 'water' (its 'Water'?)")


def test_initial_weights_of_a_model_file_are_taken_by_names(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("{c: 0, a: 1, b: 2}")
    model = model_of(tmp_path, tmp_path / "c.yaml")
    raw = raw_config(tmp_path)
    raw["model"] = {"name": "timm:resnet10t", "weights": str(model), "arguments": {"width": 8}}
    config = build_config(raw, "tiny")
    networks = Networks(config, LabelSpace("run", ("a", "b", "c"), distinct_colors(3)), {}, tmp_path / "stages")
    made = networks.method(config.stages[0]).model.state_dict()
    old = load_model(model).model.state_dict()
    moved = [key for key in old if not torch.equal(old[key], made[key])]
    assert moved
    assert all(torch.equal(old[key][[1, 2, 0]], made[key]) for key in moved)
    assert networks.notices == [f"'{model}': its classifier is taken by class names, as its classes are others"]


def test_a_misspelt_class_is_refused_and_mended_by_merge(tmp_path: Path, run: Call) -> None:
    write_folder(tmp_path / "t", 1)
    (tmp_path / "right.yaml").write_text("{class_0: 0, class_1: 1, class_2: 2}")
    (tmp_path / "typo.yaml").write_text("{class_0: 0, Class_1: 1, class-2: 2}")
    model = model_of(tmp_path, tmp_path / "right.yaml")
    given = ["evaluate", model, "--images", tmp_path / "t/images", "--labels", tmp_path / "t/labels", "--json"]
    right = json.loads(run(*given, "--classes", tmp_path / "right.yaml")[1])
    typo = [*given, "--classes", tmp_path / "typo.yaml"]
    hints = ("'Class_1' (did you mean 'class_1'?)", "'class-2' (did you mean 'class_2'?)")
    assert_refused(run(*typo), *hints)
    code, out, _ = run(*typo, "--merge", "Class_1=class_1", "--merge", "class-2=class_2")
    assert code == 0
    assert json.loads(out)["iou"] == right["iou"]
    assert json.loads(run(*typo, "--merge", "Class_1=class_1", "--merge", "class-2=ignore")[1])["iou"]["class_2"] != (
        right["iou"]["class_2"] or None
    )
    assert_refused(run(*typo, "--merge", "Class_1"), "CLASS=CLASS")
    assert_refused(run(*typo, "--merge", "Class_1=class_9", "--merge", "class-2=class_2"), "no class 'class_9'")
    with pytest.raises(RequestError, match="did you mean 'class_1'"):
        segadapt.evaluate(model, images=given[3], labels=given[5], classes=tmp_path / "typo.yaml")
    merge = {"Class_1": "class_1", "class-2": "class_2"}
    scores = segadapt.evaluate(model, images=given[3], labels=given[5], classes=tmp_path / "typo.yaml", merge=merge)
    assert scores.to_dict()["iou"] == right["iou"]
