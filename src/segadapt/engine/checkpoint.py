"""Checkpoints that survive a crash at any moment.

A checkpoint is written to a temporary name, flushed to the disk and renamed, with its SHA-256 in a
manifest written the same way; the last two are kept. A damaged one is noticed when it is read and
the one before it is used. Reading executes no code (``weights_only``).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch

KEPT = 2
_MANIFEST = "checkpoints.json"


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file so that it is either the old one or the whole new one, even after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # noqa: PTH101 (the name is a plain string here)
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically."""
    text = json.dumps(value, indent=1, allow_nan=False)
    write_atomically(path, lambda file: file.write(text.encode()))


def read_json(path: Path) -> Any:
    """Parsed JSON of a file, or None when it is missing or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def save_checkpoint(folder: Path, position: int, state: dict[str, Any]) -> Path:
    """Save ``state`` as the checkpoint at ``position`` (any growing number); drop all but the last two."""
    path = folder / f"checkpoint-{position:09d}.pt"
    write_atomically(path, lambda file: torch.save(state, file))
    entries = [e for e in _entries(folder) if e["position"] != position]
    entries.append({"position": position, "file": path.name, "sha256": file_digest(path)})
    entries.sort(key=lambda e: int(e["position"]))
    write_json(folder / _MANIFEST, entries[-KEPT:])
    kept = {str(e["file"]) for e in entries[-KEPT:]}
    for old in folder.glob("checkpoint-*.pt"):
        if old.name not in kept:
            old.unlink(missing_ok=True)
    return path


def load_checkpoint(folder: Path, warn: Callable[[str], None]) -> dict[str, Any] | None:
    """The newest readable checkpoint, or None; says through ``warn`` which damaged ones it passed over."""
    for entry in reversed(_entries(folder)):
        path = folder / str(entry["file"])
        try:
            if file_digest(path) != entry["sha256"]:
                raise ValueError("its checksum does not match")
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except (OSError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError) as problem:
            first_line = str(problem).split("\n", 1)[0]
            warn(f"checkpoint {path.name} is damaged ({first_line}); trying the one before it")
            continue
        return state
    return None


def _entries(folder: Path) -> list[dict[str, Any]]:
    return list(read_json(folder / _MANIFEST) or [])


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
