"""Build networks by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from pydantic import Field

from segadapt.core.registry import Registry
from segadapt.core.settings import Settings
from segadapt.errors import RequestError, nearest
from segadapt.models.daformer_net import DAFormerNet
from segadapt.models.dass_net import DASSNet
from segadapt.models.deeplabv2 import DeepLabV2, DeepLabV2VGG
from segadapt.models.fcn8s import FCN8s
from segadapt.models.foundation import FoundationNet
from segadapt.models.mit import SIZES
from segadapt.models.multires import MultiRes
from segadapt.models.plain import PREFIX, PlainNetwork, given_network
from segadapt.models.proda_net import ProDANet
from segadapt.models.prototype_net import PrototypeNet
from segadapt.models.resnet38 import ResNet38
from segadapt.models.segmenter import IMAGENET, Preprocessing, Segmenter
from segadapt.models.timm_net import LITE_ENCODER, TimmSegmenter
from segadapt.models.weights import load_initial
from segadapt.models.widening import widen

_BUILDERS: dict[str, Callable[..., Segmenter]] = {
    "lite": TimmSegmenter,
    "deeplabv2_resnet50": partial(DeepLabV2, depth=50),
    "deeplabv2_resnet101": partial(DeepLabV2, depth=101),
    "deeplabv2_resnet152": partial(DeepLabV2, depth=152),
    "deeplabv2_vgg16": DeepLabV2VGG,
    "proda_resnet50": partial(ProDANet, depth=50),
    "proda_resnet101": partial(ProDANet, depth=101),
    "proda_resnet152": partial(ProDANet, depth=152),
    "dass_deeplabv2": DASSNet,
    "fcn8s_vgg16": FCN8s,
    "resnet38": ResNet38,
    "daformer_lite": partial(DAFormerNet, encoder=LITE_ENCODER),
    **{f"daformer_{size}": partial(DAFormerNet, encoder=size) for size in SIZES},
}

NETWORKS: Registry[Callable[..., Any]] = Registry("network", _BUILDERS, "segadapt.networks", lambda _, found: found)
"""Builders by name: ``build(classes, **arguments)``. Packages add theirs by entry points alone, see
:mod:`segadapt.core.registry`; theirs may give any module that :class:`~segadapt.models.plain.PlainNetwork` takes."""

MODELS: Mapping[str, str] = {
    "lite": "EfficientNet-Lite0 with a light decoder, stride 4; ImageNet weights as a package",
    "deeplabv2_resnet101": "DeepLabV2 with ResNet-101, stride 8: the standard network of papers before transformers",
    "deeplabv2_resnet50": "the same with ResNet-50",
    "deeplabv2_resnet152": "the same with ResNet-152",
    "deeplabv2_vgg16": "the same with VGG-16, as in AdaptSegNet",
    "proda_resnet101": "the network of ProDA and CPSL: ResNet-101 with a larger head, stride 8, 256-channel features",
    "proda_resnet50": "the same with ResNet-50",
    "proda_resnet152": "the same with ResNet-152",
    "dass_deeplabv2": "the network of DASS: DeepLabV2 with ResNet-101 and one stem per domain, stride 8",
    "fcn8s_vgg16": "FCN-8s with VGG-16, stride 8",
    "resnet38": "wide ResNet-38 of the CBST paper, stride 8",
    "daformer_mit_b5": "the network of DAFormer and MIC: Mix Transformer B5 with a context-aware head, stride 4",
    **{f"daformer_{size}": f"the same with Mix Transformer {size[-2:].upper()}" for size in list(SIZES)[-2::-1]},
    "daformer_lite": "the same with EfficientNet-Lite0; ImageNet weights as a package",
    "daformer:NAME": "the same with any convolutional timm encoder",
    "timm:NAME": "any convolutional timm encoder with the light decoder",
    "foundation:NAME": "any vision transformer (DINOv2, DINOv3, EVA, MAE, SigLIP) or ConvNeXt of timm, light head",
    "hrda:NAME": "any of these networks on two resolutions, fused by attention; arguments of NAME under 'base'",
}


class ModelConfig(Settings):
    """The network of a run.

    Attributes:
        name: a name that ``segadapt models`` lists.
        weights: initial weights: ``imagenet`` (of ``foundation:NAME``, what the tag of NAME says), the path of a file,
            or null for a random start.
        arguments: further arguments of the network, e.g. ``{stride_in: 3x3}``; for ``hrda:NAME`` the arguments of
            NAME stand under ``base``. Of a stage, ``hrda:`` alone is the network of the run on two resolutions.
    """

    name: str = "lite"
    weights: str | None = "imagenet"
    arguments: dict[str, Any] = Field(default_factory=dict)

    def around(self, network: ModelConfig) -> ModelConfig:
        """Return the settings with the run's network behind a bare ``hrda:``; others as they are.

        Example:
            >>> ModelConfig(name="hrda:").around(ModelConfig(name="lite")).name
            'hrda:lite'
        """
        if self.name != "hrda:":
            return self
        base = {"base": network.arguments} if network.arguments else {}
        changes = {"name": f"hrda:{network.name}", "weights": network.weights, "arguments": {**base, **self.arguments}}
        return self.model_copy(update=changes)


def model_config(model: Segmenter) -> ModelConfig:
    """Return the settings that build a network of the same shape and preprocessing, with random weights."""
    description = model.description()
    arguments = {key: value for key, value in description.items() if key not in ("name", "classes")}
    return ModelConfig(name=description["name"], weights=None, arguments=arguments)


def build_segmenter(
    name: str,
    classes: int,
    *,
    weights: str | None = None,
    preprocessing: Preprocessing | Mapping[str, Any] | None = None,
    bands: int = 3,
    **arguments: Any,
) -> Segmenter:
    """Build a network by name.

    Args:
        name: see :data:`MODELS`.
        classes: number of classes K.
        weights: ``imagenet``, the path of a file, or None for random initialisation.
        preprocessing: the preprocessing that the weights were trained with; None takes the network's default.
        bands: of the images; the stem of any network of the library widens, and keeps its weights for RGB,
            see :mod:`segadapt.models.widening`.
        arguments: arguments of the network's class; ``hrda:NAME`` takes the arguments of
            :class:`~segadapt.models.multires.MultiRes`, and under ``base`` a mapping with the arguments of NAME.

    Returns:
        The network in training mode, on the CPU.

    Raises:
        RequestError: the name or an argument is unknown, an argument is out of its range, the weights are not
            available or do not fit, or a network of one's own does not read so many bands.

    Example:
        >>> model = build_segmenter("deeplabv2_resnet101", classes=19, weights="imagenet")
        >>> model(torch.rand(2, 3, 512, 1024)).logits.shape
        torch.Size([2, 19, 65, 129])

    ``build_segmenter(**model.description())`` builds a network of the same shape again.
    """
    if isinstance(preprocessing, Mapping):
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in preprocessing.items()}
        preprocessing = Preprocessing(**values)
    if preprocessing is not None:
        arguments["preprocessing"] = preprocessing
    family, _, inner = name.partition(":")
    builder: Callable[..., Segmenter]
    if inner and family in _ENCODERS:
        builder = partial(_ENCODERS[family], classes, inner)
    elif inner and family in _WRAPPERS:
        builder = partial(_around, _WRAPPERS[family], classes, inner, bands=bands)
    elif name in _BUILDERS:
        builder = partial(_BUILDERS[name], classes)
    elif name.startswith(PREFIX):
        builder = partial(given_network, name, classes, bands=bands)
    elif name in NETWORKS.installed():
        builder = partial(_installed, name, classes, bands=bands)
    else:
        known = [*MODELS, *NETWORKS.installed()]
        raise RequestError(f"no network '{name}'{nearest(name, known)}; there are: {', '.join(known)}")
    try:
        model = builder(**arguments)
    except TypeError as problem:
        raise RequestError(f"network '{name}' does not take these arguments: {problem}") from problem
    widen(model, bands)
    if weights is not None:
        load_initial(model, weights, name)
    return model


def accepted_arguments(name: str) -> frozenset[str] | None:
    """Return the names of the arguments that a network takes; None where that is not known before it is built.

    Example:
        >>> "stride_in" in accepted_arguments("deeplabv2_resnet101"), "stride_in" in accepted_arguments("lite")
        (True, False)
    """
    family, colon, _ = name.partition(":")
    if colon and family in _WRAPPERS:
        return frozenset({*inspect.signature(_WRAPPERS[family]).parameters, "base", "bands", "preprocessing"})
    builder: Any = _ENCODERS.get(family) if colon else _BUILDERS.get(name)
    if builder is None:
        return None
    parameters = inspect.signature(builder).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return frozenset({parameter.name for parameter in parameters} | {"bands", "preprocessing"})


def _installed(
    name: str, classes: int, *, bands: int = 3, preprocessing: Preprocessing | None = None, **arguments: Any
) -> Segmenter:
    """Build a network of an installed package; one that is not a Segmenter is wrapped.

    Where images have other than three bands, a builder that takes ``bands`` is told.
    """
    build = NETWORKS.find(name)
    if bands != 3 and "bands" in inspect.signature(build).parameters:
        arguments["bands"] = bands
    if isinstance(build, type) and issubclass(build, Segmenter) and preprocessing is not None:
        made: Any = build(classes, preprocessing=preprocessing, **arguments)
    else:
        made = build(classes, **arguments)
    model = made if isinstance(made, Segmenter) else PlainNetwork(made, classes, preprocessing or IMAGENET)
    model.architecture = {"name": name, **arguments}
    model.take_bands(arguments.get("bands", model.bands))
    return model


def require_rebuildable(model: Segmenter) -> None:
    """Refuse a network that :func:`build_segmenter` cannot build again from its description.

    Raises:
        RequestError: it has no name, an unknown one, or is built again with other parameters.
    """
    name = str(model.architecture.get("name", ""))
    what = f"network {type(model).__name__}" + (f" '{name}'" if name else "")
    way = (
        "make it an installed network with an entry point of the group 'segadapt.networks', or give the module to "
        "segadapt.adapt(network=...)"
    )
    if _is_own(name):
        return  # tests keep this promise for all of them
    if not name:
        raise RequestError(f"{what} cannot be loaded again, so it is not saved: its architecture has no name; {way}")
    try:
        again = build_segmenter(**model.description())
    except RequestError as problem:
        raise RequestError(f"{what} cannot be loaded again, so it is not saved: {problem}; {way}") from None
    shapes = [{k: v.shape for k, v in network.state_dict().items()} for network in (model, again)]
    if shapes[0] != shapes[1]:
        raise RequestError(
            f"{what} cannot be loaded again, so it is not saved: built from its description it has other parameters; "
            f"{way}"
        )


def _is_own(name: str) -> bool:
    """Tell whether a network is one of the library's, and so is all that it wraps."""
    family, _, inner = name.partition(":")
    if family in _ENCODERS and inner:
        return True
    return name in _BUILDERS or (family in _WRAPPERS and _is_own(inner))


def _around(
    network: Callable[..., Segmenter],
    classes: int,
    wrapped: str,
    *,
    bands: int,
    base: Mapping[str, Any] | None = None,
    preprocessing: Preprocessing | None = None,
    **arguments: Any,
) -> Segmenter:
    """Build ``network`` around the network named ``wrapped``, whose own arguments are ``base``."""
    if network is MultiRes and wrapped.startswith("hrda:"):
        raise RequestError(f"'{wrapped}' looks at two resolutions already; write 'hrda:' once")
    inner = {"preprocessing": preprocessing, **(base or {})}
    return network(build_segmenter(wrapped, classes, bands=bands, **inner), **arguments)


_ENCODERS: Mapping[str, Callable[..., Segmenter]] = {
    "timm": TimmSegmenter,
    "daformer": DAFormerNet,
    "foundation": FoundationNet,
}
"""Name prefixes: ``FAMILY:NAME``, where NAME is an encoder of timm."""
_WRAPPERS: Mapping[str, Callable[..., Segmenter]] = {"hrda": MultiRes, "prototypes": PrototypeNet}
"""Name prefixes: ``FAMILY:NAME``, where NAME is another network."""
