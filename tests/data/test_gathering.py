"""Which files of a folder are read as images: what is left out is counted and named, and nothing else is left out."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segadapt.data.dataset import Notice
from segadapt.data.folder import open_folder
from segadapt.data.folders.gathering import SIDE_FILES, gather
from segadapt.data.folders.listing import IMAGE_SUFFIXES
from segadapt.data.folders.masks_among import MASK_FOLDERS, RESULT_ENDINGS, all_look_like_masks, looks_like_mask
from segadapt.data.folders.pairing import MASK_ENDINGS
from segadapt.errors import RequestError
from tests.data.writing import picture, save

MASK = np.repeat(np.repeat(np.arange(12, dtype=np.uint8).reshape(3, 4) % 3, 8, 0), 8, 1)


def photo(path: Path, seed: int = 0) -> Path:
    return save(path, picture(24, 32, seed))


def mask(path: Path, seed: int = 0) -> Path:
    return save(path, np.roll(MASK, seed, 1))


def below(folder: Path) -> tuple[list[str], list[Notice]]:
    found = gather(folder)
    return [path.relative_to(folder).as_posix() for path in found.images], list(found.notices)


def test_files_of_other_suffixes_are_counted_and_named(tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    for name in ("b.XCF", "c.xcf", "d.dng", "e.nii.gz", "f.part"):
        (tmp_path / name).write_bytes(b"\0\0\0\x18ftyp")
    shutil.copy(tmp_path / "a.png", tmp_path / "IMG_0001")
    for name in ("README", "Thumbs.db", "list.txt", "x.json", ".hidden.xcf"):
        (tmp_path / name).write_text("words")
    images, [notice] = below(tmp_path)
    assert images == ["a.png"]
    assert notice.text.startswith(f"6 of 7 files in {tmp_path} are not read (2 .xcf, ")
    assert all(kind in notice.text for kind in ("1 without suffix", "1 .dng", "1 .nii.gz", "1 .part"))
    assert notice.dubious


def test_raw_files_beside_their_pictures_are_named_but_not_dubious(tmp_path: Path) -> None:
    for number in range(3):
        photo(tmp_path / f"{number}.png")
        (tmp_path / f"{number}.cr2").write_bytes(b"II*\0")
        (tmp_path / f"{number}.avi").write_bytes(b"RIFF")
    assert [notice.dubious for notice in below(tmp_path)[1]] == [False]


def test_a_folder_without_images_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "a.dng").write_bytes(b"x")
    with pytest.raises(
        RequestError,
        match=r"there are no images .*; 1 of 1 files .* are not read \(1 \.dng; the first is a\.dng, a raw photograph",
    ):
        open_folder(tmp_path)


@pytest.mark.parametrize("kind", ["pipe", "dangling", "itself"])
def test_what_is_no_file_is_named_and_never_opened(tmp_path: Path, kind: str) -> None:
    """Reading a pipe would wait for ever."""
    photo(tmp_path / "a.png")
    odd = tmp_path / "odd.png"
    if kind == "pipe":
        os.mkfifo(odd)
    else:
        odd.symlink_to(odd if kind == "itself" else tmp_path / "nowhere.png")
    images, [notice] = below(tmp_path)
    assert images == ["a.png"]
    assert "1 names" in notice.text
    assert "odd.png" in notice.text


def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo(tmp_path / "a.png")
    photo(tmp_path / "closed" / "b.png")
    scandir = os.scandir

    def refusing(place: str) -> object:
        if Path(place).name == "closed":
            raise PermissionError(13, "Permission denied", place)
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(RequestError, match=r"the folder .*closed cannot be read: Permission denied"):
        gather(tmp_path)


@pytest.mark.parametrize("ending", [*MASK_ENDINGS[:5], "_gtFine_instanceIds"])
def test_masks_beside_their_images_are_left_out(tmp_path: Path, ending: str) -> None:
    for number in range(3):
        photo(tmp_path / f"f{number}.png", number)
        mask(tmp_path / f"f{number}{ending}.png", number)
    photo(tmp_path / "fog.png", 7)
    photo(tmp_path / f"fog{ending}.png", 8)  # a photograph with such a name
    photo(tmp_path / f"alone{ending}.png", 9)
    images, [notice] = below(tmp_path)
    assert images == sorted([f"alone{ending}.png", "f0.png", "f1.png", "f2.png", "fog.png", f"fog{ending}.png"])
    assert "3 files" in notice.text
    assert not notice.dubious


def test_masks_with_the_names_of_their_images_and_own_predictions_are_left_out(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    mask(tmp_path / "a.png")
    photo(tmp_path / "b.jpg", 1)
    photo(tmp_path / "b.png", 1)  # the same picture in another format is an image
    photo(tmp_path / "c.png", 2)
    for ending, suffix in zip(RESULT_ENDINGS, (".jpg", ".png", ".png"), strict=True):
        photo(tmp_path / f"c{ending}{suffix}", 2)
    photo(tmp_path / "d.png", 3)
    photo(tmp_path / "d_color.png", 3)
    images, notices = below(tmp_path)
    assert images == ["a.jpg", "b.jpg", "b.png", "c.png", "d.png", "d_color.png"]
    assert len(notices) == 1


@pytest.mark.parametrize(
    ("images", "masks", "stem"),
    [("images", "masks", "{}"), ("rgb", "other", "{}_mask"), ("img/train", "Annotations/train", "x{}")],
)
def test_folders_of_masks_beside_those_of_images_are_left_out(
    tmp_path: Path, images: str, masks: str, stem: str
) -> None:
    for number in range(4):
        photo(tmp_path / images / f"{number}.png", number)
        mask(tmp_path / masks / f"{stem.format(number)}.png", number)
    found, [notice] = below(tmp_path)
    assert found == [f"{images}/{number}.png" for number in range(4)]
    assert notice.dubious
    assert str(tmp_path / images) in notice.text


def test_folders_of_photographs_stay_whatever_their_names(tmp_path: Path) -> None:
    for number in range(3):
        photo(tmp_path / "images" / f"{number}.png", number)
        photo(tmp_path / "labels" / f"{number}.png", 10 + number)
        photo(tmp_path / "night" / f"{number}.png", 20 + number)
    assert len(below(tmp_path)[0]) == 9
    assert below(tmp_path)[1] == []


def test_masks_without_images_beside_them_are_said(tmp_path: Path) -> None:
    photo(tmp_path / "images" / "a.png")
    for name in ("a", "b", "c"):
        mask(tmp_path / "masks" / f"{name}_mask.png")
    [notice] = open_folder(tmp_path / "images", tmp_path / "masks").notices
    assert "2 files" in notice.text
    assert "b_mask.png" in notice.text


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from([*IMAGE_SUFFIXES, *SIDE_FILES, ".dng", ""]))))
def test_every_file_is_an_image_or_named_or_a_side_file(
    tmp_path_factory: pytest.TempPathFactory, names: list[tuple[str, str]]
) -> None:
    folder = tmp_path_factory.mktemp("files")
    files = {stem + suffix for stem, suffix in names}
    for name in files:
        (folder / name).write_bytes(b"\x89PNG\r\n\x1a\n")
    images, notices = below(folder)
    side = {name for name in files if Path(name).suffix in SIDE_FILES}
    named = int(notices[0].text.split()[0]) if notices else 0
    assert len(files) == len(images) + named + len(side)


def test_masks_and_pictures_are_told_apart_by_their_pixels(tmp_path: Path) -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None], 24, 0)
    dark = (picture(24, 32) // 120).astype(np.uint8)  # few values, in no areas
    palette = [(37 * i) % 256 for i in range(768)]
    colours = np.array([(90, 0, 0), (0, 90, 0), (0, 0, 90)], np.uint8)[MASK]
    assert looks_like_mask(mask(tmp_path / "mask.png"))
    assert looks_like_mask(save(tmp_path / "colours.png", colours))
    assert looks_like_mask(save(tmp_path / "palette.png", MASK, palette))
    assert not looks_like_mask(save(tmp_path / "ramp.png", ramp))
    assert not looks_like_mask(save(tmp_path / "dark.png", dark))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    assert not looks_like_mask(tmp_path / "broken.png")
    black = [save(tmp_path / f"{i}.png", np.zeros((9, 9), np.uint8)) for i in range(2)]
    assert not all_look_like_masks(black)
    assert all_look_like_masks([*black, tmp_path / "mask.png"])
    assert all(name == name.lower() for name in MASK_FOLDERS)
