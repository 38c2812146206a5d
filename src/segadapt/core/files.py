"""Files with one promise: after a crash or a power cut a file is the old one or the whole new one.

Every file that a later step trusts is written to a temporary name in its own folder, flushed to the disk and
renamed. No other module of the package writes such a file in any other way.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from segadapt.errors import RequestError, RunError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the temporary file to write instead of ``path``; it takes the place of ``path`` if the block ends well.

    Args:
        path: the file to replace; its folder is made where it is missing.

    Raises:
        RunError: the system refuses, e.g. because the disk is full; ``path`` is as it was.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=f".part{path.suffix}")
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("r+b") as file:  # Windows flushes only files opened for writing
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        os.replace(temporary, path)  # noqa: PTH105
    except OSError as problem:
        raise RunError(
            f"'{path}' cannot be written: {problem.strerror or problem}; free or change that place and start again"
        ) from None
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()


def replace_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file atomically by calling ``write`` once with it opened; see :func:`replacing`."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        write(file)


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes atomically; see :func:`replace_file`."""
    replace_file(path, lambda file: file.write(content))


def write_text(path: Path, text: str) -> None:
    """Write text in UTF-8 atomically, halves of surrogate pairs as escapes; see :func:`replace_file`."""
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically; ValueError for NaN and infinities."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False))


def read_json(path: Path) -> Any:
    """Return the parsed JSON of a file, or None when it is missing or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of a log, one per line; lines that a stopped run cut off are left out."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        with contextlib.suppress(ValueError):
            event = json.loads(line)
            if isinstance(event, dict):
                yield event


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def short_hash(value: Any) -> str:
    """Return sixteen hexadecimal digits for a JSON value, in whatever order its keys are."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def require_writable(folder: Path, setting: str) -> None:
    """Refuse, before any work, a folder into which nothing could be written; it need not exist yet.

    Args:
        folder: the folder for results.
        setting: name of the setting that gives it, e.g. ``--out``, for the message.

    Raises:
        RequestError: it, or the nearest folder above it that exists, is not a folder or is write-protected.
    """
    there = next((place for place in (folder, *folder.parents) if os.path.lexists(place)), Path())
    if not there.is_dir():
        raise RequestError(
            f"nothing can be written into '{folder}': '{there}' is not a folder; choose another {setting}"
        )
    if not os.access(there, os.W_OK | os.X_OK):
        raise RequestError(
            f"nothing can be written into '{folder}': there is no permission to write into '{there}'; choose another "
            f"{setting}"
        )
