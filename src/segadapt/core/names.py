"""Names that users give and that become names of files and folders: never a path, never longer than a disk takes."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from pathlib import Path

from segadapt.errors import RequestError

LONGEST = 255
"""Bytes of the longest name of a file or folder on usual file systems."""
_ROOM = 55
"""Bytes that are kept free for what is added to a name: a number, a kind, an ending."""
_HIDING = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
"""Unicode categories of characters that cannot be seen, that turn the direction of writing, or that are none."""
_TAKEN = '<>:"/\\|?*'
"""Characters that mean something in the paths of some system."""
_DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{port}{n}" for port in ("COM", "LPT") for n in range(10))}
"""Names that open a device on Windows, with any ending."""


def file_name(name: str, what: str, room: int = _ROOM) -> str:
    """Return a name that may stand for one file or folder, as it is.

    Args:
        name: the name that a user gave.
        what: what has the name, e.g. ``stage``; opens the message.
        room: bytes that are added to the name later.

    Raises:
        RequestError: it is empty, a path or a step to another folder, has characters that hide, or is too long.
    """
    wrong = _wrong(name, LONGEST - room)
    if wrong:
        raise RequestError(f"{what} '{name}' becomes the name of a folder or file, and {wrong}; choose another name")
    return name


def _wrong(name: str, longest: int) -> str:
    """Return what keeps a text from being the name of one file; "" where nothing does."""
    if not name.strip():
        return "is empty"
    if "/" in name or "\\" in name:
        return "names are not paths: it has a slash"
    if name.startswith((".", "~", "-")) or name != name.strip() or name.endswith("."):
        return "begins or ends with a character that means something else there (. ~ - or a space)"
    if any(unicodedata.category(c) in _HIDING for c in name):
        return "has a character that cannot be seen"
    size = len(name.encode())
    return f"is too long ({size} bytes of at most {longest})" if size > longest else ""


def title_folder(title: str) -> Path:
    """Return the folders that a title such as ``toy/cbst`` stands for, below another folder.

    Raises:
        RequestError: a part of it is no name of a folder; see :func:`file_name`.
    """
    return Path(*(file_name(part, f"a part of the title '{title}',") for part in title.split("/")))


def require_ids(ids: Iterable[str], what: str, room: int = 4) -> None:
    """Refuse ids of images that lead out of the folder for results, or are too long for the files of the results.

    Args:
        ids: e.g. ``lindau/000001``; the parts between slashes become folders.
        what: name of the data set, for the message.
        room: bytes that are added to an id, e.g. of ``.png``.

    Raises:
        RequestError: names the id.
    """
    for name in ids:
        parts = name.split("/")
        if any(part in ("", ".", "..") or "\0" in part for part in parts):
            raise RequestError(f"{what}: the id '{name}' leads out of the folder for results; rename the image")
        longest = max(len(part.encode(errors="surrogateescape")) for part in parts)
        if longest + room > LONGEST:
            raise RequestError(
                f"{what}: '{name}' is too long a name for its results ({longest} bytes of at most {LONGEST - room}); "
                "rename the image"
            )


def safe_name(name: str, otherwise: str) -> str:
    """Return a name for one file that is like a name from elsewhere, and that every system can have.

    Args:
        name: any text.
        otherwise: the name where nothing is left of it.

    >>> safe_name("../a:b?.jpg", "image"), safe_name("NUL.txt", "image"), safe_name(" .. ", "image")
    ('_a_b_.jpg', '_NUL.txt', 'image')
    """
    shown = "".join("_" if c in _TAKEN or unicodedata.category(c) in _HIDING else c for c in name)
    short = shown.encode()[: LONGEST - _ROOM].decode(errors="ignore").lstrip(" .~-").rstrip(" .")
    return f"_{short}" if short.partition(".")[0].strip().upper() in _DEVICES else short or otherwise
