"""Tests for keys of the content of files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from segadapt.core.content import SAMPLE, content_key, content_keys
from segadapt.errors import RequestError


@pytest.mark.parametrize("size", [0, 1, SAMPLE, 3 * SAMPLE, 3 * SAMPLE + 1, 9 * SAMPLE])
def test_a_copy_has_the_key_but_for_its_time(tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    (tmp_path / "a").write_bytes(content)
    (tmp_path / "b").write_bytes(content)
    os.utime(tmp_path / "b", ns=(1, 2))
    one, other = tmp_path / "a", tmp_path / "b"
    assert content_key(one, times=False) == content_key(other, times=False)
    assert content_key(one) != content_key(other)
    os.utime(one, ns=(9, 2))  # the time of access does not count
    assert content_key(one) == content_key(other)


@pytest.mark.parametrize("place", [0, SAMPLE, 2 * SAMPLE, 3 * SAMPLE - 1])
def test_every_byte_of_a_small_file_counts(tmp_path: Path, place: int) -> None:
    content = bytearray(3 * SAMPLE)
    (tmp_path / "a").write_bytes(content)
    content[place] = 1
    (tmp_path / "b").write_bytes(content)
    assert content_key(tmp_path / "a", times=False) != content_key(tmp_path / "b", times=False)


def test_beginning_middle_end_and_size_of_a_large_file_count(tmp_path: Path) -> None:
    size = 10 * SAMPLE
    keys = set()
    for place in (0, size // 2, size - 1, None):
        content = bytearray(size)
        if place is not None:
            content[place] = 1
        (tmp_path / "a").write_bytes(content)
        keys.add(content_key(tmp_path / "a", times=False))
    (tmp_path / "a").write_bytes(bytes(size + 1))
    keys.add(content_key(tmp_path / "a", times=False))
    assert len(keys) == 5


def test_keys_are_in_order_and_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    paths = [tmp_path / f"{n}" for n in range(20)]
    for n, path in enumerate(paths):
        path.write_bytes(bytes(n))
    assert content_keys(paths, threads=3) == [content_key(path) for path in paths]
    with pytest.raises(RequestError, match=r"'.*missing' cannot be read: No such file"):
        content_keys([*paths, tmp_path / "missing"])
    with pytest.raises(RequestError, match=r"cannot be read: it is a folder"):
        content_key(tmp_path)
