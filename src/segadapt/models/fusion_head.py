"""Heads that fuse the maps of an encoder's stages, by the names of the DAFormer family's files.

    e_i = up(W_i F_i + b_i)                       each stage's map, at the finest stage's size
    z   = concat(e_1, ..., e_n)                   [B, n D, h, w]
    f   = fuse(z)                                 [B, D, h, w], the features
    logits = V dropout(f) + c                     [B, K, h, w]

``fuse`` is an atrous pyramid with depthwise separable branches and a 3x3 bottleneck
(:class:`DAFormerHead`; Hoyer et al., CVPR 2022), or one 1x1 convolution as in SegFormer, with which
HRDA weighs its scales (:class:`~segadapt.models.scale_attention.ScaleAttention`).
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

    The normalisation is called ``bn`` in the public files, and here whatever its kind.
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
    """3x3 depthwise convolution with a dilation, then a 1x1 convolution, both with norm and ReLU."""

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
    """Base of heads that read the maps of an encoder, finest first, at the size of the finest one.

    Args:
        channels: of the maps.
        outputs: channels of the classifier.
        fuse: from the projected maps side by side to the features.
        width: D, also of each projected map.
        dropout: probability that a channel of the features is zeroed before the classifier in training.

    Raises:
        RequestError: the probability is none.
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
        """The features [B, D, h, w]."""
        size = maps[0].shape[-2:]
        projected = [project(x) for project, x in zip(self.embed_layers, maps, strict=True)]
        enlarged = [
            x if x.shape[-2:] == size else F.interpolate(x, size=size, mode="bilinear", align_corners=False)
            for x in projected
        ]
        features: Tensor = self.fuse_layer(torch.cat(enlarged, 1))
        return features

    def classified(self, features: Tensor) -> Tensor:
        """The classifier's outputs [B, outputs, h, w]."""
        logits: Tensor = self.conv_seg(self.dropout(features))
        return logits


class DAFormerHead(FusionHead):
    """Maps to logits [B, K, h, w] and features [B, D, h, w] through a separable atrous pyramid without image pooling.

    Args:
        channels, width, dropout: see :class:`FusionHead`; published are 256 and 0.1.
        classes: K.
        norm: ``batch``, as published; its statistics come from the batch, so it wants a run with
            ``norm: train`` and depends on how a batch is split over processes. ``group`` is the same
            for one image, any number of processes and any mode.
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
    """RequestError unless a norm is one that heads have."""
    if norm not in ("batch", "group"):
        raise RequestError(f"norm of the head is {norm!r}; choose one of batch, group")
