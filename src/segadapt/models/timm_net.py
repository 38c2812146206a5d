"""Any timm encoder with a light decoder."""

from __future__ import annotations

from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segadapt.models.segmenter import Output, Preprocessing, Segmenter


class TimmSegmenter(Segmenter):
    """All feature maps of an encoder, projected, brought to the finest, fused and classified."""

    def __init__(self, classes: int, encoder: str, preprocessing: Preprocessing, width: int = 128, finest: int = 4, **extra: Any):
        super().__init__(classes, preprocessing, {"name": f"timm:{encoder}", "width": width, "finest": finest})
        self.encoder = timm.create_model(encoder, features_only=True, pretrained=False)
        info = self.encoder.feature_info
        self.used = [i for i, r in enumerate(info.reduction()) if r >= finest]
        channels = [info.channels()[i] for i in self.used]
        self.stride = info.reduction()[self.used[0]]
        self.feature_channels = width
        self.lateral = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels)
        self.fuse = nn.Sequential(nn.Conv2d(width * len(channels), width, 1, bias=False), nn.GroupNorm(16, width), nn.ReLU())
        self.classifier = nn.Conv2d(width, classes, 1)

    def network(self, x: Tensor) -> Output:
        maps = self.encoder(x)
        maps = [maps[i] for i in self.used]
        size = maps[0].shape[-2:]
        same = [F.interpolate(l(m), size=size, mode="bilinear", align_corners=False) for l, m in zip(self.lateral, maps, strict=True)]
        features = self.fuse(torch.cat(same, 1))
        return Output(self.classifier(features), features)

    def head_modules(self) -> list[nn.Module]:
        return [self.lateral, self.fuse, self.classifier]
