"""Checkpoints that survive a crash at any moment.

A checkpoint is written to a temporary name, flushed to the disk and renamed, with its SHA-256 in a
manifest written the same way; the last two are kept. A damaged checkpoint is noticed when it is read,
and the one before it is used. Where the manifest itself is lost, the checkpoints are found by their names and
checked by the checksums inside them. Reading executes no code (``weights_only``).
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from typing_extensions import NotRequired, TypedDict

from segadapt.core.documents import read_document, write_document
from segadapt.core.files import file_digest, replace_file
from segadapt.errors import RequestError, first_line

KEPT = 2
_MANIFEST = "checkpoints.json"
_NAME = re.compile(r"checkpoint-(\d{9,})\.pt")


class _Entry(TypedDict):
    position: int
    file: str
    fingerprint: NotRequired[str | None]
    sha256: NotRequired[str]


class _Manifest(TypedDict):
    checkpoints: list[_Entry]


class Newest(NamedTuple):
    """The newest checkpoint of a stage: its position, and the fingerprint of what it was made with."""

    position: int
    fingerprint: str | None


def save_checkpoint(folder: Path, position: int, state: dict[str, Any]) -> Path:
    """Save ``state`` as the checkpoint at ``position`` and remove all but the last two; return its path.

    Args:
        folder: folder of the checkpoints.
        position: a number that grows with the training; the newest checkpoint has the largest.
        state: tensors, numbers, strings, lists and dicts, which ``torch.load`` reads without running code.

    Raises:
        RunError: it cannot be written, e.g. because the disk is full; the checkpoints before it are as they were.
    """
    path = folder / f"checkpoint-{position:09d}.pt"
    replace_file(path, lambda file: torch.save(state, file))
    entries = [e for e in _entries(folder) if e["position"] != position]
    made = {"position": position, "file": path.name, "fingerprint": state.get("fingerprint")}
    entries.append({**made, "sha256": file_digest(path)})
    entries.sort(key=lambda e: int(e["position"]))
    write_document(folder / _MANIFEST, {"checkpoints": entries[-KEPT:]})
    kept = {str(e["file"]) for e in entries[-KEPT:]}
    for old in folder.glob("checkpoint-*.pt"):
        if old.name not in kept:
            old.unlink(missing_ok=True)
    return path


def newest_checkpoint(folder: Path) -> Newest | None:
    """Return what the newest checkpoint in a folder is, without reading it where a manifest says so; None without."""
    for entry in reversed(_entries(folder)):
        if "fingerprint" in entry:
            return Newest(int(entry["position"]), entry["fingerprint"])
        state = _read(folder, entry, lambda line: None)
        if state is not None:
            return Newest(int(entry["position"]), state.get("fingerprint"))
    return None


def load_checkpoint(folder: Path, warn: Callable[[str], None]) -> dict[str, Any] | None:
    """Read the newest undamaged checkpoint, on the CPU; None without one. ``warn`` gets a line per damaged file."""
    for entry in reversed(_entries(folder, warn)):
        state = _read(folder, entry, warn)
        if state is not None:
            return state
    return None


def _read(folder: Path, entry: dict[str, Any], warn: Callable[[str], None]) -> dict[str, Any] | None:
    """Read one checkpoint; None where it is damaged, which ``warn`` is told."""
    path = folder / str(entry["file"])
    try:
        if "sha256" in entry:
            if file_digest(path) != entry["sha256"]:
                raise ValueError("its checksum does not match")
        elif (part := zipfile.ZipFile(path).testzip()) is not None:
            raise ValueError(f"the checksum of its part {part} does not match")
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise ValueError("it holds no state")
    except (OSError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile) as problem:
        warn(f"checkpoint {path.name} is damaged ({first_line(problem)}); trying the one before it")
        return None
    return state


def _entries(folder: Path, warn: Callable[[str], None] = lambda line: None) -> list[dict[str, Any]]:
    """Return position, file, fingerprint and SHA-256 of every checkpoint, oldest first.

    Those that the manifest does not name, because it was lost, or because the process was killed before it was
    written, have position and file alone.
    """
    try:
        held = read_document(folder / _MANIFEST, _Manifest, "the checkpoints beside it are used as they are")
    except RequestError as problem:
        warn(str(problem))
        held = None
    known = {e["file"]: e for e in (held or {"checkpoints": []})["checkpoints"]}
    found = {path.name: _NAME.fullmatch(path.name) for path in folder.glob("checkpoint-*.pt")}
    there = {name: {"position": int(match[1]), "file": name} for name, match in found.items() if match}
    return sorted({**there, **known}.values(), key=lambda e: int(e["position"]))
