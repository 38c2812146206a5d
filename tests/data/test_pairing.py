"""Which mask belongs to which image: by a pattern, and what is proposed where names alone do not tell."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segadapt.data.folder import open_folder
from segadapt.data.folders.pair_pattern import PairPattern, propose
from segadapt.errors import RequestError
from tests.data.writing import picture, save


def image(path: Path) -> Path:
    return save(path, picture(3, 4, len(path.name)))


def mask(path: Path) -> Path:
    return save(path, np.array([[0, 1, 2, 1]] * 3, np.uint8))


def layout(root: Path, images: list[str], masks: list[str]) -> tuple[Path, Path]:
    for name in images:
        image(root / "images" / name)
    for name in masks:
        mask(root / "masks" / name)
    return root / "images", root / "masks"


def message(images: Path, labels: Path | None, **options: Any) -> str:
    with pytest.raises(RequestError) as error:
        open_folder(images, labels, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def pairs(images: Path, labels: Path, pattern: str | None) -> dict[str, str]:
    dataset = open_folder(images, labels, pair=pattern)
    return {
        i.image.relative_to(images).as_posix(): i.label.relative_to(labels).as_posix()  # type: ignore[union-attr]
        for i in dataset.items
    }


LAYOUTS: list[tuple[str, dict[str, str]]] = [
    ("{}_training.tif={}_manual1.gif", {"21_training.tif": "21_manual1.gif", "22_training.TIF": "22_manual1.GIF"}),
    ("{}.tif={}.gif", {"01.tif": "01.gif", "a/02.tif": "a/02.gif"}),
    ("{}_training={}_manual1", {"21_training.tif": "21_manual1.gif", "22_training.png": "22_manual1.bmp"}),
    ("{}/image.png={}/mask.png", {"a/image.png": "a/mask.png", "b/c/image.png": "b/c/mask.png"}),
    ("images/{}.jpg=labels/{}_m.png", {"images/a.jpg": "labels/a_m.png", "images/b/c.jpg": "labels/b/c_m.png"}),
    ("{}.png=all/{}/{}_seg.png", {"x.png": "all/x/x_seg.png", "y.png": "all/y/y_seg.png"}),
    ("{}/{}.png={}-{}.png", {"s/1.png": "s-1.png", "t/2.png": "t-2.png"}),
    ("{scene}/{frame}.png={frame}.{scene}.png", {"s/1.png": "1.s.png", "t/2.png": "2.t.png"}),
    ("{n}/{n}.png=m_{n}.png", {"s/s.png": "m_s.png", "t/t.png": "m_t.png"}),
    ("a[{}] (x).png=+{}$.png", {"a[1] (x).png": "+1$.png", "a[ü é].png"[:2] + "2] (x).png": "+2$.png"}),
    ("{}.png={}_mask.png", {"a.png": "a_mask.png", "b_mask_.png": "b_mask__mask.png"}),
    ("{}.jpeg={}.jpeg.png", {"p.jpeg": "p.jpeg.png", "q.1.jpeg": "q.1.jpeg.png"}),
]


@pytest.mark.parametrize(("pattern", "expected"), LAYOUTS)
def test_a_pattern_pairs_two_folders(tmp_path: Path, pattern: str, expected: dict[str, str]) -> None:
    images, labels = layout(tmp_path, [*expected, "else.bmp"], [*expected.values(), "other.bmp"])
    assert pairs(images, labels, pattern) == expected
    said = [notice.text for notice in open_folder(images, labels, pair=pattern).notices]
    assert said == [
        f"1 files in {images} do not fit '{pattern}' and are left out: else.bmp",
        f"1 files in {labels} do not fit '{pattern}' and are left out: other.bmp",
    ]
    alone = open_folder(images, pair=pattern)
    assert sorted(i.image.relative_to(images).as_posix() for i in alone.items) == sorted(expected)  # type: ignore[union-attr]


@pytest.mark.parametrize(("pattern", "expected"), [entry for entry in LAYOUTS if "_training=" not in entry[0]])
def test_a_pattern_pairs_one_folder(tmp_path: Path, pattern: str, expected: dict[str, str]) -> None:
    for name, partner in expected.items():
        image(tmp_path / name)
        mask(tmp_path / partner)
    assert pairs(tmp_path, tmp_path, pattern) == expected
    assert open_folder(tmp_path, tmp_path, pair=pattern).notices == ()


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("{}.tif", "not of the form IMAGE=MASK"),
        ("{}=", "not of the form IMAGE=MASK"),
        ("{}=a=b{}", "not of the form IMAGE=MASK"),
        ("a.tif={}.gif", "needs {} on both sides"),
        ("{}.tif=a.gif", "needs {} on both sides"),
        ("{a}.tif={b}.gif", "has {a} on one side only"),
        ("{a}{}.tif={a}{}.gif", "with and without names"),
        ("{0}.tif={0}.gif", "a number for a name"),
        ("{}_{}.tif={}.gif", "2 {} for the image and 1 for the mask"),
        ("{}x.tif={}.gif", "none of 2 images in"),
        ("{}.png={}.gif", "a.png has no a.gif; there is a.png"),
        ("{}.png={}", "a.png may have the mask a.jpg, a.png; write the suffix"),
    ],
)
def test_wrong_patterns_are_refused(tmp_path: Path, pattern: str, words: str) -> None:
    images, labels = layout(tmp_path, ["a.png", "b.png"], ["a.png", "a.jpg", "b.png"])
    assert words in message(images, labels, pair=pattern)


def test_masks_in_a_folder_below_the_images(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    mask(tmp_path / "masks/a.png")
    assert pairs(tmp_path, tmp_path / "masks", "{}.png={}.png") == {"a.png": "a.png"}


def test_two_images_cannot_share_a_mask_nor_be_their_own(tmp_path: Path) -> None:
    images, labels = layout(tmp_path, ["a.png", "a.jpg"], ["a.png"])
    assert "share the mask" in message(images, labels, pair="{}={}")
    assert "a.png would be its own mask" in message(labels, labels, pair="{}.png={}.png")


# ---- proposals ----


@pytest.mark.parametrize(
    ("images", "masks", "proposed"),
    [
        (
            ["21_training.tif", "22_training.tif"],
            ["21_manual1.gif", "22_manual1.gif"],
            "{}_training.tif={}_manual1.gif",
        ),
        (["cat.jpg", "dog.jpg"], ["seg-cat.png", "seg-dog.png"], "{}.jpg=seg-{}.png"),
        (["s1/rgb/0.png", "s2/rgb/0.png"], ["s1/id/0.png", "s2/id/0.png"], "{}/rgb/0.png={}/id/0.png"),
        (["im_1.tif", "im_10.tif"], ["1.1.png", "1.10.png"], "im_{}.tif=1.{}.png"),
        (["im1.tif"], ["mask1.tif"], "im{}.tif=mask{}.tif"),
    ],
)
def test_the_pattern_that_would_pair_all_is_proposed(
    tmp_path: Path, images: list[str], masks: list[str], proposed: str
) -> None:
    folders = layout(tmp_path, images, masks)
    text = message(*folders)
    assert "; there is " in text or masks[0] == "1.1.png"
    found = re.search(r"--pair '(.*?)'", text)
    assert found is not None
    assert found.group(1) == proposed
    assert len(open_folder(*folders, pair=found.group(1))) == len(images)


@pytest.mark.parametrize(
    ("images", "masks", "proposed"),
    [
        (["01.tif", "02.tif"], ["01.gif", "02.gif"], "{}.tif={}.gif"),
        (["01.jpg", "02.jpg"], ["01.png", "02.png"], "{}.jpg={}.png"),
        (["01_photo.png", "02_photo.png"], ["01_manual.png", "02_manual.png"], "{}_photo.png={}_manual.png"),
        (["a/rgb.png", "b/rgb.png"], ["a/annotated.png", "b/annotated.png"], "{}/rgb.png={}/annotated.png"),
    ],
)
def test_images_and_masks_of_one_folder_are_told_apart_by_a_proposed_pattern(
    tmp_path: Path, images: list[str], masks: list[str], proposed: str
) -> None:
    for name, partner in zip(images, masks, strict=True):
        image(tmp_path / name)
        mask(tmp_path / partner)
    assert f"--pair '{proposed}'" in message(tmp_path, tmp_path)
    assert pairs(tmp_path, tmp_path, proposed) == dict(zip(images, masks, strict=True))


def test_several_masks_for_each_image_are_named(tmp_path: Path) -> None:
    masks = [f"{i}_manual{n}.gif" for i in (21, 22) for n in (1, 2)]
    text = message(*layout(tmp_path, ["21_training.tif", "22_training.tif"], masks))
    for pattern in ("{}_training.tif={}_manual1.gif", "{}_training.tif={}_manual2.gif"):
        assert f"--pair '{pattern}'" in text
    assert "several patterns would pair them all" in text


def test_two_masks_of_one_name_are_refused_with_a_pattern(tmp_path: Path) -> None:
    folders = layout(tmp_path, ["a.jpg"], ["a.png", "a.gif"])
    assert "--pair '{}.jpg={}." in message(*folders)
    assert pairs(*folders, "{}.jpg={}.gif") == {"a.jpg": "a.gif"}


def test_masks_may_be_gif_and_bear_the_whole_name_of_the_image(tmp_path: Path) -> None:
    assert pairs(*layout(tmp_path / "1", ["a.tif"], ["a.gif"]), None) == {"a.tif": "a.gif"}
    assert pairs(*layout(tmp_path / "2", ["a.jpg", "a.png"], ["a.jpg.png", "a.png.png"]), None) == {
        "a.jpg": "a.jpg.png",
        "a.png": "a.png.png",
    }


_TEXT = st.text("ab1_-. é[", min_size=1, max_size=4).filter(lambda t: not t.startswith(".") and "=" not in t)


@settings(max_examples=40, deadline=None)
@given(keys=st.sets(st.integers(0, 999), min_size=2, max_size=6), parts=st.tuples(_TEXT, _TEXT, _TEXT, _TEXT))
def test_a_pattern_gives_the_names_that_it_was_made_of(keys: set[int], parts: tuple[str, str, str, str]) -> None:
    before, behind, front, back = parts
    pattern = PairPattern(f"{before}{{}}{behind}.TIF={front}{{}}{back}.png")
    for key in keys:
        assert pattern.mask_of(f"{before}{key}{behind}.tif") == f"{front}{key}{back}.png"
        assert pattern.mask_of(f"{before}{behind}.tif") is None
    images = [f"{before}{key}{behind}.tif" for key in keys]
    masks = [f"{front}{key}{back}.png" for key in keys]
    for found in propose(images, masks):  # a proposal always pairs all
        assert sorted(found.mask_of(path) or "" for path in images) == sorted(masks)
