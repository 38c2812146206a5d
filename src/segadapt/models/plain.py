"""Any torch module as a network of the library.

Two ways lead here. An installed package names the module's class as an entry point of the group
``segadapt.networks``; its model files then open everywhere the package is installed. Or a script gives the module
itself (:func:`give_network`); its model files then open in scripts that give it again.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from segadapt.errors import RequestError, one_line
from segadapt.models.segmenter import IMAGENET, Output, Preprocessing, Segmenter
from segadapt.models.widening import widened_preprocessing

PREFIX = "python:"
"""Opens the names of networks that a script gives."""

_PROBED = 128
"""Side in pixels of the image that tells stride and channels of a module."""


class PlainNetwork(Segmenter):
    """A module that maps images to class scores.

    Args:
        module: maps [B, C, H, W] to logits [B, K, h, w] at any stride; or to an ``Output``, a mapping with ``out``
            (torchvision), or a tuple that opens with the logits. C is 3, or where that fails what its first
            convolution reads.
        classes: K; None takes the number of classes that the module gives scores for.
        preprocessing: from images in [0, 1] to the module's input; ImageNet's statistics by default.
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
        if not isinstance(module, nn.Module):
            raise RequestError(f"a network must be an instance of torch.nn.Module, not {module!r}")
        super().__init__(classes or 0, preprocessing)
        self.module = module
        self.take_head(head)

    def take_head(self, head: str | None) -> None:
        """Take a submodule as the head, or None for none, and learn the shapes that come out."""
        if head is not None and head not in dict(self.module.named_modules()):
            raise RequestError(f"{_named(self.module)}: there is no submodule '{head}' to take as its head")
        self.head = head
        output = self._probe_bands()
        self.classes = int(output.logits.shape[1])
        self.stride = max(1, round(_PROBED / output.logits.shape[-2]))
        self.feature_channels = int(output.features.shape[1])

    def network(self, x: Tensor) -> Output:
        """Return logits [B, K, h, w] and features of preprocessed images [B, C, H, W].

        Raises:
            RequestError: the module does not run on images of this size.
        """
        try:
            return self._run(x)
        except (RequestError, torch.OutOfMemoryError):
            raise
        except Exception as problem:
            raise RequestError(
                f"{_named(self.module)} does not run on images {list(x.shape)}: {one_line(problem)}"
            ) from problem

    def _run(self, x: Tensor) -> Output:
        if self.head is None:
            return _output(self.module(x), None)
        seen: list[Tensor] = []
        handle = self.module.get_submodule(self.head).register_forward_pre_hook(
            lambda _, inputs: seen.append(inputs[0])
        )
        try:
            made = self.module(x)
        finally:
            handle.remove()
        return _output(made, seen[-1] if seen else None)

    def head_modules(self) -> list[nn.Module]:
        """Return the head, where one is named."""
        return [] if self.head is None else [self.module.get_submodule(self.head)]

    def _probe_bands(self) -> Output:
        """Find out how many bands the module reads, and return what comes out."""
        first = next((m.in_channels for m in self.module.modules() if isinstance(m, nn.Conv2d)), 3)
        try:
            output = self._probe(self.classes, 3)
        except RequestError:
            if first == 3:
                raise
            output = self._probe(self.classes, first)
            self.take_bands(first)
            self.set_preprocessing(widened_preprocessing(self.preprocessing, first))
        return output

    def _probe(self, classes: int, channels: int) -> Output:
        """Run once on a small image and check what comes out."""
        name, modes = _named(self.module), [(layer, layer.training) for layer in self.module.modules()]
        self.module.eval()
        try:
            with torch.no_grad():
                place = next((p.device for p in self.module.parameters()), torch.device("cpu"))
                output = self.network(torch.zeros(1, channels, _PROBED, _PROBED, device=place))
        finally:
            for layer, mode in modes:
                layer.training = mode
        shape = tuple(output.logits.shape)
        if len(shape) != 4 or shape[1] != (classes or shape[1]):
            wanted = str(classes or "K")
            raise RequestError(f"{name} gives scores of shape {shape}; [1, {wanted}, h, w] is needed")
        return output


def _output(made: Any, features: Tensor | None) -> Output:
    """Return what a module gives as an Output."""
    if isinstance(made, Output):
        return made
    if isinstance(made, Mapping):
        made = made.get("out")
    elif isinstance(made, (tuple, list)):
        made = made[0] if made else None
    if not isinstance(made, Tensor):
        raise TypeError("the result holds no tensor of class scores: return logits, or a mapping with 'out'")
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
        preprocessing, head: see :class:`PlainNetwork`; a Segmenter brings its own.

    Returns:
        The name, ``python:`` and the class, and arguments: a digest of the initial weights, the head and the
        preprocessing, so that stages that differ in them are not taken for the same.

    Raises:
        RequestError: the module has no parameters, or as for :class:`PlainNetwork`.
    """
    if isinstance(module, Segmenter):
        if head is not None or preprocessing != IMAGENET:
            raise RequestError(
                f"{_named(module)} is a Segmenter, which brings its head and preprocessing; give neither"
            )
        network: Segmenter = module
    else:
        network = PlainNetwork(module, None, preprocessing, head)
    if next(network.parameters(), None) is None:
        raise RequestError(f"{_named(module)} has no parameters, so there is nothing to train")
    name = f"{PREFIX}{type(module).__qualname__}"
    arguments: dict[str, Any] = {
        "initial": _digest(network),
        "head": head,
        "preprocessing": asdict(network.preprocessing),
    }
    _given[name] = copy.deepcopy(network).cpu()
    return name, arguments


def _digest(network: nn.Module) -> str:
    """Return a short hash of all weights."""
    digest = hashlib.sha256()
    for key, value in network.state_dict().items():
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def given_network(
    name: str,
    classes: int,
    *,
    bands: int = 3,
    initial: str = "",
    head: str | None = "",
    preprocessing: Preprocessing | None = None,
) -> Segmenter:
    """Return a copy of a module that this process was given, with the weights it had then.

    Args:
        name: as :func:`give_network` returned it.
        classes: K.
        bands: of the images.
        initial: digest of the weights that a file or a run was made with; kept in the description of the copy.
        head: as the file or the run has it; empty takes the one that the module was given with.
        preprocessing: as ``head``; None takes the one that the module was given with.

    Raises:
        RequestError: no module was given under this name, or one of other classes or bands.
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
    network.take_bands(network.bands)
    if isinstance(network, PlainNetwork):
        if head != "":
            network.take_head(head)
        network.architecture["head"] = network.head
    if preprocessing is not None:
        network.set_preprocessing(preprocessing)
    if network.bands != bands:
        raise RequestError(
            f"network '{name}' reads images of {network.bands} bands; the data have {bands}: build it with "
            f"{bands} input channels, or choose as many bands of the data (data.source.bands, data.target.bands)"
        )
    return network


def require_initial(name: str, arguments: Mapping[str, Any]) -> None:
    """Refuse to start a run from other weights than it was made with.

    Args:
        name: of a network; any other than one of a script, or one around it, is let through.
        arguments: of the network, as :func:`give_network` returned them.

    Raises:
        RequestError: the module of this name that this process has now has other weights.
    """
    before, prefix, inner = name.rpartition(PREFIX)
    initial = (arguments.get("base", {}) if before else arguments).get("initial")
    kept = _given.get(f"{prefix}{inner}") if prefix else None
    if kept is not None and initial is not None and _digest(kept) != initial:
        raise RequestError(
            f"the run starts from other weights than the network '{name}' has that was given last; call "
            "segadapt.adapt with the network of this run again"
        )
