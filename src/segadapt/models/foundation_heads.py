"""Heads for encoders whose maps are coarse: the light head of VFM-UDA, and a pyramid for heads of fine maps.

Light head, on the last map F [B, D, h, w] of stride p (Englert et al., VFM-UDA, 2024):

    z        = LN(T2(GELU(LN(T1 F))))           [B, D/4, 4h, 4w], T1 and T2 double the size and halve the channels
    features = LN(conv3x3(z))                   [B, D/4, 4h, 4w]
    logits   = V dropout(features)              [B, K, 4h, 4w], V without bias

Of four maps a 1x1 convolution makes one first, as in VFMSeg. The pyramid takes four maps of stride p to the strides
p/4, p/2, p and 2p (transposed convolutions, nothing, max-pooling), as BEiT and MAE do for heads that expect the stages
of a convolutional network.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from timm.layers.norm import LayerNorm2d
from torch import Tensor, nn

from segadapt.errors import RequestError
from segadapt.models.fusion_head import DAFormerHead, HeadNorm

ENLARGED = 4
"""Cells of the output per cell of a token map, along each side."""


def doubled(channels: int, out: int) -> nn.ConvTranspose2d:
    """Make a layer that doubles the size of a map."""
    return nn.ConvTranspose2d(channels, out, 2, stride=2)


class LightHead(nn.Module):
    """Transposed convolutions from maps of one size to logits [B, K, 4h, 4w] and features [B, D/4, 4h, 4w].

    Args:
        channels: channels D of each map.
        maps: number of maps.
        classes: number of classes K.
        dropout: probability that a feature channel is zeroed before the classifier, in [0, 1).
    """

    def __init__(self, channels: int, maps: int, classes: int, dropout: float) -> None:
        super().__init__()
        half, quarter = max(1, channels // 2), max(1, channels // 4)
        self.width = quarter
        self.join: nn.Module = nn.Identity()
        if maps > 1:
            self.join = nn.Sequential(
                nn.Conv2d(maps * channels, channels, 1, bias=False),
                nn.GroupNorm(math.gcd(16, channels), channels),
                nn.ReLU(inplace=True),
            )
        self.enlarge = nn.Sequential(
            doubled(channels, half), LayerNorm2d(half), nn.GELU(), doubled(half, quarter), LayerNorm2d(quarter)
        )
        self.fuse = nn.Sequential(nn.Conv2d(quarter, quarter, 3, padding=1), LayerNorm2d(quarter))
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(quarter, classes, 1, bias=False)
        nn.init.normal_(self.classifier.weight, std=0.1)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        features = self.fuse(self.enlarge(self.join(torch.cat(list(maps), 1))))
        return self.classifier(self.dropout(features)), features


class TokenPyramid(nn.Module):
    """Four maps of one size to sizes 4, 2, 1 and 1/2 times as large; a single map stands for all four."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fourfold = nn.Sequential(
            doubled(channels, channels), LayerNorm2d(channels), nn.GELU(), doubled(channels, channels)
        )
        self.twofold = doubled(channels, channels)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        first, second, third, fourth = maps if len(maps) > 1 else [maps[0]] * 4
        smaller = nn.functional.max_pool2d(fourth, 2, ceil_mode=True)
        return [self.fourfold(first), self.twofold(second), third, smaller]


class PyramidHead(nn.Module):
    """DAFormer's head on the maps of an encoder; those of a vision transformer are made a pyramid first.

    Args:
        channels: channels of the maps that the head reads.
        tokens: whether the maps have one size.
        classes, width, norm, dropout: see :class:`~segadapt.models.fusion_head.DAFormerHead`.
    """

    def __init__(
        self, channels: Sequence[int], tokens: bool, classes: int, width: int, norm: HeadNorm, dropout: float
    ) -> None:
        super().__init__()
        self.width = width
        self.pyramid = TokenPyramid(channels[0]) if tokens else None
        self.decode = DAFormerHead([channels[0]] * 4 if tokens else channels, classes, width, norm, dropout)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        logits, features = self.decode(self.pyramid(maps) if self.pyramid is not None else maps)
        return logits, features


def require_share(name: str, value: float) -> None:
    """Raise RequestError unless a value is a probability below 1."""
    if not 0 <= value < 1:
        raise RequestError(f"{name} is {value}; give a probability of at least 0 and below 1")
