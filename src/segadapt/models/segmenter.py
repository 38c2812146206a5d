"""What every segmentation network of the house looks like from outside."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Detail(NamedTuple):
    """What a multi-resolution network saw of a crop at full resolution while training (HRDA).

    Attributes:
        logits: [B, K, h, w] class scores of the crop at the network's stride.
        features: [B, D, h, w] the map that the classifier reads, of the crop.
        box: (top, left, bottom, right) of the crop in pixels of the images.
        weight: share of the segmentation loss that belongs to the crop, in [0, 1).
    """

    logits: Tensor
    features: Tensor
    box: tuple[int, int, int, int]
    weight: float


class Output(NamedTuple):
    """What a network gives for a batch.

    Attributes:
        logits: [B, K, h, w] class scores at the network's own stride (not upsampled).
        features: [B, D, h, w] the map that the classifier reads.
        aux: [B, K, h', w'] scores of an auxiliary head, or None.
        deep: [B, C, h', w'] deepest feature map of the encoder, where the network names one.
        detail: of a multi-resolution network in training mode.
    """

    logits: Tensor
    features: Tensor
    aux: Tensor | None = None
    deep: Tensor | None = None
    detail: Detail | None = None


@dataclass(frozen=True)
class Preprocessing:
    """From RGB in [0, 1] to what the network was trained on: ``(x * scale - mean) / std``.

    ``mean`` and ``std`` are in the order of the network's channels (BGR if ``bgr``).
    """

    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    scale: float = 1.0
    bgr: bool = False


IMAGENET = Preprocessing()
CAFFE = Preprocessing((104.00698793, 116.66876762, 122.67891434), (1.0, 1.0, 1.0), 255.0, True)


class Segmenter(nn.Module):
    """Base of all networks: RGB images in [0, 1] -> :class:`Output`.

    The network owns its preprocessing, so images mean the same everywhere in the house and a
    checkpoint cannot be fed with the wrong normalisation. Subclasses implement
    :meth:`network` on preprocessed images and set ``stride`` and ``feature_channels``.

    Args:
        classes: number of classes K of the classifier.
        preprocessing: see :class:`Preprocessing`.
        architecture: how to build this network again (name and arguments), stored in model files.
    """

    stride: int = 8
    feature_channels: int

    def __init__(
        self, classes: int, preprocessing: Preprocessing = IMAGENET, architecture: dict[str, Any] | None = None
    ):
        super().__init__()
        self.classes = classes
        self.preprocessing = preprocessing
        self.architecture = dict(architecture or {})
        self.register_buffer("_mean", torch.tensor(preprocessing.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(preprocessing.std).view(1, 3, 1, 1), persistent=False)
        self._mean: Tensor
        self._std: Tensor

    def preprocess(self, images: Tensor) -> Tensor:
        """RGB [B, 3, H, W] in [0, 1] to the network's input."""
        if self.preprocessing.bgr:
            images = images.flip(1)
        return (images * self.preprocessing.scale - self._mean) / self._std

    @property
    def mean_colour(self) -> Tensor:
        """[1, 3, 1, 1] RGB in [0, 1]: the colour that :meth:`preprocess` makes zero."""
        colour = self._mean / self.preprocessing.scale
        return colour.flip(1) if self.preprocessing.bgr else colour

    def network(self, x: Tensor) -> Output:
        """The network on preprocessed images [B, 3, H, W]."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Output:
        """RGB images [B, 3, H, W] in [0, 1] to logits and features."""
        return self.network(self.preprocess(images))

    def window_logits(
        self, images: Tensor, window: tuple[int, int], places: Sequence[tuple[int, int]]
    ) -> Iterator[Tensor]:
        """Logits [B, K, h, w] of windows of the images, one window after the other.

        Networks that share work between overlapping windows do it here.

        Args:
            images: [B, 3, H, W] RGB in [0, 1].
            window: (height, width) in pixels.
            places: (top, left) of each window.
        """
        for top, left in places:
            yield self(images[..., top : top + window[0], left : left + window[1]]).logits

    @property
    def names_deep(self) -> bool:
        """Whether the network names the deepest feature map of its encoder: ``Output.deep``."""
        return type(self).deep_features is not Segmenter.deep_features

    def deep_features(self, images: Tensor) -> Tensor:
        """``Output.deep`` of RGB images [B, 3, H, W] in [0, 1], without the head; of networks that name it."""
        raise NotImplementedError

    def head_modules(self) -> list[nn.Module]:
        """The freshly initialised parts, which usually train with a higher learning rate."""
        raise NotImplementedError

    def description(self) -> dict[str, Any]:
        """Everything needed to build the network again, as plain JSON values."""
        return {**self.architecture, "classes": self.classes, "preprocessing": asdict(self.preprocessing)}
