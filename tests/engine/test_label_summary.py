"""What is counted of stored pseudo labels, for the record alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from segadapt.core.files import read_json
from segadapt.data.dataset import Dataset, Item
from segadapt.engine.bundle import DataBundle
from segadapt.engine.environment import RoundEnvironment
from segadapt.engine.record import Record
from segadapt.engine.runtime import Runtime
from segadapt.errors import RequestError
from segadapt.labels import IGNORE, LabelMap, LabelSpace

SPACE = LabelSpace("three", ("a", "b", "c"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)))
TRUTH = np.array([[0, 0, 0, 1], [1, 1, 2, IGNORE]], np.uint8)
LABEL = np.array([[0, 0, 0, 0], [1, IGNORE, IGNORE, 0]], np.uint8)


def environment(folder: Path, measured: bool, known: LabelMap = TRUTH) -> RoundEnvironment:
    items = tuple(Item(str(i), Path(f"{i}"), Path(f"{i}.y")) for i in range(2))
    truth = Dataset("truth", SPACE, items, lambda path: np.zeros((2, 4, 3), np.uint8), lambda path: known)
    target = replace(truth, items=tuple(replace(item, label=None) for item in items))
    data = DataBundle(source=truth, target=target, truth=truth if measured else None, cache_folder=folder)
    record = Record(folder, False)
    return RoundEnvironment(data, SPACE, seed=0, runtime=Runtime("cpu"), record=record, folder=folder / "round0")


@pytest.mark.parametrize("measured", [True, False])
def test_classes_of_the_labels_and_of_the_truth(tmp_path: Path, measured: bool) -> None:
    """Labels where the truth is unknown do not count; the truth counts where there is no label."""
    made = environment(tmp_path, measured)
    for index in range(2):
        made.keep_label(index, torch.from_numpy(LABEL))
    summary = made.finish_preparation("stage", 0)
    assert summary is not None
    assert read_json(tmp_path / "round0/labels.json") == summary
    assert [c["selected"] for c in summary["classes"]] == [10, 2, 0]
    shares = [(c["label_share"], c["truth_share"]) for c in summary["classes"]]
    if measured:
        assert shares == [(4 / 5, 3 / 7), (1 / 5, 3 / 7), (0.0, 1 / 7)]
        assert [c["accuracy"] for c in summary["classes"]] == [3 / 4, 1.0, None]
    else:
        assert shares == [(None, None)] * 3


def test_numbers_of_the_method(tmp_path: Path) -> None:
    """Class masses stand beside the shares of labels and truth, other measured numbers in the summary itself."""
    made = environment(tmp_path, True)
    made.keep_label(0, torch.from_numpy(LABEL))
    plain = made.finish_preparation("stage", 0)
    assert plain is not None
    assert [c["mass"] for c in plain["classes"]] == [None] * 3
    assert plain["measured"] == {}
    made.report({"masses": torch.tensor([0.5, 0.25, 0.25]), "measured": {"temperature": 2.0}})
    summary = made.finish_preparation("stage", 0)
    assert summary is not None
    assert [c["mass"] for c in summary["classes"]] == [0.5, 0.25, 0.25]
    assert summary["measured"] == {"temperature": 2.0}
    assert read_json(tmp_path / "round0/labels.json") == summary


def test_a_true_class_beyond_the_classes_is_refused(tmp_path: Path) -> None:
    made = environment(tmp_path, True, np.full_like(TRUTH, 3))
    made.keep_label(1, torch.from_numpy(LABEL))
    with pytest.raises(RequestError, match=r"truth: '1': a label map holds class 3, but there are only 3 classes"):
        made.finish_preparation("stage", 0)
