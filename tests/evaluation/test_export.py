"""Exported models agree with torch, and what does not agree is not left behind."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import segadapt
from segadapt.core.files import file_digest
from segadapt.errors import RequestError, RunError
from segadapt.evaluation import export
from segadapt.evaluation.export import export_onnx
from segadapt.evaluation.onnx_metadata import input_line, onnx_metadata
from segadapt.evaluation.predict import predict_array
from segadapt.labels import LabelSpace, distinct_colors
from segadapt.models.build import build_segmenter
from segadapt.models.inference import InferenceConfig
from segadapt.models.prototype_net import Kind, PrototypeNet
from segadapt.models.store import LoadedModel
from tests.evaluation.tiny import TinySegmenter

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


@pytest.mark.parametrize("dynamic", [False, True])
def test_exported_model_runs_alone(tmp_path: Path, dynamic: bool) -> None:
    import onnxruntime

    model = TinySegmenter(5).train()
    made = export_onnx(model, tmp_path / "deep" / "model.onnx", 33, 50, dynamic)
    assert model.drop.training
    assert made.max_error < 1e-4
    assert made.disagreement == 0
    assert json.loads(json.dumps(made.to_dict()))["bytes"] == (tmp_path / "deep" / "model.onnx").stat().st_size
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["model.onnx"]
    session = onnxruntime.InferenceSession(str(tmp_path / "deep" / "model.onnx"))
    shape = (3, 3, 70, 41) if dynamic else (1, 3, 33, 50)
    images = torch.rand(shape)
    with torch.no_grad():
        expected = F.interpolate(model.eval()(images).logits, shape[2:], mode="bilinear")
    logits, labels = session.run(["logits", "labels"], {"images": images.numpy()})
    np.testing.assert_allclose(logits, expected.numpy(), atol=1e-4)
    assert labels.dtype == np.uint8
    assert (labels == expected.argmax(1).numpy()).mean() > 0.999


@pytest.mark.parametrize("aligned", [True, False])
def test_labels_are_those_of_a_prediction(tmp_path: Path, aligned: bool) -> None:
    import onnxruntime

    model, config = TinySegmenter(5), InferenceConfig(align_corners=aligned)
    export_onnx(model, tmp_path / "model.onnx", 33, 50, inference=config)
    image = np.random.default_rng(0).integers(0, 256, (33, 50, 3), np.uint8)
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    given = (image.astype(np.float32) / 255).transpose(2, 0, 1)[None]
    labels = session.run(["labels"], {"images": given})[0][0]
    other = InferenceConfig(align_corners=not aligned)
    assert (labels == predict_array(model, image, config)[0]).mean() > 0.999
    assert (labels == predict_array(model, image, other)[0]).mean() < 0.99


def test_another_enlargement_than_that_of_predictions_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = export.Deployed.forward

    def not_aligned(self: export.Deployed, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return forward(export.Deployed(self.model, False), images)

    monkeypatch.setattr(export.Deployed, "forward", not_aligned)
    monkeypatch.setattr(export, "_write_dynamo", export._write_torchscript)
    with pytest.raises(RunError, match="of the pixels get another class"):
        export_onnx(TinySegmenter(5), tmp_path / "m.onnx", 33, 50, inference=InferenceConfig(align_corners=True))


@pytest.mark.parametrize("kind", ["centroid", "gaussian"])
def test_prototypes_are_exported(tmp_path: Path, kind: Kind) -> None:
    model = PrototypeNet(TinySegmenter(3), kind, 2, 6)
    with torch.no_grad():
        model.means.normal_()
        model.active.fill_(True)
    assert export_onnx(model, tmp_path / "model.onnx", 32, 48).disagreement == 0


def test_full_covariances_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="export the classifier, or train with"):
        export_onnx(PrototypeNet(TinySegmenter(3), "full", 2, 6), tmp_path / "model.onnx", 32, 48)


@pytest.mark.parametrize(
    ("dynamic", "first", "second"), [(False, "dynamo", "torchscript"), (True, "torchscript", "dynamo")]
)
def test_another_exporter_steps_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dynamic: bool, first: str, second: str
) -> None:
    """The quick one for varying sizes is asked first, and the other one where the first cannot."""
    assert export_onnx(TinySegmenter(3), tmp_path / "model.onnx", 32, 32, dynamic).exporter == first

    def broken(*_: object) -> None:
        raise ValueError("cannot")

    monkeypatch.setattr(export, f"_write_{first}", broken)
    assert export_onnx(TinySegmenter(3), tmp_path / "model.onnx", 32, 32, dynamic).exporter == second


def test_a_model_that_differs_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "model.onnx"
    target.write_bytes(b"before")
    write = export._write_torchscript

    def other_weights(deployed: export.Deployed, *rest: object) -> None:
        write(export.Deployed(TinySegmenter(3, seed=5).eval(), False), *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(export, "_write_dynamo", other_weights)
    monkeypatch.setattr(export, "_write_torchscript", other_weights)
    with pytest.raises(RunError, match=r"agrees with torch.*logits off by"):
        export_onnx(TinySegmenter(3), target, 32, 32)
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]
    assert target.read_bytes() == b"before"


def test_missing_libraries_and_bad_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RequestError, match="0 x 8"):
        export_onnx(TinySegmenter(3), tmp_path / "m.onnx", 0, 8)
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else find(name))
    with pytest.raises(RequestError, match=r'onnxscript; install with: pip install "segadapt\[export\]"'):
        export_onnx(TinySegmenter(3), tmp_path / "m.onnx", 8, 8)


def test_the_file_says_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import onnxruntime

    space = LabelSpace("own", ("sky", "a, b", "Straße"), distinct_colors(3), ids=(7, None, 300))
    provenance = {"run": "r", "stage": "adapt", "size": [24, 40], "inference": {"align_corners": True, "flip": True}}
    loaded = LoadedModel(TinySegmenter(3).eval(), space, provenance)

    made = segadapt.export(loaded, str(tmp_path / "m.onnx"))
    entries = onnxruntime.InferenceSession(str(tmp_path / "m.onnx")).get_modelmeta().custom_metadata_map
    about = json.loads(entries["segadapt"])
    assert made.shapes[0] == (1, 3, 24, 40), "the working size, unless another is asked for"
    assert about["classes"] == json.loads(entries["classes"]) == list(space.names)
    assert about["ids"] == [7, None, 300]
    assert [tuple(color) for color in about["colors"]] == list(space.colors)
    assert about["input"]["size"] == {"height": 24, "width": 40, "longest": None}
    assert (about["input"]["range"], about["input"]["layout"], about["input"]["channels"]) == ([0, 1], "NCHW", "RGB")
    assert about["output"]["align_corners"] is True
    assert about["inference"]["flip"] is True
    assert about["provenance"] == provenance
    assert about["version"] == segadapt.__version__
    assert made.input == entries["input"]
    card = (tmp_path / "m_onnx_card.md").read_text()
    assert file_digest(tmp_path / "m.onnx") in card
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.zeros((30, 50, 3), np.uint8)).save("image.png")
    exec(re.findall(r"^```python\n(.*?)^```", card, re.M | re.S)[0], {})
    assert set(ast.literal_eval(capsys.readouterr().out)) <= set(space.names)
    assert "working size (height x width): 24 x 40" in made.input
    fixed = json.loads(onnx_metadata(loaded, InferenceConfig(), (16, 32))["segadapt"])["input"]
    assert (fixed["size"]["height"], fixed["size"]["width"], fixed["any_size"]) == (16, 32, False)
    assert "fixed size (height x width): 16 x 32" in input_line((16, 32), (16, 32))


@pytest.mark.parametrize(
    ("size", "words"),
    [(None, "the size of the image"), (960, "longest side at most 960"), ((None, 64), "in proportion x 64")],
)
def test_working_sizes_in_words(size: Any, words: str) -> None:
    assert words in input_line(size, None)


def test_bands_of_files_are_told() -> None:
    model = build_segmenter("timm:resnet10t", 3, weights=None, width=16, bands=5)
    read = {"bands": [1, 2, 3, 4, 5], "low": [0.0] * 5, "high": [900.0] * 5, "dtype": "uint16"}
    loaded = LoadedModel(model, LabelSpace("own", ("a", "b", "c"), distinct_colors(3)), {"input": read})
    entries = onnx_metadata(loaded, InferenceConfig(), None)
    told = json.loads(entries["segadapt"])["input"]
    assert (told["channels"], told["files"]) == ("5 bands", read)
    assert entries["input"].startswith("images: 5 bands, float32 in [0, 1]")
