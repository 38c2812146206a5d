"""Contents of a run's folder: the numbers that must come out again, and how much finished work there is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segadapt.core.files import file_digest, read_json

_OF_THE_CLOCK = ("seconds", "peak_memory_mb")
_ROUND = 10_000_000
"""Positions of checkpoints count rounds by this many steps, see :mod:`segadapt.engine.loop`."""


def numbers(out: Path) -> dict[str, Any]:
    """Return everything of a finished run that another run of the same must equal, by name.

    The weights of every model, bit for bit; the metadata of the model files; all results but times; every pseudo label.
    """
    found: dict[str, Any] = {}
    for path in sorted(p for p in out.glob("stages/*/*.safetensors") if not p.name.startswith(".")):
        name = str(path.relative_to(out))
        weights, metadata = _parts(path)
        found[name], found[f"{name}, metadata"] = weights, metadata
    results = read_json(out / "results.json")
    found["results.json"] = _without_times(results) if isinstance(results, dict) else None
    for path in sorted(out.glob("stages/*/round*/**/*")):
        if path.is_file() and path.suffix in (".png", ".scores", "") and not path.name.startswith("."):
            found[str(path.relative_to(out))] = file_digest(path)
    report = out / "report.html"
    found["report.html"] = report.is_file() and report.stat().st_size > 1000
    return found


def _parts(path: Path) -> tuple[str, Any]:
    """Return a digest of the tensors of a safetensors file, and its metadata."""
    import hashlib

    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    try:
        header = json.loads(content[8 : 8 + length])
        metadata = header.pop("__metadata__", {})
        tensors = json.dumps(header, sort_keys=True).encode() + content[8 + length :]
        return hashlib.sha256(tensors).hexdigest(), metadata
    except (ValueError, AttributeError):
        return "unreadable", None


def _without_times(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_times(inner) for key, inner in value.items() if key not in _OF_THE_CLOCK}
    return [_without_times(inner) for inner in value] if isinstance(value, list) else value


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return the names of what two runs do not share."""
    return [name for name in dict.fromkeys([*one, *other]) if one.get(name) != other.get(name)]


def saved_steps(out: Path, lengths: Mapping[str, tuple[int, int]], damaged: Path | None = None) -> int:
    """Return how many optimiser steps the files of a run hold, so that they need not be done again.

    Args:
        out: folder of the run.
        lengths: (steps of a round, rounds) of each stage.
        damaged: a file that holds nothing any more; where it is a finished stage's own, or one of the labels or
            scores that a round is trained on, the stage may begin anew.
    """
    held = 0
    for stage, (steps, rounds) in lengths.items():
        folder = out / "stages" / stage
        own = damaged is not None and folder in damaged.parents
        if (
            own
            and damaged is not None
            and (damaged.parent == folder or damaged.relative_to(folder).parts[0].startswith("round"))
        ):
            continue
        if (folder / "done.json").is_file() and (folder / "model.safetensors").is_file():
            held += steps * rounds
            continue
        positions = [int(p.stem.rpartition("-")[2]) for p in _checkpoints(folder / "checkpoints") if p != damaged]
        if positions:
            held += max(positions) // _ROUND * steps + max(positions) % _ROUND
    return held


def _checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints that the manifest names, or all where it cannot be read."""
    files, manifest = sorted(folder.glob("checkpoint-*.pt")), folder / "checkpoints.json"
    if read_json(manifest) is None:
        return files if manifest.exists() or len(files) > 1 else []
    return [file for file in files if file.name in manifest.read_text(encoding="utf-8")]


def litter(out: Path) -> list[str]:
    """Return what a finished run should not have left: halves of files, and checkpoints of finished stages."""
    halves = [p for p in out.rglob("*") if ".part" in p.suffixes or p.name.endswith(".partial")]
    return sorted(str(p.relative_to(out)) for p in [*halves, *out.glob("stages/*/checkpoints")])
