"""``data check``: one pass that finds everything wrong with a data set."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from segadapt.data.check import check_dataset
from segadapt.data.dataset import Dataset
from segadapt.data.folder import open_folder
from segadapt.data.overlay import blend, contact_picture
from segadapt.labels import LabelSpace
from tests.data.writing import picture, save

SPACE = LabelSpace("three", ("a", "b", "c"), ((255, 0, 0), (0, 255, 0), (0, 0, 255)))


def write(root: Path, count: int = 6) -> Dataset:
    for number in range(count):
        save(root / "images" / f"{number}.png", picture(20, 30, number))
        mask = np.zeros((20, 30), np.uint8)
        mask[:, 10:] = 1
        mask[0] = 255
        save(root / "masks" / f"{number}.png", mask)
    (root / "classes.txt").write_text("a\nb\nc")
    return open_folder(root / "images", root / "masks", root / "classes.txt")


def test_a_good_data_set(tmp_path: Path) -> None:
    told = []
    report = check_dataset(write(tmp_path), progress=lambda *step: told.append(step))
    assert report.ok
    assert report.verdict() == "folder: all 6 images and their labels can be used"
    assert report.pixels.tolist() == [6 * 190, 6 * 380, 0]
    assert report.images_with.tolist() == [6, 6, 0]
    assert report.ignored == 6 * 30
    assert dict(report.sizes) == {(30, 20): 6}
    assert [(w.kind, w.id) for w in report.warnings] == [("absent class", "c")]
    assert told[-1] == (6, 6)
    text = "\n".join(report.lines())
    assert "30 x 20 (6)" in text
    assert "31.67 % of pixels, in 6 images" in text
    assert "5.00 % of pixels" in text


def test_everything_wrong_is_found_at_once(tmp_path: Path) -> None:
    dataset = write(tmp_path, 8)
    images, masks = tmp_path / "images", tmp_path / "masks"
    (images / "0.png").write_bytes((images / "0.png").read_bytes()[:-30])
    (masks / "1.png").write_bytes(b"")
    save(masks / "2.png", np.zeros((20, 31), np.uint8))
    save(masks / "3.png", np.full((20, 30), 9, np.uint8))
    save(masks / "4.png", np.full((20, 30), 255, np.uint8))
    shutil.copy(images / "6.png", images / "5.png")
    (masks / "7.png").unlink()
    report = check_dataset(dataset, threads=2)
    assert not report.ok
    assert [(p.kind, p.id) for p in report.errors] == [
        ("damaged image", "0"),
        ("damaged label", "1"),
        ("sizes differ", "2"),
        ("unknown label", "3"),
        ("damaged label", "7"),
    ]
    assert {(p.kind, p.id) for p in report.warnings} == {
        ("empty label", "4"),
        ("duplicate image", "6"),
        ("absent class", "c"),
    }
    assert str(images / "0.png") in report.errors[0].message
    assert "holds 9" in report.errors[3].message
    assert (
        "5 files cannot be used (1 damaged image, 2 damaged label, 1 sizes differ, 1 unknown label)" in report.verdict()
    )
    assert "\n" not in report.verdict()
    found = json.loads(json.dumps(report.to_dict()))
    assert found["ok"] is False
    assert found["error_counts"] == {"damaged image": 1, "damaged label": 2, "sizes differ": 1, "unknown label": 1}
    assert found["errors"][2] == {"kind": "sizes differ", "id": "2", "message": report.errors[2].message}
    assert found["classes"][0]["name"] == "a"
    # labels 0, 5 and 6 are whole; that of the damaged image counts as a label all the same
    assert found["classes"][0]["images"] == 3


def test_whole_files_of_other_kinds_are_not_called_damaged(tmp_path: Path) -> None:
    write(tmp_path)
    for folder in ("images", "masks"):
        for number in ("2", "4") if folder == "images" else ("1",):
            (tmp_path / folder / f"{number}.png").unlink()
            pages = [Image.fromarray(picture(20, 30)[..., 0])] * 3
            pages[0].save(tmp_path / folder / f"{number}.tif", save_all=True, append_images=pages[1:])
    report = check_dataset(open_folder(tmp_path / "images", tmp_path / "masks", tmp_path / "classes.txt"))
    assert report.to_dict()["error_counts"] == {"unsupported label": 1, "unsupported image": 2}
    assert "2.tif has 3 pages" in report.errors[1].message


def test_without_labels(tmp_path: Path) -> None:
    write(tmp_path)
    shutil.rmtree(tmp_path / "masks")
    report = check_dataset(open_folder(tmp_path / "images", None), tmp_path / "pictures")
    assert report.ok
    assert report.labels == 0
    assert report.warnings == []
    assert report.verdict() == "folder: all 6 images can be used"
    assert len(report.pictures) == 6


def test_sizes_of_a_foreign_data_set_are_compared(tmp_path: Path) -> None:
    folder = write(tmp_path, 2)

    def read(path: Path) -> np.ndarray:
        return np.zeros((5, 5), np.uint8)

    report = check_dataset(Dataset("own", SPACE, folder.items, folder.read_image, read))
    assert [p.kind for p in report.errors] == ["sizes differ", "sizes differ"]
    assert "is 5 x 5 pixels but its image is 30 x 20" in report.errors[0].message


@pytest.mark.parametrize("most", [3, 50])
def test_overlay_pictures(tmp_path: Path, most: int) -> None:
    report = check_dataset(write(tmp_path), tmp_path / "out" / "pictures", most_pictures=most)
    files = sorted((tmp_path / "out" / "pictures").iterdir())
    assert len(files) == min(most, 6)
    assert report.pictures == [str(f) for f in files]
    shown = cv2.imread(str(files[0]))
    assert shown.shape[1] == 60  # image and overlay side by side
    assert shown.shape[0] > 20  # and a legend below


def test_many_problems_are_cut_short_in_the_text_but_not_in_the_report(tmp_path: Path) -> None:
    dataset = write(tmp_path, 30)
    for item in dataset.items:
        item.image.write_bytes(b"")
    report = check_dataset(dataset)
    assert len(report.to_dict()["errors"]) == 30
    lines = report.lines()
    assert sum(line.startswith("error: ") for line in lines) == 20
    assert "... and 10 more errors" in lines


def test_blend_colours_classes_and_leaves_ignored_pixels() -> None:
    image = np.full((2, 2, 3), 100, np.uint8)
    shown = blend(image, np.array([[0, 1], [2, 255]], np.uint8), SPACE, opacity=0.5)
    assert shown[0, 0].tolist() == [178, 50, 50]
    assert shown[0, 1].tolist() == [50, 178, 50]
    assert shown[1, 1].tolist() == [100, 100, 100]
    assert np.array_equal(blend(image, np.zeros((2, 2), np.uint8), SPACE, opacity=0.0), image)


def test_contact_picture_of_a_large_image_is_made_small() -> None:
    image, label = picture(1000, 2000), np.zeros((1000, 2000), np.uint8)
    shown = contact_picture(image, label, SPACE)
    assert shown.shape[1] == 1920
    assert shown.shape[0] > 480
    assert contact_picture(image, None, SPACE).shape == (480, 960, 3)
    # the legend names class a by its colour
    assert (shown[480:] == (255, 0, 0)).all(-1).any()
