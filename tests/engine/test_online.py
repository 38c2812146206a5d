"""Online labels are compared with the truth of the very crops they were made for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from segadapt.data.augment import Window
from segadapt.data.cache import DecodedCache
from segadapt.data.dataset import Dataset, Item
from segadapt.data.loader import Samples
from segadapt.engine.online import OnlineRecord
from segadapt.engine.runtime import Runtime
from segadapt.labels import IGNORE, LabelSpace
from segadapt.methods.method import OnlineLabels

SPACE = LabelSpace("three", ("a", "b", "c"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)))
ALL = ("accuracy", "mean_accuracy", "miou", "density")
TRUTH = np.arange(64, dtype=np.uint8).reshape(8, 8) % 3


def dataset() -> Dataset:
    items = (Item("one", Path("one.png"), Path("one_y.png")),)
    return Dataset("truth", SPACE, items, lambda path: pytest.fail("opened"), lambda path: TRUTH)


def samples(window: Window) -> Samples:
    empty = torch.zeros(0)
    return Samples(empty, empty, empty, [window], [(8, 8)], None, ["one"])


def test_accuracy_and_density() -> None:
    record = OnlineRecord(dataset(), 3, None, DecodedCache(0), Runtime("cpu"))
    crop = torch.from_numpy(TRUTH[2:6, 4:8].astype(np.int64)).flip(1)[None]
    wrong = crop.clone()
    wrong[0, 0] = (wrong[0, 0] + 1) % 3
    wrong[0, 1] = IGNORE
    seen = samples(Window(2, 4, 4, 4, True))
    record.add(seen, OnlineLabels("target", {"right": crop, "half": wrong}))
    found = record.take()
    taken, shares = found["sets"], [crop.eq(c).double().mean().item() for c in range(3)]
    assert found["truth"] == pytest.approx(shares, rel=1e-3)
    assert {k: v for k, v in taken["right"].items() if k != "classes"} == dict.fromkeys(ALL, 1.0)
    assert taken["right"]["classes"] == found["truth"]
    hits, misses = crop[0, 2:].reshape(-1).tolist(), crop[0, 0].tolist()
    right = [hits.count(c) for c in range(3)]
    missed, added = ([found.count(c) for c in range(3)] for found in (misses, wrong[0, 0].tolist()))
    classes = list(zip(right, missed, added, strict=True))
    given = [(right[c] + added[c]) / 12 for c in range(3)]
    assert taken["half"].pop("classes") == pytest.approx(given, rel=1e-3)
    assert taken["half"] == {
        "accuracy": pytest.approx(8 / 12),
        "mean_accuracy": pytest.approx(sum(r / (r + m) for r, m, _ in classes) / 3),
        "miou": pytest.approx(sum(r / (r + m + a) for r, m, a in classes) / 3),
        "density": 0.75,
    }
    assert record.take() == {}


def test_labels_at_a_quarter_of_the_resolution() -> None:
    record = OnlineRecord(dataset(), 3, None, DecodedCache(0), Runtime("cpu"))
    quarter = torch.from_numpy(TRUTH[2::4, 2::4].astype(np.int64))[None]
    record.add(samples(Window(0, 0, 8, 8)), OnlineLabels("target", {"x": quarter}))
    assert record.take()["sets"]["x"]["accuracy"] == 1.0


def test_pixels_without_label_count_in_the_truth_alone() -> None:
    """A class that labels leave out shows: the truth counts all pixels, the labels only the pixels that have one."""
    record = OnlineRecord(dataset(), 3, None, DecodedCache(0), Runtime("cpu"))
    truth = torch.from_numpy(TRUTH.astype(np.int64))[None]
    labels = torch.where(truth == 2, IGNORE, 0)
    for _ in range(2):
        record.add(samples(Window(0, 0, 8, 8)), OnlineLabels("target", {"x": labels, "y": truth}))
    found = record.take()
    assert found["sets"]["x"]["classes"] == [1.0, 0.0, 0.0]
    assert found["truth"] == [0.3438, 0.3281, 0.3281]  # 22, 21 and 21 of 64
    assert sum(found["sets"]["y"]["classes"]) == pytest.approx(1, abs=1e-3)


def test_without_truth_only_density_is_known() -> None:
    record = OnlineRecord(None, 3, None, DecodedCache(0), Runtime("cpu"))
    labels = torch.tensor([[[0, IGNORE]]])
    record.add(samples(Window(0, 0, 8, 8)), OnlineLabels("target", {"x": labels}))
    assert record.take() == {"sets": {"x": {"accuracy": None, "mean_accuracy": None, "miou": None, "density": 0.5}}}


def test_class_masses_stand_beside_the_truth() -> None:
    """The shares that a method counts on are those of the last step since the last call, even if they move on."""
    for truth in (dataset(), None):
        record = OnlineRecord(truth, 3, None, DecodedCache(0), Runtime("cpu"))
        labels, masses = torch.from_numpy(TRUTH.astype(np.int64))[None], torch.tensor([0.5, 0.3, 0.2])
        for shares in (torch.ones(3) / 3, masses):
            record.add(samples(Window(0, 0, 8, 8)), OnlineLabels("target", {"x": labels}, masses={"r": shares}))
        masses.fill_(0)
        found = record.take()
        assert found["masses"] == {"r": pytest.approx([0.5, 0.3, 0.2])}
        assert ("truth" in found) == (truth is not None)
        record.add(samples(Window(0, 0, 8, 8)), OnlineLabels("target", {"x": labels}))
        assert "masses" not in record.take()
