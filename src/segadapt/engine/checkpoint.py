"""Checkpoints that survive a crash at any moment.

A checkpoint is written to a temporary name, flushed to the disk and renamed, with its SHA-256 in a
manifest written the same way; the last two are kept. A damaged checkpoint is noticed when it is read,
and the one before it is used. Reading executes no code (``weights_only``).
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from segadapt.core.files import file_digest, read_json, replace_file, write_json
from segadapt.errors import first_line

KEPT = 2
_MANIFEST = "checkpoints.json"


def save_checkpoint(folder: Path, position: int, state: dict[str, Any]) -> Path:
    """Save ``state`` as the checkpoint at ``position`` and remove all but the last two; return its path.

    Args:
        folder: folder of the checkpoints.
        position: a number that grows with the training; the newest checkpoint has the largest.
        state: tensors, numbers, strings, lists and dicts, which ``torch.load`` reads without running code.
    """
    path = folder / f"checkpoint-{position:09d}.pt"
    replace_file(path, lambda file: torch.save(state, file))
    entries = [e for e in _entries(folder) if e["position"] != position]
    made = {"position": position, "file": path.name, "fingerprint": state.get("fingerprint")}
    entries.append({**made, "sha256": file_digest(path)})
    entries.sort(key=lambda e: int(e["position"]))
    write_json(folder / _MANIFEST, entries[-KEPT:])
    kept = {str(e["file"]) for e in entries[-KEPT:]}
    for old in folder.glob("checkpoint-*.pt"):
        if old.name not in kept:
            old.unlink(missing_ok=True)
    return path


class Newest(NamedTuple):
    """The newest checkpoint of a stage: its position, and the fingerprint of what it was made with."""

    position: int
    fingerprint: str | None


def newest_checkpoint(folder: Path) -> Newest | None:
    """Return what the newest checkpoint in a folder is, without reading it; None without one."""
    return next((Newest(int(e["position"]), e.get("fingerprint")) for e in reversed(_entries(folder))), None)


def load_checkpoint(folder: Path, warn: Callable[[str], None]) -> dict[str, Any] | None:
    """Read the newest undamaged checkpoint, on the CPU; None without one. ``warn`` gets a line per damaged one."""
    for entry in reversed(_entries(folder)):
        path = folder / str(entry["file"])
        try:
            if file_digest(path) != entry["sha256"]:
                raise ValueError("its checksum does not match")
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except (OSError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError) as problem:
            warn(f"checkpoint {path.name} is damaged ({first_line(problem)}); trying the one before it")
            continue
        return state
    return None


def _entries(folder: Path) -> list[dict[str, Any]]:
    """Read the manifest: position, file, fingerprint and SHA-256 of every checkpoint, oldest first."""
    return list(read_json(folder / _MANIFEST) or [])
