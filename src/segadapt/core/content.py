"""A cheap key of a file's content, for what is kept about files and found again only while they are the same.

Hashing 25,000 images whole takes minutes; a key reads at most 48 KB of each. It covers the size and three samples of
the bytes: the beginning, the middle and the end. The end of a PNG file holds a checksum of all its pixels, and an
edited JPEG file changes its size or its bytes nearly everywhere. What samples may still miss, an edit within a large
file that is not compressed, changes the time of the file, so keys for this machine cover that as well.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from segadapt.core.reading import open_file
from segadapt.errors import RequestError

SAMPLE = 16 << 10
"""Bytes of each sample; files of up to three samples are read whole."""


def content_key(path: Path, *, times: bool = True) -> str:
    """Return 32 hexadecimal digits for the content of a file: its size, its samples and its time of change.

    Args:
        path: the file; its name and its place do not count.
        times: whether the time of change counts, in nanoseconds. Without, a copy of the file has the same key.

    Raises:
        RequestError: the file cannot be read, or is no file.
    """
    try:
        with open_file(path) as file:
            found = os.fstat(file.fileno())
            digest = hashlib.sha256(f"{found.st_size} {found.st_mtime_ns if times else ''}\n".encode())
            for start in _samples(found.st_size):
                file.seek(start)
                digest.update(file.read(SAMPLE))
    except OSError as problem:
        raise RequestError(f"'{path}' cannot be read: {problem.strerror or problem}") from None
    return digest.hexdigest()[:32]


def content_keys(paths: Iterable[Path], *, times: bool = True, threads: int | None = None) -> list[str]:
    """Return :func:`content_key` of each file, in order; files are read in threads, as disks of a network want it.

    Args:
        paths: the files.
        times: see :func:`content_key`.
        threads: how many; None takes 8 (the time goes into waiting for the disk).
    """
    with ThreadPoolExecutor(threads or 8) as pool:
        return list(pool.map(lambda path: content_key(path, times=times), paths))


def _samples(size: int) -> tuple[int, ...]:
    """Return where the samples of a file start: one after the other in a small file."""
    if size <= 3 * SAMPLE:
        return (0, SAMPLE, 2 * SAMPLE)
    return (0, (size - SAMPLE) // 2, size - SAMPLE)
