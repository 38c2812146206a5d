"""Names that lead to no file with an end: pipes, devices, links to themselves. One line, at once."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from segadapt.core.reading import open_file, read_file
from segadapt.data.decode import decode, picture_size, read_picture, stored_orientation
from segadapt.data.files.raster import Raster
from segadapt.data.folder import open_folder
from segadapt.data.folders.listing import read_list
from segadapt.data.masks.classes_file import read_classes
from segadapt.data.masks.mask_storage import storage_of
from segadapt.data.masks.stamp import read_stamp
from segadapt.errors import RequestError
from segadapt.evaluation.inputs import find_inputs, listed
from segadapt.evaluation.video import video_facts
from segadapt.recipes import read_recipe
from tests.data.writing import picture, save

READERS: dict[str, Callable[[Path], Any]] = {
    ".png": decode,
    ".jpg": read_picture,
    ".bmp": picture_size,
    ".gif": stored_orientation,
    ".tif": Raster,
    ".avi": video_facts,
    ".txt": read_classes,
    ".json": read_classes,
    ".yaml": read_recipe,
    ".lst": listed,
    ".list": lambda path: read_list(path, "own"),
    ".webp": lambda path: find_inputs(str(path)),
}
KINDS: dict[str, Callable[[Path], None]] = {
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "circle": lambda path: path.symlink_to(path.name),
    "folder": lambda path: path.mkdir(),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", READERS)
def test_what_has_no_end_is_refused_in_one_line(tmp_path: Path, suffix: str, kind: str) -> None:
    path = tmp_path / f"x{suffix}"
    KINDS[kind](path)
    if suffix == ".webp" and kind != "circle":
        return  # a folder to search, or a file that is judged when it is decoded
    with pytest.raises(RequestError, match=r"^[^\n]+$"):
        READERS[suffix](path)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", KINDS)
def test_looking_at_the_head_of_no_file_finds_nothing(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.png"
    KINDS[kind](path)
    assert read_stamp(path) is None
    assert storage_of(path) is None


@pytest.mark.timeout(20)
def test_a_folder_leaves_them_out_and_says_so(tmp_path: Path) -> None:
    save(tmp_path / "a.png", picture())
    for kind in ("pipe", "device", "circle"):
        KINDS[kind](tmp_path / f"{kind}.png")
    found = open_folder(tmp_path)
    assert [item.id for item in found.items] == ["a"]
    assert "3 names" in found.notices[0].text


def test_a_file_and_a_link_to_it_are_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "b").symlink_to("a")
    assert read_file(tmp_path / "b") == b"abc"
    with open_file(tmp_path / "a") as file:
        assert file.read(1) == b"a"
    with pytest.raises(OSError, match="larger"):
        read_file(tmp_path / "a", 2)
