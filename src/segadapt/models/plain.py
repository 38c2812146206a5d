"""Any torch module as a network of the library.

Two ways lead here. An installed package names the module's class as an entry point of the group
``segadapt.networks``; its model files then open everywhere the package is installed. Or a script gives the module
itself (:func:`give_network`); its model files then open in scripts that give it again.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from segadapt.errors import RequestError
from segadapt.models.segmenter import IMAGENET, Output, Preprocessing, Segmenter

PREFIX = "python:"
"""Opens the names of networks that a script gives."""

_PROBED = 128
"""Side in pixels of the image that tells stride and channels of a module."""


class PlainNetwork(Segmenter):
    """A module that maps images to class scores.

    Args:
        module: maps [B, 3, H, W] to logits [B, K, h, w] at any stride; or to an ``Output``, a mapping with ``out``
            (torchvision), or a tuple that opens with the logits.
        classes: K; None takes the number of classes that the module gives scores for.
        preprocessing: from RGB in [0, 1] to the module's input; ImageNet's statistics by default.
        head: name of the submodule that makes the logits, e.g. ``classifier.4``. Its input becomes the features that
            prototypes and contrasts compare, and it trains with the rate of a head. Without it the logits themselves
            are the features, and all parameters train with one rate.

    Raises:
        RequestError: the module does not run on an image of 128 x 128 pixels, gives other shapes, or has no such
            ``head``.

    >>> network = PlainNetwork(nn.Conv2d(3, 5, 3, stride=2, padding=1), classes=5)
    >>> network.stride, network.feature_channels
    (2, 5)
    """

    def __init__(
        self,
        module: nn.Module,
        classes: int | None = None,
        preprocessing: Preprocessing = IMAGENET,
        head: str | None = None,
    ) -> None:
        super().__init__(classes or 0, preprocessing)
        self.module, self._head_name = module, head
        if head is not None and head not in dict(module.named_modules()):
            raise RequestError(f"{_named(module)}: there is no submodule '{head}' to take as its head")
        output = self._probe(classes)
        self.classes = int(output.logits.shape[1])
        self.stride = max(1, round(_PROBED / output.logits.shape[-2]))
        self.feature_channels = int(output.features.shape[1])

    def network(self, x: Tensor) -> Output:
        """Return logits [B, K, h, w] and features of preprocessed images [B, 3, H, W]."""
        if self._head_name is None:
            return _output(self.module(x), None)
        seen: list[Tensor] = []
        handle = self.module.get_submodule(self._head_name).register_forward_pre_hook(
            lambda _, inputs: seen.append(inputs[0])
        )
        try:
            made = self.module(x)
        finally:
            handle.remove()
        return _output(made, seen[-1] if seen else None)

    def head_modules(self) -> list[nn.Module]:
        """Return the head, where one is named."""
        return [] if self._head_name is None else [self.module.get_submodule(self._head_name)]

    def _probe(self, classes: int | None) -> Output:
        """Run once on a small image and check what comes out."""
        name, modes = _named(self.module), [(layer, layer.training) for layer in self.module.modules()]
        self.module.eval()
        try:
            with torch.no_grad():
                place = next((p.device for p in self.module.parameters()), torch.device("cpu"))
                output = self.network(torch.zeros(1, 3, _PROBED, _PROBED, device=place))
        except RequestError as problem:
            raise RequestError(f"{name}: {problem}") from None
        except Exception as problem:
            raise RequestError(
                f"{name} does not run on images [1, 3, {_PROBED}, {_PROBED}]: {type(problem).__name__}: {problem}"
            ) from problem
        finally:
            for layer, mode in modes:
                layer.training = mode
        shape = tuple(output.logits.shape)
        if len(shape) != 4 or shape[1] != (classes or shape[1]):
            wanted = "K" if classes is None else str(classes)
            raise RequestError(f"{name} gives scores of shape {shape}; [1, {wanted}, h, w] is needed")
        return output


def _output(made: Any, features: Tensor | None) -> Output:
    """Return what a module gives as an Output."""
    if isinstance(made, Output):
        return made
    if isinstance(made, Mapping):
        made = made.get("out")
    elif isinstance(made, (tuple, list)):
        made = made[0]
    if not isinstance(made, Tensor):
        raise RequestError("its result holds no tensor of class scores: return logits, or a mapping with 'out'")
    return Output(made, made if features is None else features)


def _named(module: nn.Module) -> str:
    return f"network {type(module).__name__}"


# ---- modules that a script gives ----

_given: dict[str, PlainNetwork | Segmenter] = {}


def give_network(
    module: nn.Module, *, preprocessing: Preprocessing = IMAGENET, head: str | None = None
) -> tuple[str, dict[str, Any]]:
    """Make a module known in this process under a name that recipes and model files use.

    A stage that starts ``from scratch`` starts from the weights that the module has now.

    Args:
        module: a Segmenter, or any module as :class:`PlainNetwork` takes it. It is copied, not trained itself.
        preprocessing, head: see :class:`PlainNetwork`.

    Returns:
        The name, ``python:`` and the class, and arguments that hold a digest of the initial weights, so that
        stages of other weights are not taken for the same.
    """
    network = module if isinstance(module, Segmenter) else PlainNetwork(module, None, preprocessing, head)
    digest = hashlib.sha256()
    for key, value in network.state_dict().items():
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    name = f"{PREFIX}{type(module).__qualname__}"
    arguments = {"initial": digest.hexdigest()[:16]}
    kept = copy.deepcopy(network).cpu()
    kept.architecture = {"name": name, **arguments}
    _given[name] = kept
    return name, arguments


def given_network(
    name: str, classes: int, *, initial: str = "", preprocessing: Preprocessing | None = None
) -> Segmenter:
    """Return a copy of a module that this process was given, with the weights it had then.

    Args:
        name: as :func:`give_network` returned it.
        classes: K.
        initial: digest of the weights that a file or a run was made with; kept in the description of the copy.
        preprocessing: as model files hold it; the module that was given brings its own.

    Raises:
        RequestError: no module was given under this name, or one of other classes.
    """
    if name not in _given:
        raise RequestError(
            f"network '{name}' was given from a script; call segadapt.adapt or segadapt.load with network=... again, "
            "or make it an installed network with an entry point of the group 'segadapt.networks'"
        )
    network = copy.deepcopy(_given[name])
    if network.classes != classes:
        raise RequestError(f"network '{name}' gives scores of {network.classes} classes; the data have {classes}")
    network.architecture = {"name": name, "initial": initial}
    return network
