"""From a recipe's data to data sets in one label space."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from segadapt.data.folder import open_folder
from segadapt.data.memory import in_memory
from segadapt.data.readers import open_dataset
from segadapt.engine.bundle import DataBundle
from segadapt.errors import RequestError
from segadapt.labels import CAMVID, CITYSCAPES, IGNORE, NTHU, SYNTHIA, LabelSpace
from segadapt.runs.config import DataConfig, DataSpec, build_config, load_config
from segadapt.runs.fingerprint import labels_read, score_fingerprint
from segadapt.runs.opening import open_data, open_spec
from segadapt.runs.overview import read_parts
from segadapt.runs.spaces import in_space
from tests.data.test_readers import ALL_IDS, write_camvid_index, write_cityscapes, write_gta5
from tests.data.writing import picture, save
from tests.tiny import raw_config, write_folder

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


def test_a_wrong_name_in_merged_predictions_is_refused_before_training(tmp_path: Path) -> None:
    config = load_config("toy_camvid/oracle", ["data.merge_predictions={fense: building}"]).data
    with pytest.raises(RequestError, match=r"data\.merge_predictions: no class 'fense' .*did you mean 'fence'"):
        open_data(config, roots(tmp_path), tmp_path / "cache")
    config = load_config("toy_camvid/oracle", ["data.merge_predictions={fence: wall}"]).data
    with pytest.raises(RequestError, match=r"data\.merge_predictions: no class 'wall'"):
        open_data(config, roots(tmp_path), tmp_path / "cache")


def test_a_city_is_opened_as_its_recipe_says(tmp_path: Path) -> None:
    """19 classes of the run, of which the test labels 13; nine tenths of the labelled images to adapt to."""
    write_cityscapes(tmp_path / "cityscapes")
    for number in range(10):
        save(tmp_path / "nthu" / "Tokyo" / "Images" / "Test" / f"{number}.png", picture(4, 9))
        save(tmp_path / "nthu" / "Tokyo" / "Labels" / "Test" / f"{number}_eval.png", ALL_IDS)
    where = {name: str(tmp_path / name) for name in ("cityscapes", "nthu")}
    tested = set()
    for fold in range(1, 11):
        config = load_config("cityscapes_nthu_tokyo/cbst_resnet38", [f"data.fold={fold}/10"])
        opened = open_data(config.data, where, tmp_path / "cache")
        assert opened.test is not None
        (name,) = [item.id for item in opened.test.items]
        tested.add(name)
        assert [item.id for item in opened.training.target.items] == [str(n) for n in range(10) if str(n) != name]
    assert len(tested) == 10
    config = load_config("cityscapes_nthu_tokyo/cbst_resnet38")
    opened = open_data(config.data, where, tmp_path / "cache")
    assert opened.space.names == CITYSCAPES.names
    assert opened.test is not None
    assert [item.id for item in opened.test.items] == ["0"]
    assert [item.id for item in opened.training.target.items] == [str(number) for number in range(1, 10)]
    assert not opened.training.target.labelled
    labelled = {CITYSCAPES.names[i] for i in np.unique(opened.test.label(0)) if i != IGNORE}
    assert labelled == set(NTHU.names)
    unmerged = load_config("cityscapes_nthu_tokyo/cbst_resnet38", ["data.merge_predictions={}"])
    assert unmerged.data.merge_predictions == {}
    assert score_fingerprint(config, opened) != score_fingerprint(unmerged, opened)  # scores are made again


def test_a_list_file_names_images_of_a_published_data_set(tmp_path: Path) -> None:
    """As CRST's lists of 505 and 19 984 images do."""
    write_cityscapes(tmp_path)
    listed = tmp_path / "list.txt"
    listed.write_text("train/ulm/ulm_000000_000001_leftImg8bit.png\naachen_000000_000002_leftImg8bit\n")
    spec = DataSpec(reader="cityscapes", root=str(tmp_path), split="train", list_file=str(listed))
    for labelled in (True, False):
        found = open_spec(spec, labelled, {}, "target")
        assert [item.id for item in found.items] == ["aachen_000000_000002", "ulm_000000_000001"]
    listed.write_text("aachen_000000_000009_leftImg8bit.png\n")
    with pytest.raises(RequestError, match=r"target: 1 of 1 lines of .*list\.txt name no image in"):
        open_spec(spec, False, {}, "target")


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
        read_parts({"test": test}, {"test": True}, False, lambda _: None)


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


def with_classes(root: Path, text: str, masks: int = 3) -> DataSpec:
    write_folder(root, 2, classes=masks)
    (root / "classes.yaml").write_text(text)
    return DataSpec(images=str(root / "images"), labels=str(root / "labels"), classes=str(root / "classes.yaml"))


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("Ground", "box", "disc"), r"the class 'Ground' \(did you mean 'ground'\?\) of the masks is none of"),
        (("ground", "b o-x", "disc"), r"'b o-x' \(did you mean 'box'\?\).*merge \(b o-x=box; =ignore leaves out\)"),
        (("ground", "box", "discs"), r"'discs' \(did you mean 'disc'\?\)"),
        (("ground", "box", "lorry"), r"the class 'lorry' of the masks is none of ground, box, disc"),
        (("a", "b", "c"), r"the classes 'a', 'b', 'c' of the masks are none of"),
    ],
)
def test_a_class_without_a_counterpart_is_named(tmp_path: Path, names: tuple[str, ...], words: str) -> None:
    source = with_classes(tmp_path / "source", "{ground: 0, box: 1, disc: 2}")
    test = with_classes(tmp_path / "test", f"{{{names[0]}: 0, {names[1]}: 1, {names[2]}: 2}}")
    config = DataConfig(source=source, target=DataSpec(images=test.images), test=test)
    with pytest.raises(RequestError, match=f"test: .*{words}"):
        open_data(config, {}, tmp_path / "cache")
    merge = {a: b for a, b in zip(names, ("ground", "box", "ignore"), strict=True) if a != b}
    mended = config.model_copy(update={"test": test.model_copy(update={"merge": merge})})
    opened = open_data(mended, {}, tmp_path / "cache")
    assert opened.test is not None
    assert set(np.unique(opened.test.label(0))) <= {0, 1, 2 if "disc" in names else IGNORE, IGNORE}


def test_numbers_of_names_are_not_mistakes_of_spelling(tmp_path: Path) -> None:
    source = with_classes(tmp_path / "source", "{class_1: 0, class_2: 1, class_3: 2}")
    test = with_classes(tmp_path / "test", "{class_1: 0, class_2: 1, class_4: 2}")
    with pytest.raises(RequestError, match="the class 'class_4' of the masks is none of") as caught:
        open_data(DataConfig(source=source, target=DataSpec(images=test.images), test=test), {}, tmp_path / "cache")
    assert "did you mean" not in str(caught.value)


def test_what_a_published_set_has_besides_is_told(tmp_path: Path) -> None:
    write_gta5(tmp_path)
    plain = open_dataset("gta5", tmp_path)
    some = in_space(plain, SYNTHIA, "test")
    assert tuple(notice.text for notice in some.notices) == (
        "test: pixels of terrain, truck, train are ignored, as these are no classes of 'synthia16'",
    )
    assert in_space(plain, SYNTHIA, "test", {"terrain": "vegetation", "truck": "car", "train": "ignore"}).notices == ()


def test_predictions_are_written_in_the_ids_of_the_target(tmp_path: Path) -> None:
    source = with_classes(tmp_path / "source", "{ground: 0, box: 1, disc: 2}")
    test = with_classes(tmp_path / "test", "{disc: 20, box: 10, more: 7, ground: 0, ignore: others}")
    test = test.model_copy(update={"merge": {"more": "ignore"}})
    target = DataSpec(images=test.images)
    assert open_data(DataConfig(source=source, target=target), {}, tmp_path / "cache").space.ids == (0, 1, 2)
    space = open_data(DataConfig(source=source, target=target, test=test), {}, tmp_path / "cache").space
    assert (space.names, space.ids) == (("ground", "box", "disc"), (0, 10, 20))
    parts = "ground: {ids: {source: 0, target: 5}}\nbox: {ids: {source: 1, test: 0}}\ndisc: {ids: {source: [2, 3]}}\n"
    source = with_classes(tmp_path / "parts", parts)
    assert open_data(DataConfig(source=source, target=target), {}, tmp_path / "cache").space.ids == (5, 0, 2)


def test_one_class_is_refused_wherever_data_become_a_run(tmp_path: Path) -> None:
    one, two = (LabelSpace("x", names, ((0, 0, 0),) * len(names)) for names in (("crack",), ("crack", "rest")))
    pixels = [(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8))]
    dataset = in_memory("source", pixels, one)
    with pytest.raises(RequestError, match=r"labels: there is one class, 'crack'; .*\{background: 0, crack: 1\}"):
        in_space(dataset, one, "labels")
    given = {"source": dataset, "target": dataset.unlabelled()}
    python = DataConfig(source=DataSpec(reader="python"), target=DataSpec(reader="python"))
    with pytest.raises(RequestError, match="source: there is one class, 'crack'"):
        open_data(python, {}, tmp_path, given)
    given["source"] = in_memory("source", pixels, two)
    assert open_data(python, {}, tmp_path, given).space.ids == (0, 1)
    merged = python.model_copy(update={"source": DataSpec(reader="python", merge={"rest": "crack"})})
    with pytest.raises(RequestError, match="of the classes crack, rest, its masks label 'crack' alone"):
        open_data(merged, {}, tmp_path, given)


def test_labels_to_train_on_are_never_those_of_the_fold_that_is_tested(tmp_path: Path) -> None:
    raw = raw_config(tmp_path, "dacs")
    raw["data"].update(target=raw["data"]["test"], oracle=raw["data"]["test"], labelled={}, fold="2/3")
    data = open_data(build_config(raw, "tiny").data, {}, None)
    assert data.test is not None
    assert [item.id for item in data.test.items] == ["001"]
    assert data.training.labelled is not None
    assert data.training.oracle is not None
    for images in (data.training.target, data.training.labelled, data.training.oracle()):
        assert [item.id for item in images.items] == ["000", "002"]


@pytest.mark.parametrize(
    ("fold", "changed", "said"),
    [
        ("0/10", {}, r"'data\.fold' must be a fold K/N, K from 1 to N and N at least 2, e\.g\. 3/10, not '0/10'"),
        ("3", {}, r"must be a fold K/N"),
        ("1/4", {}, "3 images are too few for 4 folds"),
        (
            "1/2",
            {"limit": 2},
            r"data\.fold=1/2 is a part of one set .* \(they differ in limit\); name the same images in",
        ),
    ],
)
def test_a_wrong_fold_is_one_line(tmp_path: Path, fold: str, changed: dict[str, Any], said: str) -> None:
    raw = raw_config(tmp_path, "dacs")
    raw["data"].update(target={**raw["data"]["test"], **changed}, fold=fold)
    with pytest.raises(RequestError, match=said):
        open_data(build_config(raw, "tiny").data, {}, None)


def test_a_fold_of_two_sets_that_a_script_gave_is_refused(tmp_path: Path) -> None:
    raw = raw_config(tmp_path, "dacs")
    target, test = (open_folder(tmp_path / part / "images") for part in ("target", "test"))
    raw["data"].update(target={"reader": "python"}, test={"reader": "python"}, fold="1/3")
    given = {"target": target, "test": replace(test, items=tuple(replace(i, label=i.image) for i in test.items))}
    with pytest.raises(
        RequestError, match=r"data\.fold=1/3 is a part of one set of images, but target and test are two;"
    ):
        open_data(build_config(raw, "tiny").data, {}, None, given)
