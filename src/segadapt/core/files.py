"""Files with one promise: after a crash or a power cut a file is the old one or the whole new one.

Every file that a later step trusts is written to a temporary name in its own folder, flushed to the disk and
renamed. No other module of the package writes such a file in any other way.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from segadapt.core.faults import refusal
from segadapt.core.reading import read_text
from segadapt.errors import RequestError, RunError

SEAL = "seal"
"""Key of the hash that a JSON object holds of the rest of itself."""
_PARTIAL = ".partial-"
"""Opens the names of files that are being written; what follows is unique to one write."""


@contextlib.contextmanager
def replacing(path: Path, flush: bool = True) -> Iterator[Path]:
    """Yield the temporary file to write instead of ``path``; it takes the place of ``path`` if the block ends well.

    Args:
        path: the file to replace; its folder is made where it is missing.
        flush: whether the file and its name are on the disk when this returns. Without, :func:`flush_folder` flushes
            many files at once, before anything says that they are there.

    Raises:
        RunError: the system refuses, e.g. because the disk is full; ``path`` is as it was.
    """
    temporary: Path | None = None
    try:
        made = _made_folders(path.parent)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=_PARTIAL, suffix=path.suffix[-16:])
        os.close(handle)
        temporary = Path(name)
        yield temporary
        if flush:
            _flush_file(temporary)
        temporary.chmod(0o644)
        os.replace(temporary, path)  # noqa: PTH105
        for folder in dict.fromkeys([path.parent, *(folder.parent for folder in made)]) if flush else ():
            _flush_names(folder)
    except Exception as problem:
        if (refused := refusal(problem)) is None:
            raise
        raise RunError(f"'{path}' cannot be written: {refused}; free or change that place and start again") from None
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()


def _made_folders(folder: Path) -> list[Path]:
    """Make a folder and those above it; return the new ones."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _flush_file(path: Path) -> None:
    with path.open("r+b") as file:  # Windows flushes only files opened for writing
        os.fsync(file.fileno())


def _flush_names(folder: Path) -> None:
    """Flush the names of the files in a folder; a no-op where the system cannot (Windows, some network disks)."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def flush_folder(folder: Path) -> None:
    """Flush all files below a folder to the disk, and their names: what stands there outlives a power cut.

    Many small files are flushed together: most of them are on the disk already when the last one is written, where
    flushing each when it is written waits for the disk every time.

    Raises:
        RunError: the system refuses, e.g. because the disk is full.
    """
    try:
        for place, folders, files in os.walk(folder):
            for name in files:
                _flush_file(Path(place, name))
            for name in folders:
                _flush_names(Path(place, name))
        _flush_names(folder)
        _flush_names(folder.parent)
    except OSError as problem:
        raise RunError(
            f"'{folder}' cannot be written: {problem.strerror or problem}; free that place and start again"
        ) from None


def remove_partial(folder: Path) -> None:
    """Remove what killed processes had begun to write below a folder, once nobody else writes there."""
    for place, _, files in os.walk(folder):
        for name in files:
            if name.startswith(_PARTIAL):
                with contextlib.suppress(OSError):
                    Path(place, name).unlink()


def replace_file(path: Path, write: Callable[[BinaryIO], object], flush: bool = True) -> None:
    """Write a file atomically by calling ``write`` once with it opened; see :func:`replacing`."""
    with replacing(path, flush) as temporary, temporary.open("wb") as file:
        write(file)


def write_bytes(path: Path, content: bytes, flush: bool = True) -> None:
    """Write bytes atomically; see :func:`replace_file`."""
    replace_file(path, lambda file: file.write(content), flush)


def append_text(path: Path, text: str) -> None:
    """Append whole lines to a file, on a new line where an earlier process was cut off in one; see append_bytes."""
    append_bytes(path, text.encode(errors="backslashreplace"), lines=True)


def append_bytes(path: Path, content: bytes, lines: bool = False) -> None:
    """Append to a file that grows, such as a log; what a killed process appended last may be cut off.

    Raises:
        RunError: the system refuses, e.g. because the disk is full.
    """
    try:
        with path.open("a+b") as file:
            if lines and file.tell():
                file.seek(-1, os.SEEK_END)
                content = content if file.read(1) == b"\n" else b"\n" + content
            file.write(content)
    except OSError as problem:
        raise RunError(
            f"'{path}' cannot be written: {problem.strerror or problem}; free or change that place and start again"
        ) from None


def claim_file(path: Path, content: bytes) -> bool:
    """Make a file that is not there yet, whole at once; return whether it was made, as only one process can.

    Raises:
        OSError: the system refuses for another reason.
    """
    written = path.with_name(f"{_PARTIAL}{uuid.uuid4().hex}")
    try:
        written.write_bytes(content)
        os.link(written, path)
    except FileExistsError:
        return False
    except OSError:  # a disk without hard links: the content follows
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            return False
        with os.fdopen(handle, "wb") as file:
            file.write(content)
    finally:
        written.unlink(missing_ok=True)
    return True


def take_away(path: Path, content: Any) -> None:
    """Remove a JSON file that holds ``content``, of which another process may have made another one meanwhile."""
    aside = path.with_name(f"{_PARTIAL}{uuid.uuid4().hex}")
    with contextlib.suppress(OSError):  # another process was faster
        os.rename(path, aside)  # noqa: PTH104
        if read_json(aside) != content:
            claim_file(path, aside.read_bytes())
        aside.unlink()


def copy_file(path: Path, to: Path) -> None:
    """Copy the content of a file atomically; see :func:`replacing`."""
    with replacing(to) as temporary:
        shutil.copyfile(path, temporary)


def write_text(path: Path, text: str) -> None:
    """Write text in UTF-8 atomically, halves of surrogate pairs as escapes; see :func:`replace_file`."""
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically; ValueError for NaN and infinities."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False))


def read_json(path: Path) -> Any:
    """Return the parsed JSON of a file without its seal, or None when it is missing or broken.

    For files that can be done without; :func:`segadapt.core.documents.read_document` says what is wrong.
    """
    try:
        value = json.loads(read_text(path, 1 << 30))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or SEAL not in value:
        return value
    plain, seal = unsealed(value)
    return plain if value[SEAL] == seal else None


def unsealed(value: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Return a JSON object without its seal, and the seal that it should have: a hash of the rest."""
    plain = {key: inner for key, inner in value.items() if key != SEAL}
    return plain, short_hash(plain)


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


def with_checksum(content: bytes) -> bytes:
    """Return bytes with a checksum (CRC-32) of them at the end."""
    return content + zlib.crc32(content).to_bytes(4, "big")


def without_checksum(stored: bytes) -> bytes | None:
    """Return the bytes that :func:`with_checksum` took; None where they are not the same any more."""
    content, checksum = stored[:-4], stored[-4:]
    return content if zlib.crc32(content).to_bytes(4, "big") == checksum else None


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


def writable(folder: Path) -> bool:
    """Return whether files can be made in a folder, or in the nearest one above it that exists."""
    return os.access(_nearest(folder), os.W_OK | os.X_OK)


def _nearest(folder: Path) -> Path:
    return next((place for place in (folder, *folder.parents) if os.path.lexists(place)), Path())


def require_writable(folder: Path, setting: str) -> None:
    """Refuse, before any work, a folder into which nothing could be written; it need not exist yet.

    Args:
        folder: the folder for results.
        setting: name of the setting that gives it, e.g. ``--out``, for the message.

    Raises:
        RequestError: it, or the nearest folder above it that exists, is not a folder or is write-protected.
    """
    there = _nearest(folder)
    if not there.is_dir():
        raise RequestError(
            f"nothing can be written into '{folder}': '{there}' is not a folder; choose another {setting}"
        )
    if not writable(folder):
        raise RequestError(
            f"nothing can be written into '{folder}': there is no permission to write into '{there}'; choose another "
            f"{setting}"
        )
