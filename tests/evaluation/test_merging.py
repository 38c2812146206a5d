"""A model of more classes than the labels have: what is predicted counts as another class, as in a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import segadapt
from segadapt.data.readers import open_dataset
from segadapt.errors import RequestError
from segadapt.labels import CITYSCAPES, NTHU
from segadapt.models.build import build_segmenter
from segadapt.models.store import save_model
from segadapt.runs.spaces import in_space
from tests.data.test_readers import write_nthu
from tests.test_cli import call


def test_evaluate_merges_predictions_by_the_rule_of_a_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The model calls all pixels truck; of the labelled ones, as many as there are classes, one is a car."""
    network = build_segmenter("timm:resnet10t", len(CITYSCAPES), width=16)
    with torch.no_grad():
        network.classifier.weight.zero_()
        network.classifier.bias[CITYSCAPES.index("truck")] = 9.0
    file = tmp_path / "model.safetensors"
    save_model(file, network, CITYSCAPES, {})
    write_nthu(tmp_path)
    data = in_space(open_dataset("nthu", tmp_path, "test", city="Rome"), CITYSCAPES, "labels", None)

    def told(*options: str) -> Any:
        given = ("evaluate", str(file), "--reader", "nthu", "--data-root", str(tmp_path / "Rome"), "--split", "test")
        code, out, err = call(monkeypatch, capsys, *given, "--json", *options)
        return json.loads(out)["iou"] if code == 0 else err

    missed = {name: 0.0 if name in NTHU.names else None for name in CITYSCAPES.names}
    as_car = pytest.approx({**missed, "car": 100 / 13})
    assert told() == {**missed, "truck": 0.0}
    assert told("--merge-predictions", "cityscapes_nthu_rome") == as_car
    assert told("--merge-predictions", "truck=car") == as_car
    assert told("--merge-predictions", "cityscapes_nthu_rome/st", "--merge-predictions", "truck=ignore") == missed
    for rule in ({"truck": "car"}, "cityscapes_nthu_rome"):
        assert segadapt.evaluate(file, data, merge_predictions=rule).to_dict()["iou"] == as_car

    assert "--merge-predictions: no class 'lorry'" in told("--merge-predictions", "truck=lorry")
    assert "--merge-predictions =car is not of the form CLASS=CLASS" in told("--merge-predictions", "=car")
    assert "recipe 'toy' merges no predictions" in told("--merge-predictions", "toy")
    with pytest.raises(RequestError, match=r"merge_predictions: no class 'lorry'"):
        segadapt.evaluate(file, data, merge_predictions={"lorry": "car"})
    with pytest.raises(RequestError, match=r"no recipe 'cityscapes_nthu_roma/source_only'"):
        segadapt.evaluate(file, data, merge_predictions="cityscapes_nthu_roma")
