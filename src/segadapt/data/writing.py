"""Pictures as bytes, and files that are there completely or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from segadapt.errors import RequestError, RunError


def encode_picture(suffix: str, picture: npt.NDArray[np.unsignedinteger[Any]], settings: Sequence[int] = ()) -> bytes:
    """The content of an image file.

    Args:
        suffix: the format, ``.png`` or ``.jpg``.
        picture: grey [H, W] or RGB [H, W, 3]; uint8, or uint16 for ``.png``.
        settings: OpenCV's, in pairs of name and value.
    """
    stored = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR) if picture.ndim == 3 else picture
    done, content = cv2.imencode(suffix, stored, list(settings))
    if not done:
        raise RuntimeError(f"a {picture.shape} picture could not be encoded as {suffix}")
    return bytes(content.tobytes())


def require_writable(folder: Path, what: str) -> None:
    """Refuse, before any work, a folder into which nothing could be written; it need not exist yet.

    Raises:
        RequestError: it, or the nearest folder above it that exists, is no folder or write-protected; ``what`` says
            which setting to mend, e.g. ``--out``.
    """
    there = next((place for place in (folder, *folder.parents) if os.path.lexists(place)), Path())
    if not there.is_dir():
        raise RequestError(f"nothing can be written into '{folder}': '{there}' is no folder; choose another {what}")
    if not os.access(there, os.W_OK | os.X_OK):
        raise RequestError(
            f"nothing can be written into '{folder}': there is no permission to write into '{there}'; choose another "
            f"{what}"
        )


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there completely or not at all, whenever the program is stopped.

    Raises:
        RunError: it cannot be written, e.g. because the disk is full.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        os.replace(partial, path)  # noqa: PTH105 - replaces an existing file on every system
    except OSError as problem:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise RunError(
            f"'{path}' cannot be written: {problem.strerror or problem}; mend that and start again"
        ) from None
