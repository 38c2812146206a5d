"""A network that is built and trained in milliseconds, under a name, with all that methods ask of one."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from segadapt.models.segmenter import IMAGENET, Output, Preprocessing, Segmenter

NAME = "tiny"


class Tiny(Segmenter):
    """A convolution at stride 4 as encoder, one at stride 1 as head; ``auxiliary`` adds a second head.

    Shapes: images [B, C, H, W] -> logits [B, K, H / 4, W / 4], features of 8 channels.
    """

    stride = 4
    feature_channels = 8
    stems = ("encoder.0",)

    def __init__(
        self, classes: int, preprocessing: Preprocessing = IMAGENET, auxiliary: bool = True, **more: Any
    ) -> None:
        super().__init__(classes, preprocessing, {"name": NAME, "auxiliary": auxiliary})
        self.encoder = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.BatchNorm2d(8), nn.ReLU())
        self.classifier = nn.Conv2d(8, classes, 1)
        self.extra = nn.Conv2d(8, classes, 1) if auxiliary else None

    def network(self, x: Tensor) -> Output:
        features = self.encoder(x)
        aux = self.extra(features) if self.extra is not None else None
        return Output(self.classifier(features), features, aux, features, maps=[features])

    def deep_features(self, images: Tensor) -> Tensor:
        """Compute the features [B, 8, H / 4, W / 4] of images."""
        deep: Tensor = self.encoder(self.preprocess(images))
        return deep

    def head_modules(self) -> list[nn.Module]:
        return [self.classifier, *([self.extra] if self.extra is not None else [])]

    @property
    def map_channels(self) -> tuple[int, ...]:
        return (8,)
