"""Readers on tiny data sets in their official layouts."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segadapt.data.dataset import Dataset
from segadapt.data.decode import UnknownLabel
from segadapt.data.masks.labelling import SizeMismatch
from segadapt.data.readers import READERS, open_dataset, to_space
from segadapt.errors import RequestError
from segadapt.labels import CAMVID, CITYSCAPES, IGNORE, NTHU, SPACES, SYNTHIA, THINGS, LabelSpace
from tests.data.writing import odd_palette, picture, save, save_16bit_rgb

# label id -> train id, typed from the specification, not from the package
CITYSCAPES_IDS = dict(
    zip([7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33], range(19), strict=True)
)
SYNTHIA_IDS = {
    3: "road", 4: "sidewalk", 2: "building", 21: "wall", 5: "fence", 7: "pole", 15: "traffic light", 9: "traffic sign",
    6: "vegetation", 16: "terrain", 1: "sky", 10: "person", 17: "rider", 8: "car", 18: "truck", 19: "bus", 20: "train",
    12: "motorcycle", 11: "bicycle",
}  # fmt: skip
ALL_IDS = np.arange(36, dtype=np.uint8).reshape(4, 9) % 35


def train_ids_of(ids: np.ndarray) -> np.ndarray:
    return np.vectorize(lambda i: CITYSCAPES_IDS.get(int(i), IGNORE))(ids)


def write_gta5(root: Path) -> None:
    for number in (3, 1, 2):
        save(root / "images" / f"{number:05d}.png", picture(4, 9, number))
        save(root / "labels" / f"{number:05d}.png", ALL_IDS, odd_palette())


def write_synthia(root: Path) -> None:
    label = np.zeros((4, 9, 3), np.uint16)
    label[..., 0] = ALL_IDS % 23
    label[..., 1] = 1000 + np.arange(36).reshape(4, 9)
    for number in (1, 0):
        save(root / "RGB" / f"{number:07d}.png", picture(4, 9, number))
        save_16bit_rgb(root / "GT" / "LABELS" / f"{number:07d}.png", label)
        save(root / "GT" / "COLOR" / f"{number:07d}.png", picture(4, 9))


def write_cityscapes(root: Path) -> None:
    for city, frame in (("ulm", 1), ("aachen", 2), ("aachen", 1)):
        name = f"{city}_000000_{frame:06d}"
        save(root / "leftImg8bit" / "train" / city / f"{name}_leftImg8bit.png", picture(4, 9))
        folder = root / "gtFine" / "train" / city
        save(folder / f"{name}_gtFine_labelIds.png", ALL_IDS)
        save(folder / f"{name}_gtFine_color.png", picture(4, 9))
        save(folder / f"{name}_gtFine_instanceIds.png", ALL_IDS)


def write_camvid_original(root: Path) -> None:
    label = np.array([[(128, 128, 128), (0, 128, 64)], [(128, 0, 192), (0, 0, 0)]], np.uint8)
    for name in ("0001TP_006690", "0006R0_f00930"):
        save(root / "701_StillsRaw_full" / f"{name}.png", picture(2, 2))
        save(root / "LabeledApproved_full" / f"{name}_L.png", label)


def write_camvid_index(root: Path) -> None:
    for name in ("0001TP_006690", "0006R0_f00930"):
        save(root / "images" / f"{name}.jpg", picture(2, 2))
        save(root / "labels" / f"{name}.png", np.array([[0, 1], [3, 11]], np.uint8))
    (root / "day.txt").write_text("0006R0_f00930\n")


def write_camvid_segnet(root: Path) -> None:
    for split, name in (("train", "0001TP_006690"), ("test", "0006R0_f00930")):
        save(root / split / f"{name}.png", picture(2, 2))
        save(root / f"{split}annot" / f"{name}.png", np.array([[0, 1], [3, 11]], np.uint8))
        (root / f"{split}.txt").write_text(
            f"/SegNet/CamVid/{split}/{name}.png /SegNet/CamVid/{split}annot/{name}.png\n"
        )


def write_nthu(root: Path) -> None:
    save(root / "Rome" / "Images" / "Train" / "a.jpg", picture(4, 9))
    save(root / "Rome" / "Images" / "Test" / "pano_1.png", picture(4, 9))
    save(root / "Rome" / "Labels" / "Test" / "pano_1_eval.png", ALL_IDS)


def write_bdd(root: Path) -> None:
    save(root / "images" / "10k" / "val" / "x.jpg", picture(4, 5))
    save(
        root / "labels" / "sem_seg" / "masks" / "val" / "x.png",
        np.r_[np.arange(19), 255].astype(np.uint8).reshape(4, 5),
    )


def write_bdd_old(root: Path) -> None:
    save(root / "seg" / "images" / "val" / "x.jpg", picture(4, 5))
    save(root / "seg" / "labels" / "val" / "x_train_id.png", np.r_[np.arange(19), 255].astype(np.uint8).reshape(4, 5))


def write_dark_zurich(root: Path) -> None:
    for split, time in (("train", "night"), ("train", "day"), ("val", "night")):
        save(root / "rgb_anon" / split / time / "GOPR1" / f"GOPR1_frame_{split}_{time}_rgb_anon.png", picture(4, 5))
    mask = np.r_[np.arange(19), 255].astype(np.uint8).reshape(4, 5)
    save(root / "gt" / "val" / "night" / "GOPR1" / "GOPR1_frame_val_night_gt_labelTrainIds.png", mask)


def write_acdc(root: Path) -> None:
    mask = np.r_[np.arange(19), 255].astype(np.uint8).reshape(4, 5)
    for weather in ("fog", "night", "rain", "snow"):
        for split in ("val", "val_ref"):
            save(root / "rgb_anon" / weather / split / "G1" / f"G1_{weather}_{split}_rgb_anon.png", picture(4, 5))
        save(root / "gt" / weather / "val" / "G1" / f"G1_{weather}_val_gt_labelTrainIds.png", mask)


IDD = np.array([[0, 1, 2, 3], [4, 5, 6, 255]], np.uint8)


def write_idd_lite(root: Path) -> None:
    """Three images of each split; two of them have the same name in different folders."""
    for split in ("train", "val"):
        for number, name in enumerate(("3/004642", "3/frame0029", "12/004642")):
            save(root / "leftImg8bit" / split / f"{name}_image.jpg", picture(2, 4, number))
            save(root / "gtFine" / split / f"{name}_label.png", np.roll(IDD, number, axis=1))


def write_loveda(root: Path) -> None:
    """Numbers repeat in no scene of the release, but may: items are called after both."""
    mask = np.arange(8, dtype=np.uint8).reshape(2, 4)
    for split in ("Train", "Val"):
        for scene, number in (("Urban", "1366"), ("Rural", "0"), ("Rural", "1366")):
            save(root / split / scene / "images_png" / f"{number}.png", picture(2, 4))
            save(root / split / scene / "masks_png" / f"{number}.png", mask)


ISPRS_COLORS = [(255, 255, 255), (0, 0, 255), (0, 255, 255), (0, 255, 0), (255, 255, 0), (255, 0, 0)]
"""Impervious surface, building, low vegetation, tree, car, clutter, as the benchmark's page lists them."""


def write_potsdam(root: Path) -> None:
    label = np.array([ISPRS_COLORS], np.uint8)
    for tile in ("2_10", "7_8", "6_15"):
        save(root / "2_Ortho_RGB" / f"top_potsdam_{tile}_RGB.tif", picture(1, 6))
        (root / "2_Ortho_RGB" / f"top_potsdam_{tile}_RGB.tfw").write_text("0.05")
        save(root / "3_Ortho_IRRG" / f"top_potsdam_{tile}_IRRG.tif", picture(1, 6, 1))
        save(root / "5_Labels_all" / f"top_potsdam_{tile}_label.tif", label)
        black = label.copy()
        black[0, 1] = 0
        save(root / "5_Labels_all_noBoundary" / f"top_potsdam_{tile}_label_noBoundary.tif", black)


def write_vaihingen(root: Path) -> None:
    for tile in (1, 30, 2):
        save(root / "top" / f"top_mosaic_09cm_area{tile}.tif", picture(1, 6))
        folder = root / "ISPRS_semantic_labeling_Vaihingen_ground_truth_COMPLETE"
        save(folder / f"top_mosaic_09cm_area{tile}.tif", np.array([ISPRS_COLORS], np.uint8))


LAYOUTS: list[tuple[str, Callable[[Path], None], str, dict[str, Any], list[str]]] = [
    ("gta5", write_gta5, "all", {}, ["labels"]),
    ("synthia", write_synthia, "all", {}, ["GT"]),
    ("cityscapes", write_cityscapes, "train", {}, ["gtFine"]),
    ("camvid", write_camvid_original, "all", {}, ["LabeledApproved_full"]),
    ("camvid", write_camvid_index, "day", {}, ["labels"]),
    ("camvid", write_camvid_segnet, "train", {}, ["trainannot", "testannot"]),
    ("nthu", write_nthu, "test", {"city": "Rome"}, ["Rome/Labels"]),
    ("bdd100k", write_bdd, "val", {}, ["labels"]),
    ("bdd100k", write_bdd_old, "val", {}, ["seg/labels"]),
    ("dark_zurich", write_dark_zurich, "val", {}, ["gt"]),
    ("acdc", write_acdc, "val", {}, ["gt"]),
    ("idd_lite", write_idd_lite, "val", {}, ["gtFine"]),
    ("loveda", write_loveda, "val", {}, ["Val/Rural/masks_png", "Val/Urban/masks_png"]),
    ("potsdam", write_potsdam, "train", {}, ["5_Labels_all", "5_Labels_all_noBoundary"]),
    ("vaihingen", write_vaihingen, "train", {}, ["ISPRS_semantic_labeling_Vaihingen_ground_truth_COMPLETE"]),
]
each_layout = pytest.mark.parametrize(
    ("reader", "write", "split", "options", "label_folders"), LAYOUTS, ids=[f"{w.__name__[6:]}" for _, w, *_ in LAYOUTS]
)


def test_every_reader_has_a_layout_here() -> None:
    assert {reader for reader, *_ in LAYOUTS} == set(READERS)


@each_layout
def test_reads(
    tmp_path: Path, reader: str, write: Callable[[Path], None], split: str, options: Any, label_folders: list[str]
) -> None:
    write(tmp_path)
    dataset = open_dataset(reader, tmp_path, split, True, **options)
    assert dataset.labelled
    assert dataset.space is READERS[reader].space
    assert [i.id for i in dataset.items] == sorted(i.id for i in dataset.items)
    for index in range(len(dataset)):
        label = dataset.label(index)
        assert label.dtype == np.uint8
        assert label.shape == dataset.image(index).shape[:2]
        assert ((label < len(dataset.space)) | (label == IGNORE)).all()
    copy: Dataset = pickle.loads(pickle.dumps(dataset))
    assert np.array_equal(copy.label(0), dataset.label(0))


@each_layout
def test_unlabelled_needs_no_label_folder(
    tmp_path: Path, reader: str, write: Callable[[Path], None], split: str, options: Any, label_folders: list[str]
) -> None:
    write(tmp_path)
    expected = [i.id for i in open_dataset(reader, tmp_path, split, True, **options).items]
    for folder in label_folders:
        shutil.rmtree(tmp_path / folder)
    with pytest.raises(RequestError) as error:
        open_dataset(reader, tmp_path, split, True, **options)
    assert label_folders[0].split("/")[-1] in str(error.value)
    dataset = open_dataset(reader, tmp_path, split, False, **options)
    assert [i.id for i in dataset.items] == expected
    assert not dataset.labelled
    assert dataset.image(0).ndim == 3
    with pytest.raises(RequestError, match="no label"):
        dataset.label(0)


@each_layout
def test_unlabelled_never_touches_labels(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    reader: str,
    write: Callable[[Path], None],
    split: str,
    options: Any,
    label_folders: list[str],
) -> None:
    import os

    write(tmp_path)
    forbidden = tuple(str(tmp_path / folder) for folder in label_folders)
    touched: list[str] = []

    def watch(module: Any, name: str) -> None:
        original = getattr(module, name)

        def watched(path: Any, *args: Any, **kwargs: Any) -> Any:
            if not isinstance(path, int) and str(path).startswith(forbidden):
                touched.append(f"{name} {path}")
            return original(path, *args, **kwargs)

        monkeypatch.setattr(module, name, watched)

    for name in ("stat", "lstat", "scandir", "listdir", "open"):
        watch(os, name)
    for name in ("is_file", "is_dir", "exists", "open", "read_bytes", "stat"):
        watch(Path, name)
    dataset = open_dataset(reader, tmp_path, split, False, **options)
    for index in range(len(dataset)):
        dataset.image(index)
    assert touched == []
    with pytest.raises(RequestError):
        dataset.label(0)
    assert touched == []
    # the watch itself works: with labels it does see them
    open_dataset(reader, tmp_path, split, True, **options)
    assert touched


@each_layout
def test_image_without_label_is_named_and_counted(
    tmp_path: Path, reader: str, write: Callable[[Path], None], split: str, options: Any, label_folders: list[str]
) -> None:
    write(tmp_path)
    dataset = open_dataset(reader, tmp_path, split, True, **options)
    gone = dataset.items[0]
    assert gone.label is not None
    gone.label.unlink()
    with pytest.raises(RequestError) as error:
        open_dataset(reader, tmp_path, split, True, **options)
    message = str(error.value)
    assert f"1 of {len(dataset)} images have no label" in message
    assert str(gone.image) in message
    assert "\n" not in message


def test_gta5_palette_indices(tmp_path: Path) -> None:
    write_gta5(tmp_path)
    dataset = open_dataset("gta5", tmp_path)
    assert [i.id for i in dataset.items] == ["00001", "00002", "00003"]
    assert np.array_equal(dataset.label(0), train_ids_of(ALL_IDS))
    assert np.array_equal(dataset.image(0), picture(4, 9, 1))


def test_gta5_label_of_another_size_is_resized(tmp_path: Path) -> None:
    write_gta5(tmp_path)
    save(tmp_path / "labels" / "00002.png", np.kron(ALL_IDS, np.ones((2, 2), np.uint8)), odd_palette())
    assert np.array_equal(open_dataset("gta5", tmp_path).label(1), train_ids_of(ALL_IDS))


def test_gta5_bad_pairs_are_left_out_unless_wanted(tmp_path: Path) -> None:
    write_gta5(tmp_path)
    for name in ("15188", "17705"):
        save(tmp_path / "images" / f"{name}.png", picture(4, 9))
        save(tmp_path / "labels" / f"{name}.png", ALL_IDS, odd_palette())
    assert len(open_dataset("gta5", tmp_path)) == 3
    assert len(open_dataset("gta5", tmp_path, skip_bad_pairs=False)) == 5


def test_synthia_classes_survive_sixteen_bits(tmp_path: Path) -> None:
    write_synthia(tmp_path)
    label = open_dataset("synthia", tmp_path).label(0)
    expected = np.vectorize(lambda c: CITYSCAPES.index(SYNTHIA_IDS[c]) if c in SYNTHIA_IDS else IGNORE)(ALL_IDS % 23)
    assert np.array_equal(label, expected)


def test_synthia_lane_marking_and_space(tmp_path: Path) -> None:
    write_synthia(tmp_path)
    lanes = ALL_IDS % 23 == 22
    assert lanes.any()
    assert (open_dataset("synthia", tmp_path).label(0)[lanes] == IGNORE).all()
    assert (open_dataset("synthia", tmp_path, lane_marking="road").label(0)[lanes] == 0).all()
    small = open_dataset("synthia", tmp_path, space="synthia16")
    assert small.space is SYNTHIA
    assert (small.label(0)[ALL_IDS % 23 == 8] == SYNTHIA.index("car")).all()
    assert (small.label(0)[ALL_IDS % 23 == 18] == IGNORE).all()
    with pytest.raises(RequestError, match="'ignore' or 'road', not 'lane'"):
        open_dataset("synthia", tmp_path, lane_marking="lane")


def test_cityscapes_prefers_label_ids_and_falls_back(tmp_path: Path) -> None:
    write_cityscapes(tmp_path)
    dataset = open_dataset("cityscapes", tmp_path)
    assert [i.id for i in dataset.items] == ["aachen_000000_000001", "aachen_000000_000002", "ulm_000000_000001"]
    assert np.array_equal(dataset.label(0), train_ids_of(ALL_IDS))
    for item in dataset.items:
        assert item.label is not None
        item.label.unlink()
        mask = (np.arange(36).reshape(4, 9) % 19).astype(np.uint8)
        save(item.label.with_name(item.label.name.replace("labelIds", "labelTrainIds")), mask)
    assert np.array_equal(open_dataset("cityscapes", tmp_path).label(0), np.arange(36).reshape(4, 9) % 19)


def test_camvid_colours_and_indices(tmp_path: Path) -> None:
    write_camvid_original(tmp_path / "a")
    write_camvid_index(tmp_path / "b")
    write_camvid_segnet(tmp_path / "c")
    sky, building, road = (CAMVID.index(n) for n in ("sky", "building", "road"))
    for layout in "abc":
        dataset = open_dataset("camvid", tmp_path / layout)
        assert [i.id for i in dataset.items] == ["0001TP_006690", "0006R0_f00930"]
        assert dataset.label(0).tolist() == [[sky, building], [road, IGNORE]]


def test_camvid_whole_picture_in_grey_colours(tmp_path: Path) -> None:
    write_camvid_original(tmp_path)
    sky = np.full((2, 2, 3), 128, np.uint8)
    save(tmp_path / "LabeledApproved_full" / "0001TP_006690_L.png", sky)
    assert (open_dataset("camvid", tmp_path).label(0) == CAMVID.index("sky")).all()


def test_camvid_lists(tmp_path: Path) -> None:
    write_camvid_index(tmp_path)
    assert [i.id for i in open_dataset("camvid", tmp_path, "day").items] == ["0006R0_f00930"]
    with pytest.raises(RequestError, match=r"no split 'days' .*did you mean 'day'"):
        open_dataset("camvid", tmp_path, "days")
    (tmp_path / "day.txt").write_text("0006R0_f00930\nmissing_1\n")
    with pytest.raises(RequestError, match=r"1 of 2 frames of .* are missing, the first is missing_1"):
        open_dataset("camvid", tmp_path, "day")


def test_nthu_thirteen_classes(tmp_path: Path) -> None:
    write_nthu(tmp_path)
    label = open_dataset("nthu", tmp_path, "test", city="Rome").label(0)
    for name, raw in {"road": 7, "traffic light": 19, "sky": 23, "car": 26, "bus": 28, "bicycle": 33}.items():
        assert (label[raw == ALL_IDS] == NTHU.index(name)).all()
    assert (label[ALL_IDS == 12] == IGNORE).all()
    assert len(open_dataset("nthu", tmp_path / "Rome", "train", labelled=False)) == 1
    with pytest.raises(RequestError, match=r"option 'city' is needed; .* has: Rome"):
        open_dataset("nthu", tmp_path, "test")
    with pytest.raises(RequestError, match="train split has no labels"):
        open_dataset("nthu", tmp_path, "train", city="Rome")


def test_dark_zurich_splits(tmp_path: Path) -> None:
    write_dark_zurich(tmp_path)
    night = open_dataset("dark_zurich", tmp_path, "train", labelled=False)
    assert [i.id for i in night.items] == ["GOPR1_frame_train_night"]
    assert len(open_dataset("dark_zurich", tmp_path, "train_day", labelled=False)) == 1
    with pytest.raises(RequestError, match="has no labels"):
        open_dataset("dark_zurich", tmp_path, "train")


def test_acdc_conditions_and_references(tmp_path: Path) -> None:
    write_acdc(tmp_path)
    assert len(open_dataset("acdc", tmp_path, "val")) == 4
    assert [i.id for i in open_dataset("acdc", tmp_path, "val", condition="fog").items] == ["G1_fog_val"]
    with pytest.raises(RequestError, match="did you mean 'snow'"):
        open_dataset("acdc", tmp_path, "val", condition="snowy")


@pytest.mark.parametrize("space", [space for space in SPACES if space not in ("loveda7", "isprs6")])
def test_every_space_of_streets_has_classes_of_countable_objects(space: str) -> None:
    """DAFormer's feature distance looks at them; from the air it looks at all classes."""
    assert 2 <= len(THINGS & set(SPACES[space].names)) < len(SPACES[space])


def test_idd_lite_names_repeat_in_its_folders(tmp_path: Path) -> None:
    write_idd_lite(tmp_path)
    dataset = open_dataset("idd_lite", tmp_path)
    assert [i.id for i in dataset.items] == ["12/004642", "3/004642", "3/frame0029"]
    assert [dataset.label(i)[0].tolist() for i in range(3)] == [[2, 3, 0, 1], [0, 1, 2, 3], [3, 0, 1, 2]]
    assert dataset.label(1)[1].tolist() == [4, 5, 6, IGNORE]
    assert dataset.space.names[2:4] == ("living things", "vehicles")
    with pytest.raises(RequestError, match="there are: train, val"):
        open_dataset("idd_lite", tmp_path, "test")


def test_loveda_scenes(tmp_path: Path) -> None:
    write_loveda(tmp_path)
    dataset = open_dataset("loveda", tmp_path, "train")
    assert [item.id for item in dataset.items] == ["rural/0", "rural/1366", "urban/1366"]
    assert dataset.label(0).tolist() == [[IGNORE, 0, 1, 2], [3, 4, 5, 6]]
    assert dataset.space.names[3:5] == ("water", "barren")
    assert [item.id for item in open_dataset("loveda", tmp_path, "val", scene="urban").items] == ["urban/1366"]
    with pytest.raises(
        RequestError, match=r"no scene 'Urban' \(did you mean 'urban'\?\); there are: all, urban, rural"
    ):
        open_dataset("loveda", tmp_path, "val", scene="Urban")


def test_isprs_tiles_of_the_challenge(tmp_path: Path) -> None:
    write_potsdam(tmp_path / "p")
    write_vaihingen(tmp_path / "v")
    for reader, root, train, test in (
        ("potsdam", "p", ["2_10", "7_8"], ["6_15"]),
        ("vaihingen", "v", ["1", "30"], ["2"]),
    ):
        for split, expected in (("train", train), ("test", test), ("all", sorted([*train, *test]))):
            dataset = open_dataset(reader, tmp_path / root, split)
            assert [item.id for item in dataset.items] == expected
            assert dataset.label(0).tolist() == [[0, 1, 2, 3, 4, 5]]
    names = ("impervious surface", "building", "low vegetation", "tree", "car", "clutter")
    assert READERS["potsdam"].space.names == names
    assert not np.array_equal(
        open_dataset("potsdam", tmp_path / "p").image(0), open_dataset("potsdam", tmp_path / "p", bands="irrg").image(0)
    )
    assert open_dataset("potsdam", tmp_path / "p", eroded=True).label(0).tolist() == [[0, IGNORE, 2, 3, 4, 5]]
    with pytest.raises(RequestError, match=r"no folder 'ISPRS_.*_eroded_COMPLETE' and no files .*; unpack the archive"):
        open_dataset("vaihingen", tmp_path / "v", eroded=True)
    with pytest.raises(RequestError, match="bands is 'rgb' or 'irrg', not 'rgbir'"):
        open_dataset("potsdam", tmp_path / "p", bands="rgbir")


def test_isprs_labels_may_lie_beside_the_folder_of_images(tmp_path: Path) -> None:
    """Their archives hold no folder."""
    write_vaihingen(tmp_path)
    folder = tmp_path / "ISPRS_semantic_labeling_Vaihingen_ground_truth_COMPLETE"
    for file in folder.iterdir():
        file.rename(tmp_path / file.name)
    folder.rmdir()
    assert len(open_dataset("vaihingen", tmp_path)) == 2


def test_an_isprs_label_with_other_colours_is_named(tmp_path: Path) -> None:
    write_potsdam(tmp_path)
    save(tmp_path / "5_Labels_all" / "top_potsdam_2_10_label.tif", picture(1, 6))
    with pytest.raises(
        UnknownLabel, match=r"2_10_label\.tif has colours that belong to no class.*unpack that file again"
    ):
        open_dataset("potsdam", tmp_path).label(0)
    shutil.rmtree(tmp_path / "2_Ortho_RGB")
    save(tmp_path / "2_Ortho_RGB" / "top_potsdam_9_9_RGB.tif", picture(1, 6))
    with pytest.raises(RequestError, match=r"holds none of the 24 tiles top_potsdam_2_10_RGB\.tif"):
        open_dataset("potsdam", tmp_path)


@pytest.mark.parametrize("reader", ["cityscapes", "bdd100k", "acdc", "loveda"])
def test_test_labels_are_withheld(tmp_path: Path, reader: str) -> None:
    with pytest.raises(RequestError, match="withheld"):
        open_dataset(reader, tmp_path, "test")


@pytest.mark.parametrize(
    ("reader", "missing"),
    [
        ("gta5", "images"),
        ("synthia", "RGB"),
        ("cityscapes", "leftImg8bit/train"),
        ("camvid", "701_StillsRaw_full"),
        ("bdd100k", "images/10k/train"),
        ("acdc", "rgb_anon/fog/train"),
        ("idd_lite", "leftImg8bit/train"),
        ("loveda", "Train/Urban/images_png"),
        ("potsdam", "2_Ortho_RGB"),
        ("vaihingen", "top"),
    ],
)
def test_missing_folders_are_named(tmp_path: Path, reader: str, missing: str) -> None:
    with pytest.raises(RequestError, match=f"has no folder '{missing}'"):
        open_dataset(reader, tmp_path)
    with pytest.raises(RequestError, match="does not exist"):
        open_dataset(reader, tmp_path / "nowhere")


def test_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(RequestError, match=r"gta5: no file \*\.png in .*images"):
        open_dataset("gta5", tmp_path)


def test_wrong_names_get_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="did you mean 'cityscapes'"):
        open_dataset("cityscape", tmp_path)
    with pytest.raises(RequestError, match=r"no split 'valid' \(did you mean 'val'\?\); there are: train, val, test"):
        open_dataset("cityscapes", tmp_path, "valid")
    with pytest.raises(RequestError, match=r"no option 'lane_markings' \(did you mean 'lane_marking'\?\)"):
        open_dataset("synthia", tmp_path, lane_markings="road")
    with pytest.raises(RequestError, match="it has none"):
        open_dataset("cityscapes", tmp_path, city="ulm")


def test_label_of_another_kind_and_size(tmp_path: Path) -> None:
    write_cityscapes(tmp_path)
    item = open_dataset("cityscapes", tmp_path).items[0]
    assert item.label is not None
    save(item.label, np.full((4, 9), 77, np.uint8))
    with pytest.raises(UnknownLabel, match="holds 77, which are not Cityscapes label ids"):
        open_dataset("cityscapes", tmp_path).label(0)
    save(item.label, np.full((5, 9), 7, np.uint8))
    with pytest.raises(SizeMismatch, match=r"is 9 x 5 pixels but its image .* is 9 x 4"):
        open_dataset("cityscapes", tmp_path).label(0)


def test_two_images_of_one_name(tmp_path: Path) -> None:
    write_cityscapes(tmp_path)
    first = tmp_path / "leftImg8bit" / "train" / "ulm" / "ulm_000000_000001_leftImg8bit.png"
    save(tmp_path / "leftImg8bit" / "train" / "copy" / first.name, picture(4, 9))
    with pytest.raises(RequestError, match="two images are named 'ulm_000000_000001'"):
        open_dataset("cityscapes", tmp_path, labelled=False)


def test_hidden_files_are_passed_over(tmp_path: Path) -> None:
    write_gta5(tmp_path)
    (tmp_path / "images" / "._00001.png").write_bytes(b"resource fork")
    assert len(open_dataset("gta5", tmp_path)) == 3


def test_to_space_by_name_and_merge(tmp_path: Path) -> None:
    write_gta5(tmp_path)
    dataset = open_dataset("gta5", tmp_path)
    full = dataset.label(0)
    small = to_space(dataset, SYNTHIA, merge={"truck": "car"})
    label = small.label(0)
    assert small.space is SYNTHIA
    for train_id, name in enumerate(CITYSCAPES.names):
        goal = "car" if name == "truck" else name
        expected = SYNTHIA.index(goal) if goal in SYNTHIA.names else IGNORE
        assert (label[full == train_id] == expected).all(), name
    assert (label[full == IGNORE] == IGNORE).all()
    with pytest.raises(RequestError, match="share no class name"):
        to_space(dataset, LabelSpace("other", ("cat", "dog"), ((0, 0, 0), (1, 1, 1))))


def test_to_space_of_the_same_classes_reads_directly(tmp_path: Path) -> None:
    write_gta5(tmp_path)
    dataset = open_dataset("gta5", tmp_path)
    assert to_space(dataset, CITYSCAPES).read_label is dataset.read_label
