"""The network of ProDA and CPSL (Zhang et al., CVPR 2021; Li et al., CVPR 2022), as published.

The papers call it DeepLabV2, but its head is larger: five atrous branches of 256 channels with group
normalisation, reweighted channel by channel (squeeze and excitation), then merged into a 256-channel
map, the space of the prototypes. Do not compare numbers of these papers with numbers of plain
DeepLabV2. Parameters have the names of the public files.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from segadapt.errors import RequestError
from segadapt.models.deeplabv2 import DILATIONS, EXPANSION, DilatedResNet, StrideIn
from segadapt.models.segmenter import Output, Preprocessing

UNIT = Preprocessing((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
"""RGB in [0, 1] unchanged: ProDA divides by 255 and does nothing else."""

CHANNELS = 256
GROUPS = 32
SQUEEZE = 16
"""The gate's bottleneck has the number of channels divided by this."""


class ChannelGate(nn.Module):
    """Squeeze and excitation (Hu et al., CVPR 2018): every channel times a weight in (0, 1) from the global mean."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.se = nn.Sequential(
            nn.Linear(channels, channels // SQUEEZE),
            nn.ReLU(inplace=True),
            nn.Linear(channels // SQUEEZE, channels),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        gate: Tensor = self.se(x.mean((2, 3)))
        return x * gate[:, :, None, None]


class ProDAHead(nn.Module):
    """Encoder output [B, C, h, w] to logits [B, K, h, w] and features [B, 256, h, w].

    In training the features have passed the channel dropout (each channel is zero or scaled by
    1 / (1 - p)), because the published methods compare these with prototypes.
    """

    def __init__(self, channels: int, classes: int, dropout: float) -> None:
        super().__init__()
        branches = [_branch(nn.Conv2d(channels, CHANNELS, 1))]
        branches += [_branch(nn.Conv2d(channels, CHANNELS, 3, padding=d, dilation=d)) for d in DILATIONS]
        self.conv2d_list = nn.ModuleList(branches)
        total = CHANNELS * len(branches)
        self.bottleneck = nn.Sequential(
            ChannelGate(total), nn.Conv2d(total, CHANNELS, 3, padding=1), nn.GroupNorm(GROUPS, CHANNELS)
        )
        self.head = nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(CHANNELS, classes, 1, bias=False))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # The public code initialises the head by Kaiming and then overwrites the weights of every
                # convolution with these, but not the biases; its published results began so.
                nn.init.normal_(module.weight, std=0.01)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        merged = self.bottleneck(torch.cat([branch(x) for branch in self.conv2d_list], 1))
        features: Tensor = self.head[0](merged)
        logits: Tensor = self.head[1](features)
        return logits, features


class ProDANet(DilatedResNet):
    """Dilated ResNet with the head of ProDA: logits at stride 8 and 256-channel features for prototypes.

    With ResNet-101 and 19 classes it has 65.07 M parameters, 22.56 M of them in the head.

    Args:
        classes: number of classes K.
        depth: 50, 101 or 152 layers; the published networks have 101.
        extra_norm: add a batch normalisation between encoder and head. The distilled students have it,
            because outputs of their self-supervised SimCLR encoder have another scale than a classifier's.
        stride_in: the convolution that carries the stride of a block, ``1x1`` or ``3x3``. The public code
            has ``1x1``, although the weights of torchvision and SimCLR that it starts from were trained
            with ``3x3``; only the first block of layer2 has a stride at all.
        dropout: probability that a feature channel is zeroed in training, in [0, 1).
        preprocessing: the preprocessing of the weights.

    Raises:
        RequestError: an argument has none of the values above.
    """

    head_names = ("layer5.", "bn_pretrain.")

    def __init__(
        self,
        classes: int,
        depth: int = 101,
        *,
        extra_norm: bool = False,
        stride_in: StrideIn = "1x1",
        dropout: float = 0.1,
        preprocessing: Preprocessing = UNIT,
    ) -> None:
        if not 0 <= dropout < 1:
            raise RequestError(f"ProDANet: dropout is {dropout}; give a probability of at least 0 and below 1")
        architecture = {"name": f"proda_resnet{depth}", "extra_norm": extra_norm, "dropout": dropout}
        super().__init__(classes, depth, stride_in, preprocessing, architecture)
        self.feature_channels = CHANNELS
        self.bn_pretrain = nn.BatchNorm2d(512 * EXPANSION) if extra_norm else None
        self.layer5 = ProDAHead(512 * EXPANSION, classes, dropout)

    def network(self, x: Tensor) -> Output:
        """Compute logits [B, K, h, w] and features [B, 256, h, w] of preprocessed images [B, 3, H, W]."""
        _, deep = self.encode(x)
        seen = deep if self.bn_pretrain is None else self.bn_pretrain(deep)
        logits, features = self.layer5(seen)
        return Output(logits, features, deep=deep)

    def head_modules(self) -> list[nn.Module]:
        return [self.layer5] if self.bn_pretrain is None else [self.layer5, self.bn_pretrain]


def _branch(conv: nn.Conv2d) -> nn.Sequential:
    return nn.Sequential(conv, nn.GroupNorm(GROUPS, CHANNELS), nn.ReLU(inplace=True))
