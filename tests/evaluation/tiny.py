"""A network small enough for tests, and one whose answer is known."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segadapt.core.types import Size
from segadapt.models.inference import InferenceConfig, scores
from segadapt.models.segmenter import Output, Preprocessing, Segmenter
from segadapt.pieces.resizing import upsample


class TinySegmenter(Segmenter):
    """Strided convolution, batch norm, 1x1 classifier."""

    stride = 4
    feature_channels = 8

    def __init__(self, classes: int, seed: int = 0):
        super().__init__(classes)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.body = nn.Conv2d(3, 8, 3, 4, 1)
            self.norm = nn.BatchNorm2d(8)
            self.drop = nn.Dropout2d(0.5)
            self.head = nn.Conv2d(8, classes, 1)
            nn.init.normal_(self.head.weight, std=1.5)

    def network(self, x: Tensor) -> Output:
        features = F.relu(self.norm(self.body(x)))
        return Output(self.head(self.drop(features)), features)


class GreyLevels(Segmenter):
    """Class = brightness of the 4x4 block in equal bands: any image's prediction can be written down."""

    stride = 4
    feature_channels = 3

    def __init__(self, classes: int, sharpness: float = 200.0):
        super().__init__(classes, Preprocessing((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)))
        self.register_buffer("centres", (torch.arange(classes) + 0.5) / classes)
        self.sharpness = nn.Parameter(torch.tensor(sharpness))
        self.centres: Tensor

    def network(self, x: Tensor) -> Output:
        features = F.avg_pool2d(x, 4, ceil_mode=True, count_include_pad=False)
        distance = features.mean(1, keepdim=True) - self.centres.view(1, -1, 1, 1)
        return Output(-self.sharpness * distance**2, features)


def probabilities(model: Segmenter, images: Tensor, size: Size, config: InferenceConfig) -> Tensor:
    """Class probabilities [B, K, H, W] at ``size``, from the compact scores."""
    return upsample(scores(model, images, config), size, config.align_corners).softmax(1)
