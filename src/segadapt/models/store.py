"""Model files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file

from segadapt.errors import RequestError
from segadapt.labels import LabelSpace
from segadapt.models.build import build_segmenter
from segadapt.models.segmenter import Segmenter


@dataclass(frozen=True)
class LoadedModel:
    model: Segmenter
    space: LabelSpace
    provenance: dict[str, Any]


def save_model(path: Path, model: Segmenter, space: LabelSpace, provenance: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, str(path), {"space": space.to_json(), "description": json.dumps(model.description()), "provenance": json.dumps(provenance)})


def load_model(path: Path, device: str = "cpu") -> LoadedModel:
    with safe_open(str(path), "pt") as f:
        meta = f.metadata()
        state = {k: f.get_tensor(k) for k in f.keys()}
    model = build_segmenter(**json.loads(meta["description"]))
    model.load_state_dict(state)
    return LoadedModel(model.to(device), LabelSpace.from_json(meta["space"]), json.loads(meta["provenance"]))


def require_same_classes(loaded: LabelSpace, space: LabelSpace, path: Path) -> None:
    if not loaded.same_classes(space):
        raise RequestError(f"'{path}' was trained for the classes {', '.join(loaded.names)}, not for {', '.join(space.names)}")
