"""Opening files that somebody names: a pipe, a device or a file without end is refused, instead of waited for.

A name may lead to anything: a pipe into which nobody writes, ``/dev/zero`` which never ends, a link to itself. What is
read here is a file with an end, and what is not is an ``OSError`` that says so, as for a file that is missing.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

_KINDS = (
    (stat.S_ISDIR, "it is a folder"),
    (stat.S_ISFIFO, "it is a pipe, not a file"),
    (stat.S_ISSOCK, "it is a socket, not a file"),
    (stat.S_ISCHR, "it is a device, not a file"),
    (stat.S_ISBLK, "it is a device, not a file"),
)


def open_file(path: Path) -> BinaryIO:
    """Open a file for reading bytes; what is no regular file, or a link to one, is not opened.

    Raises:
        OSError: it is missing, may not be read, or is a folder, pipe, socket, device, or a link to itself.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
    try:
        mode = os.fstat(handle).st_mode  # of what was opened, whatever the name leads to by now
        if not stat.S_ISREG(mode):
            kind = next((words for test, words in _KINDS if test(mode)), "it is not a file")
            raise OSError(errno.EINVAL, kind, str(path))
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_file(path: Path, most: int | None = None) -> bytes:
    """Return the content of a file.

    Args:
        path: see :func:`open_file`.
        most: bytes that it may have at most; None for any number.

    Raises:
        OSError: as in :func:`open_file`, or it is larger.
    """
    with open_file(path) as file:
        if most is not None and os.fstat(file.fileno()).st_size > most:
            raise OSError(errno.EFBIG, f"it is larger than {most >> 20} MB; is it the right file?", str(path))
        return file.read()


def read_text(path: Path, most: int = 16 << 20) -> str:
    """Return the text of a file in UTF-8, with or without a mark at its start.

    Raises:
        OSError: as in :func:`read_file`.
        UnicodeDecodeError: it is not UTF-8.
    """
    return read_file(path, most).decode("utf-8-sig")


def exists(path: Path) -> bool:
    """Return whether there is something under a name; nothing is under one that no file can have, nor a circle."""
    try:
        return path.exists()
    except (OSError, ValueError, RuntimeError):
        return False


def require_file(path: Path) -> None:
    """Raise the OSError of :func:`open_file`, for a library that opens a file by its name."""
    open_file(path).close()
