"""Pseudo labels for a folder: what is there stays, unless it is an earlier result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from segadapt.engine.runtime import Runtime
from segadapt.errors import RequestError
from segadapt.labels import LabelSpace
from segadapt.models.build import build_segmenter
from segadapt.models.store import LoadedModel
from segadapt.runs.labelling import label_images
from tests.tiny import COLORS, NAMES, write_classes, write_folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_folder(tmp_path / "x", 3)
    write_classes(tmp_path / "classes.txt")
    return tmp_path / "x"


def label(data: Path, out: Path, labels: Path | None, overwrite: bool = False) -> dict[str, Any]:
    model = build_segmenter("timm:resnet10t", 3, weights=None, width=16)
    loaded = LoadedModel(model.eval(), LabelSpace("tiny", NAMES[:3], COLORS[:3]), {})
    classes, runtime = data.parent / "classes.txt", Runtime("cpu")
    how: dict[str, Any] = {"labels": labels, "classes": classes, "overwrite": overwrite, "runtime": runtime}
    return label_images(loaded, data / "images", out, portion=0.5, **how)


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_results_are_written_and_replaced_if_that_is_allowed(data: Path, tmp_path: Path) -> None:
    first = label(data, tmp_path / "out", data / "labels")
    names = {"labels.json", "legend.json", "labels/000.png", "labels/001.png", "labels/002.png"}
    assert set(content(tmp_path / "out")) == names
    assert 0 < first["accuracy"] < 1
    (tmp_path / "out/scores").mkdir()
    (tmp_path / "out/scores/mine").touch()
    before = content(tmp_path / "out")
    with pytest.raises(RequestError, match="--overwrite"):
        label(data, tmp_path / "out", None)
    assert content(tmp_path / "out") == before
    again = label(data, tmp_path / "out", None, overwrite=True)
    assert again["accuracy"] is None
    assert set(content(tmp_path / "out")) == {*names, "scores/mine"}


@pytest.mark.parametrize("truth", [True, False])
def test_true_masks_are_not_replaced(data: Path, truth: bool) -> None:
    before = content(data)
    with pytest.raises(RequestError, match="true masks in" if truth else r"labels/000\.png' exists, and no earlier"):
        label(data, data, data / "labels" if truth else None)
    assert content(data) == before


def test_masks_behind_an_earlier_result_are_not_replaced(data: Path, tmp_path: Path) -> None:
    """As where they were linked into the folder of the results."""
    label(data, tmp_path / "out", None)
    for path in (tmp_path / "out/labels").iterdir():
        path.unlink()
        path.symlink_to(data / "labels" / path.name)
    before = content(data)
    with pytest.raises(RequestError, match="would replace an image or a mask"):
        label(data, tmp_path / "out", data / "labels")
    assert content(data) == before


def test_somebody_elses_summary_is_not_replaced(data: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/labels.json").write_text('{"stage": "adapt"}')
    with pytest.raises(RequestError, match=r"labels\.json' exists, and no earlier 'segadapt label' wrote it"):
        label(data, tmp_path / "out", None)
