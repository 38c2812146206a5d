"""Model files: one safetensors file with everything needed to use a model. Reading runs no code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from segadapt.core.files import replacing
from segadapt.errors import RequestError
from segadapt.labels import LabelSpace
from segadapt.models.build import build_segmenter, require_rebuildable
from segadapt.models.metadata import Metadata, checked_metadata, described_network, parsed, require_plain
from segadapt.models.prototype_net import PrototypeNet
from segadapt.models.sealing import require_whole, save_sealed
from segadapt.models.segmenter import Segmenter

FORMAT = "segadapt-model-1"
PROTOTYPES_FORMAT = "segadapt-prototypes-1"
PROTOTYPES = "prototypes.safetensors"
"""File beside the model of a stage that learns prototypes but predicts by the classifier."""


@dataclass(frozen=True)
class LoadedModel:
    """A model file, opened.

    Attributes:
        model: the network, in evaluation mode.
        space: the classes that it predicts.
        provenance: its origin as plain JSON values: run, stage, settings, versions.
        file: the file; None for a model that was put together otherwise.
    """

    model: Segmenter
    space: LabelSpace
    provenance: dict[str, Any]
    file: Path | None = None

    @property
    def inference(self) -> dict[str, Any]:
        """Prediction settings of its run, for :class:`~segadapt.models.inference.InferenceConfig`; may be empty."""
        return dict(self.provenance.get("inference", {}))

    @property
    def input(self) -> dict[str, Any] | None:
        """How images become the network's, see :func:`segadapt.data.bands.reader_of`; None for 8-bit RGB."""
        stored: dict[str, Any] | None = self.provenance.get("input")
        return stored

    @property
    def working_size(self) -> tuple[int, int] | tuple[None, int] | tuple[int, None] | int | None:
        """Size (height, width), or longest side, of images in its run's evaluation; None keeps the size of an image."""
        stored = self.provenance.get("size")
        return (stored[0], stored[1]) if isinstance(stored, list) else stored


def save_model(path: Path, model: Segmenter, space: LabelSpace, provenance: dict[str, Any]) -> None:
    """Write a model file; a crash leaves either the old file or the whole new one.

    Args:
        path: the file, ``*.safetensors``; its folder is made if missing.
        model: any network of ``build_segmenter``; its device and mode do not matter.
        space: the classes of the network, in order.
        provenance: plain JSON values that :class:`LoadedModel` returns; ``inference`` and ``size`` in it
            say how to predict.

    Raises:
        RequestError: the network could not be loaded again from the file.
        RunError: the file cannot be written, e.g. because the disk is full.

    Example:
        >>> save_model(Path("model.safetensors"), model, CITYSCAPES, {"run": "by hand"})
        >>> loaded = load_model(Path("model.safetensors"))
        >>> labels, confidence = predict_labels(loaded.model, images, (1024, 2048), InferenceConfig())
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
    """Read a model file.

    Args:
        path: a file of :func:`save_model`.
        device: where the network goes.

    Raises:
        RequestError: the file is missing or damaged, or is not a model file.
    """
    tensors, metadata = _read(path)
    if metadata.get("format") != FORMAT:
        raise RequestError(f"'{path}' holds tensors but not a segadapt model; use it as model.weights instead")
    told = checked_metadata(metadata, f"'{path}'")
    with described_network(f"'{path}'", _bytes_of(tensors)):
        model = build_segmenter(**told.description)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as problem:
        raise RequestError(
            f"'{path}' holds other parameters than the network '{model.architecture.get('name')}' has here: "
            f"{str(problem).splitlines()[-1].strip()}; the module or package that it was trained with is needed"
        ) from problem
    require_whole(path, tensors, metadata)
    return LoadedModel(model.to(device).eval(), told.space, told.provenance, path)


def save_prototypes(path: Path, view: PrototypeNet) -> None:
    """Write the projection and the prototypes of a network, some megabytes at most; not the network it wraps."""
    wrapped = {"name", "base", "bands"}
    settings = {k: v for k, v in view.architecture.items() if k not in wrapped}
    own = {k: v for k, v in view.state_dict().items() if not k.startswith("base.")}
    _write(path, own, {"format": PROTOTYPES_FORMAT, "settings": json.dumps(settings)})


def load_prototypes(path: Path, base: Segmenter) -> PrototypeNet:
    """Wrap a network with the prototypes of a file; the result is in evaluation mode on the network's device.

    Raises:
        RequestError: the file is missing or damaged, or belongs to a network with other features or classes.
    """
    tensors, metadata = _read(path)
    if metadata.get("format") != PROTOTYPES_FORMAT:
        raise RequestError(f"'{path}' holds no prototypes; give the {PROTOTYPES} of a stage that learnt some")
    settings = parsed(metadata.get("settings", ""), "settings", f"'{path}'")
    require_plain(settings, "settings", f"'{path}'")
    with described_network(f"'{path}'", _bytes_of(tensors)):
        view = PrototypeNet(base, **settings)
    own = {k: v.shape for k, v in view.state_dict().items() if not k.startswith("base.")}
    if own != {k: v.shape for k, v in tensors.items()}:
        raise RequestError(f"'{path}' was made for a network with other features or classes")
    require_whole(path, tensors, metadata)
    view.load_state_dict(tensors, strict=False)
    return view.to(next(base.parameters()).device).eval()


def by_prototypes(loaded: LoadedModel, path: Path) -> LoadedModel:
    """Return a model that predicts by the prototypes of its stage (MPCL) instead of its classifier.

    Args:
        loaded: the model; returned unchanged if it predicts by prototypes already.
        path: the model's file; the prototypes lie beside it.

    Raises:
        RequestError: the file of prototypes is missing or damaged, or belongs to another model.
    """
    if isinstance(loaded.model, PrototypeNet):
        return loaded
    beside = path.with_name(PROTOTYPES)
    if not beside.is_file():
        raise RequestError(
            f"there is no '{beside}': the stage of this model learnt no prototypes; train a stage with 'mpcl' "
            "until a class has prototypes"
        )
    return replace(loaded, model=load_prototypes(beside, loaded.model))


def stored_space(path: Path) -> LabelSpace | None:
    """Return the classes of a model file from its head; None for any other file."""
    head = model_head(path)
    return None if head is None else head[0]


def model_head(path: Path) -> tuple[LabelSpace, dict[str, Any]] | None:
    """Return classes and provenance of a model file, see :func:`read_head`; None for any other file."""
    head = read_head(path)
    return None if head is None else (head.space, head.provenance)


def read_head(path: Path) -> Metadata | None:
    """Return what a model file says of itself, from its head, without its weights; None for any other file.

    Raises:
        RequestError: it is a model file, but its head is damaged.
    """
    if path.suffix != ".safetensors":
        return None
    try:
        with safe_open(str(path), "pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError):
        return None
    return checked_metadata(metadata, f"'{path}'") if metadata.get("format") == FORMAT else None


def _write(path: Path, state: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write tensors and metadata; a crash leaves either the old file or the whole new one."""
    tensors: dict[str, Tensor] = {}
    written: set[int] = set()
    for key, value in state.items():
        tensor = value.detach().to("cpu").contiguous()
        place = tensor.untyped_storage().data_ptr()
        tensors[key] = tensor.clone() if place in written else tensor  # a file cannot hold tied parameters as one
        written.add(place)
    with replacing(path) as temporary:
        save_sealed(temporary, tensors, metadata)


def _bytes_of(tensors: Mapping[str, Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read tensors and metadata of a file; RequestError when it is missing or damaged."""
    if not path.is_file():
        raise RequestError(f"no model file '{path}'")
    try:
        with safe_open(str(path), "pt") as file:
            # The file is not a mapping: only its keys can be iterated.
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as problem:
        raise RequestError(f"'{path}' is not a readable model file: {str(problem).splitlines()[0]}") from problem
