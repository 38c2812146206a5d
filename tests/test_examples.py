"""The examples run as they stand, and each fits on a page or two."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import segadapt
from segadapt.data.augmentations import AUGMENTATIONS
from segadapt.evaluation.onnx_metadata import add_metadata, onnx_metadata
from segadapt.labels import LabelSpace, distinct_colors
from segadapt.methods.registry import METHODS
from segadapt.models import plain
from segadapt.models.inference import InferenceConfig
from segadapt.models.store import LoadedModel, load_model
from tests.evaluation.tiny import GreyLevels
from tests.tiny import write_folder

EXAMPLES = Path(__file__).parents[1] / "examples"
TINY = ["model.name=timm:test_resnet", "model.weights=null", "model.arguments={width: 16}", "accelerator=cpu"]


@pytest.fixture(autouse=True)
def _nothing_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(METHODS, "_added", {})
    monkeypatch.setattr(AUGMENTATIONS, "_added", {})
    monkeypatch.setattr(plain, "_given", {})


@pytest.fixture
def folders(tmp_path: Path) -> list[str]:
    """Images and masks of the source, images of the target."""
    write_folder(tmp_path / "a", 4)
    write_folder(tmp_path / "b", 4, shift=1.0, seed=50, labels=False)
    return [str(tmp_path / name) for name in ("a/images", "a/labels", "b/images")]


def run(monkeypatch: pytest.MonkeyPatch, name: str, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    try:
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_is_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) < 120


def test_there_are_four() -> None:
    names = ["dacs.py", "onnx_predict.py", "own_method.py", "own_network_and_data.py"]
    assert [p.name for p in sorted(EXAMPLES.glob("*.py"))] == names


def test_dacs_in_plain_pytorch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folders: list[str]
) -> None:
    out = tmp_path / "m.safetensors"
    tiny = ["--network", "timm:resnet10t", "--weights", "none", "--steps", "3", "--crop", "32", "--out", str(out)]
    assert run(monkeypatch, "dacs.py", *folders, *tiny) == 0
    assert "step 3: supervised" in capsys.readouterr().out
    assert load_model(out).space.names == ("class_0", "class_1", "class_2")


def test_a_method_of_ones_own_survives_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folders: list[str]
) -> None:
    stages = "{steps: 60, epochs: null, checkpoint_every: 7, augmentation: {crop: [32, 32]}}"
    short = [f"source={stages.replace('60', '4')}", f"adapt={stages}"]
    assert run(monkeypatch, "own_method.py", *folders, "--out", str(tmp_path / "run"), *TINY, *short) == 0
    said = capsys.readouterr().out
    assert "killed: exit status -9" in said
    assert "the resumed run equals the uninterrupted one: True" in said
    assert not (tmp_path / "run/killed/stages/adapt/checkpoints").exists()


def test_a_network_and_a_dataset_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "own_network_and_data.py", "--out", str(tmp_path / "run"), "--steps", "3") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Source only")
    before, after = lines[1].split()[-1], lines[3].split(";")[0].split()[-1]
    assert before == after, "the model file gives the scores of the run"
    assert (tmp_path / "run/report.html").exists()


def test_an_exported_model_without_segadapt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At every kind of working size its masks are those of the library, up to the borders of classes."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    space = LabelSpace("four", ("dark", "dim", "light", "bright"), distinct_colors(4))
    blocks = np.kron(np.random.default_rng(0).integers(0, 4, (4, 6)), np.ones((15, 16))).astype(np.uint8)
    Image.fromarray(np.repeat((32 + 64 * blocks)[..., None], 3, axis=2)).save(tmp_path / "a.png")
    files = [str(tmp_path / name) for name in ("m.onnx", "a.png", "mask.png")]
    sizes: list[Any] = [None, 40, 4000, [30, 50], [None, 45], [30, None], [90, 112]]
    for size in sizes:
        loaded = LoadedModel(GreyLevels(4).eval(), space, {"run": "r", "size": size})
        if size is None:
            segadapt.export(loaded, files[0], 32, 48)
        add_metadata(tmp_path / "m.onnx", onnx_metadata(loaded, InferenceConfig(), None))
        assert run(monkeypatch, "onnx_predict.py", *files) == 0
        mask = Image.open(tmp_path / "mask.png")
        assert (np.asarray(mask) == segadapt.predict(loaded, files[1]).labels).mean() > 0.85, size
        assert np.array_equal(np.asarray(mask.convert("RGB")), space.colorize(np.asarray(mask)))
        assert "dark: " in capsys.readouterr().out
