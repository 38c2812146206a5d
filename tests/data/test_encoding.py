"""Files that are there completely or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from segadapt.core.files import require_writable, write_bytes
from segadapt.data.files.writing import encode_picture
from segadapt.errors import RequestError, RunError


def test_pictures_are_read_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for picture in (rng.integers(0, 256, (5, 7), np.uint8), rng.integers(0, 256, (5, 7, 3), np.uint8)):
        write_bytes(tmp_path / "deep" / "a.png", encode_picture(".png", picture))
        stored = cv2.imread(str(tmp_path / "deep" / "a.png"), cv2.IMREAD_UNCHANGED)
        assert stored is not None
        assert np.array_equal(stored if picture.ndim == 2 else stored[..., ::-1], picture)


def test_a_full_disk_is_named_and_the_old_file_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(RunError, match=r"a\.png' cannot be written: No space left"):
            write_bytes(path, b"new content")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
    with pytest.raises(RunError, match="cannot be written"):
        write_bytes(path / "b.png", b"x")


def test_a_place_where_nothing_can_be_written_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    require_writable(tmp_path, "--out")
    require_writable(tmp_path / "new/deep", "--out")
    for folder in (tmp_path / "file", tmp_path / "file/new"):
        with pytest.raises(RequestError, match=r"file' is not a folder; choose another --out"):
            require_writable(folder, "--out")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    monkeypatch.setattr("os.access", lambda place, mode: not (Path(place) == tmp_path and mode & os.W_OK))
    with pytest.raises(RequestError, match=f"no permission to write into '{tmp_path}'"):
        require_writable(tmp_path / "new", "--out")
