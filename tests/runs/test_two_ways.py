"""CamVid to IDD-Lite by readers and a recipe, and by folders and the classes file that the page on data shows."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import segadapt
from segadapt.data.dataset import Dataset
from segadapt.errors import RequestError
from segadapt.labels import IDD_LITE, IGNORE
from segadapt.runs.config import DataConfig, DataSpec, folder_config, load_config
from segadapt.runs.opening import OpenedData, open_data
from segadapt.runs.own_data import own_data
from tests.data.test_readers import IDD, write_idd_lite
from tests.data.writing import picture, save
from tests.docs.blocks import ROOT, blocks
from tests.test_cli import call

SHARED = ROOT.parent / "shared" / "data"
CAMVID_TO_IDD = [6, 5, 4, 0, 1, 5, 4, 4, 3, 2, 2, IGNORE]
"""Class of IDD-Lite for each class of CamVid and for void, typed from the description of the task."""


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """A twin of both data sets: the official folders, tiny pictures, every value that occurs in masks."""
    for number, name in enumerate(("0006R0_f00930", "0001TP_006690", "Seq05VD_f00000")):
        save(tmp_path / "camvid/images" / f"{name}.jpg", picture(3, 4, number))
        save(tmp_path / "camvid/labels" / f"{name}.png", np.roll(np.arange(12, dtype=np.uint8), number).reshape(3, 4))
    (tmp_path / "camvid/day.txt").write_text("Seq05VD_f00000\n0006R0_f00930\n")
    write_idd_lite(tmp_path / "idd_lite")
    return tmp_path


def classes_of_the_page(folder: Path) -> Path:
    """Write the classes file of the page on data."""
    (block,) = (b for b in blocks(ROOT / "docs/folders.md", "yaml") if b.example == ("file", "camvid_idd.yaml"))
    (folder / "camvid_idd.yaml").write_text(block.text)
    return folder / "camvid_idd.yaml"


def by_recipe(data: Path, cache: Path) -> tuple[DataConfig, OpenedData]:
    config = load_config("camvid_idd/source_only").data
    return config, open_data(config, {name: str(data / name) for name in ("camvid", "idd_lite")}, cache)


def by_folders(data: Path, cache: Path) -> tuple[DataConfig, OpenedData]:
    camvid, idd = data / "camvid", data / "idd_lite"
    folders = {
        "source": (camvid / "images", camvid / "labels"),
        "target": (idd / "leftImg8bit/train", None),
        "test": (idd / "leftImg8bit/val", idd / "gtFine/val"),
    }
    _, settings = own_data({}, folders, classes_of_the_page(cache), (255,))
    sizes = ["data.source.size=[180,240]", "data.target.size=[180,254]", "data.test.size=[180,254]"]
    config = folder_config("cbst", settings, [*sizes, f"data.source.list_file={camvid / 'day.txt'}"]).data
    return config, open_data(config, {}, cache)


def require_equal(one: Dataset, other: Dataset, count: int) -> None:
    """Require the same images in the same order with the same labels, looking at ``count`` of them."""
    assert len(one) == len(other)
    assert [i.image for i in one.items] == [i.image for i in other.items]
    assert one.labelled == other.labelled
    for index in np.linspace(0, len(one) - 1, count).astype(int).tolist() if one.labelled else ():
        assert np.array_equal(one.label(index), other.label(index))


def require_same(data: Path, cache: Path, count: int) -> tuple[OpenedData, OpenedData]:
    (recipe, first), (settings, second) = by_recipe(data, cache), by_folders(data, cache)
    assert first.space.names == second.space.names
    assert first.space.colors == second.space.colors
    for part in ("source", "target", "test"):
        assert getattr(recipe, part).size == getattr(settings, part).size
        require_equal(first.datasets[part], second.datasets[part], count)
    return first, second


def test_both_ways_give_equal_labels(world: Path) -> None:
    first, second = require_same(world, world, 2)
    assert [i.id for i in second.training.source.items] == ["0006R0_f00930", "Seq05VD_f00000"]
    for opened in (first, second):
        assert opened.training.source.label(0).ravel().tolist() == CAMVID_TO_IDD
        assert opened.training.source.label(1).ravel().tolist() == CAMVID_TO_IDD[-2:] + CAMVID_TO_IDD[:-2]
        assert opened.test is not None
        assert np.array_equal(opened.test.label(1), IDD)
        assert not opened.training.target.labelled


@pytest.mark.skipif(not (SHARED / "idd_lite").is_dir(), reason="CamVid and IDD-Lite are not here")
def test_both_ways_give_equal_labels_of_the_real_data(tmp_path: Path) -> None:
    first, _ = require_same(SHARED, tmp_path, 12)
    assert {part: len(dataset) for part, dataset in first.datasets.items()} == {
        "source": 577,
        "target": 1403,
        "test": 204,
    }


def only(folder: Path, part: str) -> Path:
    """Write the classes of IDD-Lite with their own ids for one part, and ids that do not occur for the others."""
    offsets = {name: 0 if name == part else 100 for name in ("source", "target", "test")}
    rows = [
        {"name": name, "ids": {other: number + offset for other, offset in offsets.items()}}
        for number, name in enumerate(IDD_LITE.names)
    ]
    (folder / f"{part}.json").write_text(json.dumps(rows))
    return folder / f"{part}.json"


def test_an_oracle_reads_the_ids_of_the_target(world: Path) -> None:
    config, _ = by_folders(world, world)
    idd = world / "idd_lite"
    oracle = DataSpec(images=str(idd / "leftImg8bit/train"), labels=str(idd / "gtFine/train"))
    opened = open_data(config.model_copy(update={"oracle": oracle}), {}, world).training.oracle
    assert opened is not None
    assert np.array_equal(opened().label(1), IDD)


def test_each_call_reads_the_ids_of_its_part(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``evaluate`` reads the ids of the test set, ``label`` those of the target; only one column is right each time."""
    idd = world / "idd_lite"
    images, labels = idd / "leftImg8bit/val", idd / "gtFine/val"
    result = segadapt.adapt(
        overrides=["model.name=timm:resnet10t", "model.weights=null", "model.arguments.width=16", "source.steps=1",
                   "source.batch_size=2", "source.augmentation.crop=[32,64]", "data.source.size=[32,64]",
                   "data.target.size=[32,64]", "data.test.size=[32,64]"],
        source_images=world / "camvid/images", source_labels=world / "camvid/labels",
        target_images=idd / "leftImg8bit/train", test_images=images, test_labels=labels,
        classes=classes_of_the_page(world), method="source_only", out=world / "run",
    )  # fmt: skip
    for part in ("source", "target", "test"):
        classes = only(world, part)
        calls: dict[str, Callable[[], Any]] = {
            "test": partial(segadapt.evaluate, result.model, images=images, labels=labels, classes=classes),
            "target": partial(segadapt.label, result.model, images, world / part, labels=labels, classes=classes),
        }
        for read, use in calls.items():
            if part != read:
                with pytest.raises(RequestError, match="which are not ids of this data set"):
                    use()
        given = ("--images", str(images), "--labels", str(labels), "--classes", str(classes))
        code, _, err = call(monkeypatch, capsys, "evaluate", str(result.model), *given)
        assert code == (0 if part == "test" else 2), err
        if part == "test":
            assert calls["test"]().miou == pytest.approx(result.miou)
        if part == "target":
            assert calls["target"]()["accuracy"] is not None
