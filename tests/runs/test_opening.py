"""From a recipe's data to data sets in one label space."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from segadapt.data.readers import open_dataset
from segadapt.engine.bundle import DataBundle
from segadapt.errors import RequestError
from segadapt.labels import CAMVID, CITYSCAPES, IGNORE, LabelSpace
from segadapt.runs.config import DataConfig, DataSpec, load_config
from segadapt.runs.fingerprint import labels_read
from segadapt.runs.opening import check_files, open_data
from segadapt.runs.spaces import in_space
from tests.data.test_readers import ALL_IDS, write_camvid_index, write_cityscapes, write_gta5
from tests.tiny import write_folder

# Cityscapes label id -> class of CamVid, typed from the groups of its 32 classes, not from the recipe
CAMVID_CLASS = {
    7: "road", 8: "sidewalk", 11: "building", 12: "building", 13: "fence", 17: "pole", 19: "sign", 20: "sign",
    21: "tree", 22: "tree", 23: "sky", 24: "pedestrian", 25: "bicyclist", 26: "car", 27: "car", 28: "car", 31: "car",
    32: "bicyclist", 33: "bicyclist",
}  # fmt: skip


def roots(folder: Path) -> dict[str, str]:
    """Make a toy world and a CamVid of two frames, as the recipes name them."""
    write_cityscapes(folder / "toy" / "cityscapes")
    write_camvid_index(folder / "camvid")
    for split in ("train", "test"):
        (folder / "camvid" / f"{split}.txt").write_text("0006R0_f00930\n")
    return {"toy": str(folder / "toy"), "camvid": str(folder / "camvid")}


def test_toy_classes_become_those_of_camvid(tmp_path: Path) -> None:
    config = load_config("toy_camvid/oracle").data
    opened = open_data(config, roots(tmp_path), tmp_path / "cache")
    bundle, test, space = opened.training, opened.test, opened.space
    assert space is CAMVID
    assert bundle.source.space.names == CAMVID.names
    expected = np.vectorize(lambda i: CAMVID.index(CAMVID_CLASS[i]) if i in CAMVID_CLASS else IGNORE)(ALL_IDS)
    assert np.array_equal(bundle.source.label(0), expected)
    assert set(np.unique(expected)) == {*range(len(CAMVID)), IGNORE}
    assert not bundle.target.labelled
    assert test is not None
    assert test.label(0).tolist() == [[0, 1], [3, IGNORE]]
    assert bundle.oracle is not None
    assert bundle.oracle().labelled


def test_labels_of_the_target_are_opened_to_measure_alone_and_only_where_asked(tmp_path: Path) -> None:
    where = roots(tmp_path)
    (tmp_path / "camvid" / "test.txt").write_text("0001TP_006690\n")
    config = load_config("toy_camvid/cbst").data

    def opened(**changes: Any) -> DataBundle:
        return open_data(config.model_copy(update=changes), where, tmp_path / "cache").training

    bundle = opened()
    assert bundle.truth is not None
    assert bundle.truth.labelled
    assert [i.id for i in bundle.truth.items] == [i.id for i in bundle.target.items]
    assert not bundle.target.labelled
    assert opened(measure_labels=False).truth is None
    with pytest.raises(
        RequestError, match=r"measure_labels compares with data\.oracle, which the recipe does not give"
    ):
        opened(oracle=None)
    with pytest.raises(
        RequestError, match=r"measure_labels needs data\.oracle to hold the same images as data\.target"
    ):
        opened(oracle=config.test)


def test_how_labels_are_read_is_part_of_what_a_stage_was_trained_on(tmp_path: Path) -> None:
    (tmp_path / "classes.yaml").write_text("- {name: a, id: 0}")
    first = DataSpec(images="a", labels="b", classes=str(tmp_path / "classes.yaml"))
    before = labels_read(first)
    (tmp_path / "classes.yaml").write_text("- {name: a, id: 7}")
    assert labels_read(first) != before
    assert labels_read(DataSpec(images="a", labels="b")) == {}
    assert labels_read(DataSpec(images="a", labels="b", ignore_ids=(0,))) == {"ignore_ids": (0,)}
    lanes = DataSpec(reader="synthia", root="s", options={"lane_marking": "road"})
    assert labels_read(lanes) == {"options": {"lane_marking": "road"}}


def test_test_masks_are_read_as_those_of_the_source(tmp_path: Path) -> None:
    """Classes found in the source's masks are those of the test's, also where these hold but one, or one more."""
    write_folder(tmp_path / "source", 2, classes=3)
    write_folder(tmp_path / "test", 2, classes=1)
    config = DataConfig(
        source=DataSpec(images=str(tmp_path / "source/images"), labels=str(tmp_path / "source/labels")),
        target=DataSpec(images=str(tmp_path / "test/images")),
        test=DataSpec(images=str(tmp_path / "test/images"), labels=str(tmp_path / "test/labels")),
    )
    opened = open_data(config, {}, tmp_path / "cache")
    test, space = opened.test, opened.space
    assert space.names == ("class_0", "class_1", "class_2")
    assert test is not None
    assert test.space.same_classes(space)
    assert set(np.unique(test.label(0))) == {0, IGNORE}
    cv2.imwrite(str(tmp_path / "test/labels/001.png"), np.full((40, 56), 9, np.uint8))
    test = open_data(config, {}, tmp_path / "cache").test
    assert test is not None
    with pytest.raises(RequestError, match=r"001\.png holds 9, which are not ids of this data set .*--ignore-id"):
        check_files({"test": test}, False, lambda _: None)


def test_what_is_merged_is_scored_and_what_is_not_is_named(tmp_path: Path) -> None:
    write_gta5(tmp_path)
    plain = open_dataset("gta5", tmp_path)
    assert in_space(plain, CITYSCAPES, "source") is plain
    merged = in_space(plain, CITYSCAPES, "source", {"truck": "car"})
    truck = CITYSCAPES.index("truck")
    assert (merged.label(0)[ALL_IDS == 27] == CITYSCAPES.index("car")).all()
    assert truck not in merged.label(0)
    assert len(merged.space.subsets["the 18 classes labelled here"]) == 18
    assert "truck" not in merged.space.subsets["the 18 classes labelled here"]
    vehicles = LabelSpace("vehicles", ("vehicle", "boat"), ((0, 0, 0), (1, 1, 1)))
    some = in_space(plain, vehicles, "source", {"truck": "vehicle"})
    assert some.space.subsets["the 1 classes labelled here"] == ("vehicle",)
    with pytest.raises(RequestError, match=r"'road', .* of the masks are none of vehicle, boat; .*=ignore leaves out"):
        in_space(plain, vehicles, "source")
    with pytest.raises(RequestError, match="no class 'lorry' in label space 'cityscapes19'"):
        in_space(plain, vehicles, "source", {"lorry": "vehicle"})
    with pytest.raises(RequestError, match=r"no class 'vehicles' in label space 'vehicles' .did you mean 'vehicle'"):
        in_space(plain, vehicles, "source", {"truck": "vehicles"})
