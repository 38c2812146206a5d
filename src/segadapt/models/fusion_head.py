"""Heads that fuse the maps of an encoder's stages.

    e_i = up(W_i F_i + b_i)                       each stage's map, at the finest stage's size
    z   = concat(e_1, ..., e_n)                   [B, n D, h, w]
    f   = fuse(z)                                 [B, D, h, w], the features
    logits = V dropout(f) + c                     [B, K, h, w]

``fuse`` is an atrous pyramid with depthwise separable branches and a 3x3 bottleneck
(:class:`DAFormerHead`; Hoyer et al., CVPR 2022), or one 1x1 convolution as in SegFormer, which HRDA uses
to weigh its scales (:class:`~segadapt.models.scale_attention.ScaleAttention`). Parameters have the names
of the public files of DAFormer, HRDA and MIC.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segadapt.errors import RequestError

HeadNorm = Literal["batch", "group"]

DILATIONS = (1, 6, 12, 18)


class ConvNorm(nn.Module):
    """Convolution without bias, normalisation and ReLU, at the resolution of its input.

    As in the public files, the normalisation is called ``bn`` whatever its kind.
    """

    def __init__(
        self, channels: int, out: int, kernel: int, norm: HeadNorm, *, dilation: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        padding = dilation * (kernel // 2)
        self.conv = nn.Conv2d(channels, out, kernel, padding=padding, dilation=dilation, groups=groups, bias=False)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")
        self.bn = nn.BatchNorm2d(out) if norm == "batch" else nn.GroupNorm(math.gcd(16, out), out)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


class SeparableConv(nn.Module):
    """Dilated 3x3 depthwise convolution, then a 1x1 convolution, both with normalisation and ReLU."""

    def __init__(self, channels: int, out: int, norm: HeadNorm, dilation: int) -> None:
        super().__init__()
        self.depthwise_conv = ConvNorm(channels, channels, 3, norm, dilation=dilation, groups=channels)
        self.pointwise_conv = ConvNorm(channels, out, 1, norm)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.pointwise_conv(self.depthwise_conv(x))
        return out


class SeparablePyramid(nn.Module):
    """Branches of dilation 1, 6, 12 and 18 side by side, merged by a 3x3 convolution: [B, C, h, w] -> [B, D, h, w]."""

    def __init__(self, channels: int, out: int, norm: HeadNorm) -> None:
        super().__init__()
        self.aspp_modules = nn.ModuleList(
            ConvNorm(channels, out, 1, norm) if dilation == 1 else SeparableConv(channels, out, norm, dilation)
            for dilation in DILATIONS
        )
        self.bottleneck = ConvNorm(len(DILATIONS) * out, out, 3, norm)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bottleneck(torch.cat([branch(x) for branch in self.aspp_modules], 1))
        return out


class ChannelProjection(nn.Module):
    """Linear layer on the channels of a map: [B, C, h, w] -> [B, D, h, w]."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.proj = nn.Linear(channels, out)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.proj(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return out


class FusionHead(nn.Module):
    """Base class of heads that fuse the maps of an encoder, finest first, at the size of the finest one.

    Args:
        channels: channels C_i of the maps.
        outputs: output channels of the classifier.
        fuse: module from the concatenated projections [B, n D, h, w] to the features [B, D, h, w].
        width: channels D of the features and of each projected map.
        dropout: probability that a feature channel is zeroed before the classifier in training, in [0, 1).

    Raises:
        RequestError: ``dropout`` is out of its range.
    """

    def __init__(self, channels: Sequence[int], outputs: int, fuse: nn.Module, width: int, dropout: float) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise RequestError(f"dropout of the head is {dropout}; give a probability of at least 0 and below 1")
        self.embed_layers = nn.ModuleList(ChannelProjection(count, width) for count in channels)
        self.fuse_layer = fuse
        self.dropout = nn.Dropout2d(dropout)
        self.conv_seg = nn.Conv2d(width, outputs, 1)
        nn.init.normal_(self.conv_seg.weight, std=0.01)
        assert self.conv_seg.bias is not None
        nn.init.zeros_(self.conv_seg.bias)

    def fused(self, maps: Sequence[Tensor]) -> Tensor:
        """Compute the features [B, D, h, w] of maps [B, C_i, h_i, w_i], finest first."""
        size = maps[0].shape[-2:]
        projected = [project(x) for project, x in zip(self.embed_layers, maps, strict=True)]
        enlarged = [
            x if x.shape[-2:] == size else F.interpolate(x, size=size, mode="bilinear", align_corners=False)
            for x in projected
        ]
        features: Tensor = self.fuse_layer(torch.cat(enlarged, 1))
        return features

    def classified(self, features: Tensor) -> Tensor:
        """Compute the classifier's outputs [B, outputs, h, w] from features [B, D, h, w]."""
        logits: Tensor = self.conv_seg(self.dropout(features))
        return logits


class DAFormerHead(FusionHead):
    """Maps to logits [B, K, h, w] and features [B, D, h, w] through a separable atrous pyramid without image pooling.

    Args:
        channels, width, dropout: see :class:`FusionHead`; the published width and dropout are 256 and 0.1.
        classes: number of classes K.
        norm: ``batch`` (published) uses the statistics of the batch: train it with ``norm: train``, and
            expect other results when a batch is split over more processes. ``group`` depends neither on
            the batch nor on the mode.

    Raises:
        RequestError: ``norm`` or ``dropout`` has none of the values above.
    """

    def __init__(
        self,
        channels: Sequence[int],
        classes: int,
        width: int = 256,
        norm: HeadNorm = "batch",
        dropout: float = 0.1,
    ) -> None:
        require_norm(norm)
        super().__init__(channels, classes, SeparablePyramid(len(channels) * width, width, norm), width, dropout)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        features = self.fused(maps)
        return self.classified(features), features


def require_norm(norm: str) -> None:
    """Raise RequestError unless a norm is ``batch`` or ``group``."""
    if norm not in ("batch", "group"):
        raise RequestError(f"norm of the head is {norm!r}; choose one of batch, group")
