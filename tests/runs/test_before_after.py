"""Without labels: what adapting changed is counted, and said where it is suspicious."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from segadapt.core.files import read_json
from segadapt.data.folder import open_folder
from segadapt.labels import LabelSpace, distinct_colors
from segadapt.models.build import build_segmenter
from segadapt.models.store import save_model
from segadapt.runs.before_after import Change, change_of, warnings_of
from segadapt.runs.judging import judged
from tests.tiny import write_folder

NAMES = ("ground", "box", "disc")


def test_shares_and_disagreement_are_counted_over_all_pixels() -> None:
    first = np.array([[0, 0, 1, 1]], np.uint8), np.array([[0, 0, 0, 2]], np.uint8)
    second = np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.uint8)
    change = change_of(NAMES, [first, second])
    assert change == Change(NAMES, (0.75, 0.25, 0.0), (0.875, 0.0, 0.125), 0.25, 2)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ((0.6, 0.4, 0.0), (0.97, 0.03, 0.0), ["classes vanish", ": box;", "source.safetensors"]),
        ((0.6, 0.4, 0.0), (0.95, 0.05, 0.0), []),
        ((0.997, 0.003, 0.0), (1.0, 0.0, 0.0), []),
    ],
)
def test_a_class_that_vanished(before: tuple[float, ...], after: tuple[float, ...], words: list[str]) -> None:
    found = warnings_of(Change(NAMES, before, after, 0.3, 4), Path("source.safetensors"))
    assert len(found) == bool(words)
    assert all(word in found[0] for word in words)


def test_most_pixels_changed() -> None:
    same = (0.5, 0.5, 0.0)
    [found] = warnings_of(Change(NAMES, same, same, 0.61, 4), Path("source.safetensors"))
    assert "changed 61 %" in found


def test_models_of_a_run_are_compared(tmp_path: Path) -> None:
    """The result never predicts class 0, which the source model predicts everywhere."""
    write_folder(tmp_path / "target", 3, labels=False)
    space = LabelSpace("run", NAMES, distinct_colors(3))
    for stage, winner in (("source", 0), ("adapt", 2)):
        model = build_segmenter("timm:resnet10t", 3, weights=None, width=16)
        with torch.no_grad():
            list(model.parameters())[-1].zero_()[winner] = 1000.0  # the bias of the classifier
        save_model(tmp_path / "stages" / stage / "model.safetensors", model, space, {})
    rows = [{"stage": "source", "role": "source"}, {"stage": "adapt", "role": "adapted"}]
    target = open_folder(tmp_path / "target" / "images")
    results, warnings = judged(tmp_path, {"rows": rows}, target, None, "cpu", guarded=False)
    assert results["change"]["before"] == [1.0, 0.0, 0.0]
    assert results["change"]["after"] == [0.0, 0.0, 1.0]
    assert len(warnings) == 2
    assert read_json(tmp_path / "results.json") == results
    assert results["change"]["images"] == 3
    assert judged(tmp_path, {"rows": rows[:1]}, target, None, "cpu", guarded=True) == ({"rows": rows[:1]}, [])
