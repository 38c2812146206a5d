"""Model files: one safetensors file with everything needed to use the model, read without running code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from segadapt.core.files import replacing
from segadapt.errors import RequestError
from segadapt.labels import LabelSpace
from segadapt.models.build import build_segmenter, require_rebuildable
from segadapt.models.prototype_net import PrototypeNet
from segadapt.models.segmenter import Segmenter

FORMAT = "segadapt-model-1"
PROTOTYPES_FORMAT = "segadapt-prototypes-1"
PROTOTYPES = "prototypes.safetensors"
"""Beside the model of a stage that learns prototypes but predicts by the classifier."""


@dataclass(frozen=True)
class LoadedModel:
    """A model file, opened.

    Attributes:
        model: in evaluation mode.
        space: the classes it knows.
        provenance: how it came about: run, stage, settings, versions.
    """

    model: Segmenter
    space: LabelSpace
    provenance: dict[str, Any]

    @property
    def inference(self) -> dict[str, Any]:
        """How it predicts in its run: settings of :class:`~segadapt.models.inference.InferenceConfig`."""
        return dict(self.provenance.get("inference", {}))

    @property
    def working_size(self) -> tuple[int, int] | tuple[None, int] | tuple[int, None] | int | None:
        """The size of images, or of their longest side, at which it was evaluated in its run; None keeps images."""
        stored = self.provenance.get("size")
        return (stored[0], stored[1]) if isinstance(stored, list) else stored


def save_model(path: Path, model: Segmenter, space: LabelSpace, provenance: dict[str, Any]) -> None:
    """Write a model file so that it is either the old one or the whole new one.

    Raises:
        RequestError: the network could not be loaded again from the file.
    """
    require_rebuildable(model)
    metadata = {
        "format": FORMAT,
        "space": space.to_json(),
        "description": json.dumps(model.description()),
        "provenance": json.dumps(provenance),
    }
    _write(path, model.state_dict(), metadata)


def load_model(path: Path, device: str | torch.device = "cpu") -> LoadedModel:
    """Read a model file; RequestError when it is missing, damaged, or no model file."""
    tensors, metadata = _read(path)
    if metadata.get("format") != FORMAT:
        raise RequestError(f"'{path}' holds tensors but no segadapt model; use it as model.weights instead")
    model = build_segmenter(**json.loads(metadata["description"]))
    model.load_state_dict(tensors)
    space = LabelSpace.from_json(metadata["space"])
    return LoadedModel(model.to(device).eval(), space, json.loads(metadata["provenance"]))


def save_prototypes(path: Path, view: PrototypeNet) -> None:
    """Write what a network has beyond the one it wraps: projection and prototypes, some megabytes at most."""
    wrapped = {"name", "base"}
    settings = {k: v for k, v in view.architecture.items() if k not in wrapped}
    own = {k: v for k, v in view.state_dict().items() if not k.startswith("base.")}
    _write(path, own, {"format": PROTOTYPES_FORMAT, "settings": json.dumps(settings)})


def load_prototypes(path: Path, base: Segmenter) -> PrototypeNet:
    """A network with the prototypes of a file around it, in evaluation mode on its device.

    Raises:
        RequestError: the file is missing or damaged, or belongs to a network with other features or classes.
    """
    tensors, metadata = _read(path)
    if metadata.get("format") != PROTOTYPES_FORMAT:
        raise RequestError(f"'{path}' holds no prototypes; give the prototypes.safetensors of a stage with some")
    view = PrototypeNet(base, **json.loads(metadata["settings"]))
    own = {k: v.shape for k, v in view.state_dict().items() if not k.startswith("base.")}
    if own != {k: v.shape for k, v in tensors.items()}:
        raise RequestError(f"'{path}' was made for a network with other features or classes")
    view.load_state_dict(tensors, strict=False)
    return view.to(next(base.parameters()).device).eval()


def by_prototypes(loaded: LoadedModel, path: Path) -> LoadedModel:
    """A model that predicts by the prototypes of its stage (MPCL) instead of its classifier.

    Args:
        loaded: the model, which is returned as it is if it predicts by prototypes already.
        path: of its file; the prototypes lie beside it.

    Raises:
        RequestError: there are none, or they belong to another model.
    """
    if isinstance(loaded.model, PrototypeNet):
        return loaded
    beside = path.with_name(PROTOTYPES)
    if not beside.is_file():
        raise RequestError(
            f"there is no '{beside}': the stage of this model learnt no prototypes; those with 'mpcl' do, unless no "
            "class had any yet"
        )
    return replace(loaded, model=load_prototypes(beside, loaded.model))


def require_same_classes(found: LabelSpace, wanted: LabelSpace, path: Path) -> None:
    """RequestError unless a model's classes are those of the run, in the same order."""
    if not found.same_classes(wanted):
        raise RequestError(
            f"'{path}' was trained for the classes {_few(found)}; this run has {_few(wanted)}; "
            "use a model of the same label space, or train from the start"
        )


def _few(space: LabelSpace) -> str:
    more = f", ... ({len(space)})" if len(space) > 4 else ""
    return ", ".join(space.names[:4]) + more


def _write(path: Path, state: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write tensors so that the file is either the old one or the whole new one."""
    tensors = {k: v.detach().to("cpu").contiguous() for k, v in state.items()}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a file; RequestError when it is missing or damaged."""
    if not path.is_file():
        raise RequestError(f"no model file '{path}'")
    try:
        with safe_open(str(path), "pt") as file:
            # A mapping it is not: only its keys can be iterated.
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as problem:
        raise RequestError(f"'{path}' is no readable model file: {str(problem).splitlines()[0]}") from problem
