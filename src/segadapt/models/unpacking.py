"""Unpack checkpoints of other projects from their nested files. Reading runs no code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from torch import Tensor

from segadapt.errors import RequestError
from segadapt.labels import Color
from segadapt.models.store import FORMAT
from segadapt.models.weights import read_tensors

State = dict[str, Tensor]


@dataclass
class Checkpoint:
    """An unpacked file.

    Attributes:
        path: the file.
        state: the network's tensors under plain names.
        numbers: numbers stored beside the network, e.g. ``iter`` and ``best_iou``.
        dropped: names of all other entries beside the network.
        classes: names of the classes, where the file says them (``CLASSES`` of mmsegmentation).
        palette: their colours, or nothing.
    """

    path: Path
    state: State
    numbers: dict[str, int | float] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)
    classes: tuple[str, ...] = ()
    palette: tuple[Color, ...] = ()


def unpack(path: Path) -> Checkpoint:
    """Read the network's tensors from a nested file, and note the entries beside them.

    Raises:
        RequestError: the file cannot be read, is a segadapt model already, or holds no network.
    """
    _require_foreign(path)
    raw = read_tensors(path)
    state = flat(raw)
    if state is not None:
        return Checkpoint(path, state)
    checkpoint = Checkpoint(path, {})
    for name in ("ResNet101", "model_state", "state_dict"):
        if isinstance(raw, dict) and isinstance(raw.get(name), dict):
            _set_aside(checkpoint, raw, name)
            raw = raw[name]
    state = flat(raw)
    if state is None:
        raise RequestError(f"'{path}' holds {_described(raw)} and no network; see 'segadapt import --help'")
    checkpoint.state = state
    return checkpoint


def _require_foreign(path: Path) -> None:
    """Raise RequestError if a file is a segadapt model."""
    if path.suffix != ".safetensors" or not path.is_file():
        return
    try:
        with safe_open(str(path), "pt") as file:
            own = (file.metadata() or {}).get("format") == FORMAT
    except Exception:  # reading the tensors will report the problem
        return
    if own:
        raise RequestError(f"'{path}' is a model of segadapt already; use it without importing it")


def flat(raw: Any) -> State | None:
    """Return a state dict without the prefix of data parallel training, or None if ``raw`` is not a state dict."""
    if not isinstance(raw, dict) or not raw or not all(isinstance(v, Tensor) for v in raw.values()):
        return None
    state = {str(key): value for key, value in raw.items()}
    if all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}
    return state


def _set_aside(checkpoint: Checkpoint, raw: Mapping[Any, Any], taken: str) -> None:
    """Note the entries beside the entry ``taken``."""
    for key, value in raw.items():
        if key == taken:
            continue
        if isinstance(value, (int, float, np.number)) and not isinstance(value, bool):
            checkpoint.numbers[str(key)] = value.item() if isinstance(value, np.number) else value
        else:
            checkpoint.dropped.append(str(key))
            if key == "meta" and isinstance(value, dict):
                checkpoint.classes, checkpoint.palette = _named(value)


def _named(meta: Mapping[Any, Any]) -> tuple[tuple[str, ...], tuple[Color, ...]]:
    """Return the class names and colours that mmsegmentation keeps beside its weights; nothing where they are odd."""
    told = {str(k).lower(): v for k, v in {**meta, **_mapping(meta.get("dataset_meta"))}.items()}
    names, colors = told.get("classes"), told.get("palette")
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        return (), ()
    try:
        palette = tuple((int(r), int(g), int(b)) for r, g, b in colors or ())
    except (TypeError, ValueError):
        palette = ()
    return tuple(names), palette if len(palette) == len(names) else ()


def _mapping(value: Any) -> Mapping[Any, Any]:
    return value if isinstance(value, dict) else {}


def _described(raw: Any) -> str:
    """Describe the content of a file in a few words."""
    if isinstance(raw, Tensor):
        return f"one tensor of shape {tuple(raw.shape)}"
    if isinstance(raw, dict) and raw:
        return f"the entries {', '.join(map(str, list(raw)[:4]))}"
    return "nothing" if not raw else f"a {type(raw).__name__}"
