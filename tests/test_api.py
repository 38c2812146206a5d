"""The three calls: adapt two folders, load what came out, predict an array."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import segadapt
from segadapt.core.files import read_json
from segadapt.evaluation.predict import predict_array
from segadapt.models.inference import InferenceConfig
from tests.tiny import NAMES, config, scene, write_classes, write_folder

QUICK = [
    "model.name=timm:resnet10t",
    "model.weights=null",
    "model.arguments={width: 16}",
    "source.steps=3",
    "guard=false",
    "adapt.rounds=1",
    "adapt.epochs=0.5",
    "source.augmentation.crop=[32,32]",
    "adapt.augmentation.crop=[32,32]",
    "adapt.source_portion=0.5",
    "accelerator=cpu",
]


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    write_folder(tmp_path / "source", 4)
    write_folder(tmp_path / "target", 4, shift=1.0, seed=50, labels=False)
    return tmp_path


def test_adapt_load_predict(folders: Path) -> None:
    out = folders / "run"
    made = segadapt.adapt(
        overrides=QUICK,
        method="cbst",
        source_images=folders / "source/images",
        source_labels=str(folders / "source/labels"),
        target_images=folders / "target/images",
        classes=write_classes(folders / "classes.txt"),
        out=out,
    )
    assert [stage.stage for stage in made.stages] == ["source", "adapt"]
    assert made.model == out / "stages/adapt/model.safetensors"
    assert made.report == out / "report.html"
    assert made.raw == read_json(out / "results.json")
    assert "<html" in (out / "report.html").read_text()
    model = segadapt.load(out)
    assert model.space.names == NAMES[:3]
    image, _ = scene(77, 3, 37, 61, 1.0)
    label, confidence = segadapt.predict(model, image)
    assert label.shape == confidence.shape == (37, 61)
    assert label.dtype == np.uint8
    assert label.max() < 3
    assert 1 / 3 - 1e-6 <= confidence.min() <= confidence.max() <= 1
    again, _ = segadapt.predict(segadapt.load(out / "stages/adapt/model.safetensors"), image)
    assert np.array_equal(label, again)
    kept = {"size": [20, 30], "inference": {"flip": True}}
    small = replace(model, provenance={**model.provenance, **kept})
    expected = predict_array(model.model, image, InferenceConfig(flip=True), size=(20, 30))
    assert np.array_equal(segadapt.predict(small, image)[1], expected[1]), "as the run predicted"


def test_adapt_takes_a_recipe_or_a_configuration(tmp_path: Path) -> None:
    made = segadapt.adapt(config(tmp_path, "source_only"), out=tmp_path / "run")
    assert made.stages[0].role == "source"
    with pytest.raises(segadapt.RequestError, match="recipe"):
        segadapt.adapt("camvid_day_dusk/cbts", out=tmp_path / "other")


def test_wrong_requests(folders: Path) -> None:
    with pytest.raises(segadapt.RequestError, match="source_labels"):
        segadapt.adapt(source_images=folders / "source/images", target_images=folders / "target/images")
    with pytest.raises(segadapt.RequestError, match="without a finished stage"):
        segadapt.load(folders)
