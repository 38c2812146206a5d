"""The interface of every segmentation network: images in, class scores and features out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from segadapt.errors import RequestError


class Detail(NamedTuple):
    """The crop at full resolution that a multi-resolution network looked at in a training step (HRDA).

    Attributes:
        logits: [B, K, h, w] class scores of the crop at the network's stride.
        features: [B, D, h, w] the map of the crop that the classifier reads.
        box: (top, left, bottom, right) of the crop in pixels of the images.
        weight: share of the segmentation loss that belongs to the crop, in [0, 1).
        maps: see :attr:`Output.maps`.
    """

    logits: Tensor
    features: Tensor
    box: tuple[int, int, int, int]
    weight: float
    maps: Sequence[Tensor] | None = None


class Output(NamedTuple):
    """The result of a network for a batch of images [B, C, H, W].

    Attributes:
        logits: [B, K, h, w] class scores before the softmax, at the network's own stride (not upsampled).
        features: [B, D, h, w] the map that the classifier reads.
        aux: [B, K, h', w'] scores of an auxiliary head, or None.
        deep: [B, C, h', w'] deepest feature map of the encoder, or None if the network does not expose it.
        detail: the crop at full resolution; only of a multi-resolution network in training mode.
        maps: [B, C_i, h_i, w_i] maps of the encoder that the decoder reads, finest first, with the channels of
            :attr:`Segmenter.map_channels`; None if the network does not name them.
    """

    logits: Tensor
    features: Tensor
    aux: Tensor | None = None
    deep: Tensor | None = None
    detail: Detail | None = None
    maps: Sequence[Tensor] | None = None


@dataclass(frozen=True)
class Preprocessing:
    """How images in [0, 1] become the network's input: ``(x * scale - mean) / std``.

    Attributes:
        mean: per channel, after scaling, in the order of the network's channels (BGR if ``bgr``).
        std: per channel, like ``mean``; above 0.
        scale: 1 for networks trained on [0, 1], 255 for networks trained on [0, 255].
        bgr: reverse the first three channels first, for weights that were trained with OpenCV or Caffe.
    """

    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    scale: float = 1.0
    bgr: bool = False


IMAGENET = Preprocessing()
"""The statistics of ImageNet in [0, 1], as torchvision and most of timm use them."""
CAFFE = Preprocessing((104.00698793, 116.66876762, 122.67891434), (1.0, 1.0, 1.0), 255.0, True)
"""BGR in [0, 255] minus the ImageNet mean: weights that were converted from Caffe."""


class Segmenter(nn.Module):
    """Base class of all networks: images [B, C, H, W] in [0, 1] -> :class:`Output`.

    The network owns its preprocessing. So the whole library passes images in [0, 1], and no caller can
    feed a network with the wrong normalisation. Images are RGB; a network whose :attr:`stems` are known is
    widened to any other number of bands, see :func:`segadapt.models.widening.widen`.

    To write a network of your own, implement :meth:`network` on preprocessed images and set
    ``stride`` (pixels per cell of the logits) and ``feature_channels`` (D). Override
    :meth:`head_modules` to train the head with a higher learning rate, :meth:`deep_features` to
    use methods that compare encoder features, and :attr:`map_channels` where ``Output.maps`` names the encoder's
    maps for a head beside the network's::

        class Tiny(Segmenter):
            def __init__(self, classes: int) -> None:
                super().__init__(classes, architecture={"name": "tiny"})
                self.stride, self.feature_channels = 8, 64
                self.encoder = nn.Sequential(nn.Conv2d(3, 64, 8, stride=8), nn.ReLU())
                self.head = nn.Conv2d(64, classes, 1)

            def network(self, x: Tensor) -> Output:
                features = self.encoder(x)
                return Output(self.head(features), features)

            def head_modules(self) -> list[nn.Module]:
                return [self.head]

    Args:
        classes: number of classes K of the classifier.
        preprocessing: see :class:`Preprocessing`.
        architecture: name and arguments with which ``build_segmenter`` builds this network again, as plain
            JSON values; stored in model files.

    Attributes:
        stride: pixels per cell of the logits, along each side.
        feature_channels: channels D of ``Output.features``.
        bands: bands C of the images.
    """

    stride: int = 8
    feature_channels: int

    def __init__(
        self, classes: int, preprocessing: Preprocessing = IMAGENET, architecture: dict[str, Any] | None = None
    ):
        super().__init__()
        self.classes = classes
        self.bands = 3
        self.architecture = dict(architecture or {})
        self.set_preprocessing(preprocessing)
        self._mean: Tensor
        self._std: Tensor

    def set_preprocessing(self, preprocessing: Preprocessing) -> None:
        """Take another preprocessing, e.g. the one that weights were trained with."""
        self.preprocessing = preprocessing
        self.register_buffer("_mean", torch.tensor(preprocessing.mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(preprocessing.std).view(1, -1, 1, 1), persistent=False)

    def take_bands(self, bands: int) -> None:
        """Note the bands of the images, so that the network is built for as many again."""
        self.bands = bands
        self.architecture.pop("bands", None)
        if bands != 3:
            self.architecture["bands"] = bands

    @property
    def stems(self) -> Sequence[str]:
        """Names of the convolutions that read the images, also of a network wrapped as ``base``; empty if unknown."""
        wrapped = getattr(self, "base", None)
        return [f"base.{name}" for name in wrapped.stems] if isinstance(wrapped, Segmenter) else ()

    def preprocess(self, images: Tensor) -> Tensor:
        """Turn images [B, C, H, W] in [0, 1] into the network's input [B, C, H, W].

        Raises:
            RequestError: the images have other bands than the network.
        """
        if images.shape[1] != self.bands:
            raise RequestError(f"the network reads images of {self.bands} bands; these have {images.shape[1]}")
        if self.preprocessing.bgr:
            images = _reversed(images)
        return (images * self.preprocessing.scale - self._mean) / self._std

    @property
    def mean_colour(self) -> Tensor:
        """The colour [1, C, 1, 1] in [0, 1] that :meth:`preprocess` turns into zero."""
        colour = self._mean / self.preprocessing.scale
        return _reversed(colour) if self.preprocessing.bgr else colour

    def network(self, x: Tensor) -> Output:
        """Compute the output for preprocessed images [B, C, H, W]; every subclass implements it."""
        raise NotImplementedError(f"{type(self).__name__} does not implement Segmenter.network")

    def forward(self, images: Tensor) -> Output:
        """Compute the output for images [B, C, H, W] in [0, 1]."""
        return self.network(self.preprocess(images))

    def window_logits(
        self, images: Tensor, window: tuple[int, int], places: Sequence[tuple[int, int]]
    ) -> Iterator[Tensor]:
        """Yield the logits [B, K, h, w] of one window of the images after the other.

        A network that can share work between overlapping windows overrides this method.

        Args:
            images: [B, C, H, W] in [0, 1].
            window: (height, width) in pixels.
            places: (top, left) of each window, in pixels.
        """
        for top, left in places:
            yield self(images[..., top : top + window[0], left : left + window[1]]).logits

    @property
    def map_channels(self) -> Sequence[int]:
        """Channels C_i of ``Output.maps``; empty if the network does not name them."""
        return ()

    @property
    def names_deep(self) -> bool:
        """Whether the network exposes the deepest feature map of its encoder, as ``Output.deep``."""
        return type(self).deep_features is not Segmenter.deep_features

    def deep_features(self, images: Tensor) -> Tensor:
        """Compute ``Output.deep`` [B, C, h', w'] of images [B, C, H, W] in [0, 1], without the head.

        Raises:
            RequestError: the network does not expose it, see :attr:`names_deep`.
        """
        raise RequestError(
            f"the network '{self.architecture.get('name', type(self).__name__)}' has no named deep features; "
            "implement deep_features in its class, or take another network"
        )

    def head_modules(self) -> list[nn.Module]:
        """Return the freshly initialised parts, whose learning rate is multiplied by ``head_factor``.

        An empty list, the default, means that all parameters train with one learning rate.
        """
        return []

    def encoder_layers(self) -> list[list[nn.Parameter]]:
        """Return the parameters of the encoder by layer, from the images on; empty, the default, if it has no order.

        What is in no layer, as the head, counts as later than all of them, see ``optimiser.layer_decay``.
        """
        wrapped = getattr(self, "base", None)
        return wrapped.encoder_layers() if isinstance(wrapped, Segmenter) else []

    def description(self) -> dict[str, Any]:
        """Return the arguments of ``build_segmenter`` that build the network again, as plain JSON values."""
        return {**self.architecture, "classes": self.classes, "preprocessing": asdict(self.preprocessing)}


def _reversed(images: Tensor) -> Tensor:
    """Turn RGB into BGR, or back; further bands keep their places, and fewer than three have no colours."""
    if images.shape[1] < 3:
        return images
    return torch.cat([images[:, :3].flip(1), images[:, 3:]], 1)
