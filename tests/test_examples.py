"""The examples run as they stand, and each fits on a page or two."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from segadapt.data.augmentations import AUGMENTATIONS
from segadapt.methods.registry import METHODS
from segadapt.models import plain
from segadapt.models.store import load_model
from tests.tiny import write_folder

EXAMPLES = Path(__file__).parents[1] / "examples"
TINY = ["model.name=timm:resnet10t", "model.weights=null", "model.arguments={width: 16}", "accelerator=cpu"]


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


def test_there_are_three() -> None:
    assert [p.name for p in sorted(EXAMPLES.glob("*.py"))] == ["dacs.py", "own_method.py", "own_network_and_data.py"]


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
    stages = "{steps: 100, epochs: null, checkpoint_every: 7, augmentation: {crop: [32, 32]}}"
    short = [f"source={stages.replace('100', '4')}", f"adapt={stages}"]
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
