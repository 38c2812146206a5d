"""The head of HRDA that says, from the context, where to trust the detail."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EMBEDDING = 256
DROPOUT = 0.1


class Projection(nn.Module):
    """Channels of every pixel to 256, [B, C, h, w] -> [B, 256, h, w]; stored as a matrix, as in the public files."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.proj = nn.Linear(channels, EMBEDDING)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.proj.weight[:, :, None, None], self.proj.bias)


class Merge(nn.Module):
    """1x1 convolution, normalisation, ReLU: [B, C, h, w] -> [B, 256, h, w]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, EMBEDDING, 1, bias=False)
        self.bn = nn.BatchNorm2d(EMBEDDING)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class ScaleAttention(nn.Module):
    """Encoder maps of the context to attention logits [B, C, h, w] on the grid of the finest map.

    Each map is projected to 256 channels, all are enlarged to the finest and merged by a 1x1
    convolution. Parameter names are those of the public files.

    Args:
        channels: of the maps, finest first.
        out: number of classes K, or 1 for an attention that all classes share.
    """

    def __init__(self, channels: Sequence[int], out: int) -> None:
        super().__init__()
        self.embed_layers = nn.ModuleList(Projection(c) for c in channels)
        self.fuse_layer = Merge(EMBEDDING * len(channels))
        self.dropout = nn.Dropout2d(DROPOUT)
        self.conv_seg = nn.Conv2d(EMBEDDING, out, 1)
        nn.init.normal_(self.conv_seg.weight, std=0.01)
        assert self.conv_seg.bias is not None
        nn.init.zeros_(self.conv_seg.bias)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        size = maps[0].shape[-2:]
        embedded = [
            F.interpolate(layer(x), size, mode="bilinear", align_corners=False)
            for layer, x in zip(self.embed_layers, maps, strict=True)
        ]
        attention: Tensor = self.conv_seg(self.dropout(self.fuse_layer(torch.cat(embedded, 1))))
        return attention
