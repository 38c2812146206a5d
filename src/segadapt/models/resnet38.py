"""The wide ResNet-38 of CBST (Wu et al., "Wider or Deeper", Pattern Recognition 2019; Zou et al., ECCV 2018).

Blocks normalise before they convolve. The last two levels are bottlenecks of up to 4096 channels,
the output stride is 8. Names resemble the names of the MXNet files: ``bn4b5_branch2a_gamma`` is
``blocks.4b5.bn_branch2a.weight`` here, beta is bias, moving is running, and ``linear19`` is ``linear``.
"""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from segadapt.errors import RequestError
from segadapt.models.segmenter import IMAGENET, Output, Preprocessing, Segmenter

EPSILON = 1.001e-5
"""Epsilon of every normalisation, as the published files were trained."""
HEAD_CHANNELS = 512
HEAD_DILATION = 12


class Level(NamedTuple):
    """One level of the network: blocks that share widths.

    Attributes:
        blocks: names of the blocks, without the number of the level; only the first block changes width and
            resolution.
        widths: output channels of the convolutions of a block, two (3x3, 3x3) or three (1x1, 3x3, 1x1).
        stride: stride of the first convolution of the first block.
        first: dilation of the first convolution of the first block.
        dilation: dilation of all other convolutions.
    """

    blocks: tuple[str, ...]
    widths: tuple[int, ...]
    stride: int
    first: int
    dilation: int


LEVELS = {
    2: Level(("a", "b1", "b2"), (128, 128), 2, 1, 1),
    3: Level(("a", "b1", "b2"), (256, 256), 2, 1, 1),
    4: Level(("a", "b1", "b2", "b3", "b4", "b5"), (512, 512), 2, 1, 1),
    5: Level(("a", "b1", "b2"), (512, 1024), 1, 1, 2),
    6: Level(("a",), (512, 1024, 2048), 1, 1, 4),
    7: Level(("a",), (1024, 2048, 4096), 1, 1, 4),
}


class PreactivationBlock(nn.Module):
    """Normalise, rectify and convolve two or three times, plus a shortcut: [B, C, H, W] -> [B, widths[-1], ...].

    If the width changes, the shortcut is a 1x1 convolution of the first rectified map; otherwise it is the
    block's input. Dropout zeroes single values before the last convolution.
    """

    def __init__(
        self, channels: int, widths: tuple[int, ...], stride: int, first: int, dilation: int, dropout: float
    ) -> None:
        super().__init__()
        kernels = (3, 3) if len(widths) == 2 else (1, 3, 1)
        self.branches = ["branch2a", *(f"branch2b{i}" for i in range(1, len(widths)))]
        self.dropout = dropout
        self.res_branch1: nn.Conv2d | None = None
        if channels != widths[-1]:
            self.res_branch1 = nn.Conv2d(channels, widths[-1], 1, stride=stride, bias=False)
        for i, (branch, kernel, width) in enumerate(zip(self.branches, kernels, widths, strict=True)):
            spread = (first if i == 0 else dilation) if kernel == 3 else 1
            self.add_module(f"bn_{branch}", nn.BatchNorm2d(channels, eps=EPSILON))
            conv = nn.Conv2d(
                channels,
                width,
                kernel,
                stride=stride if i == 0 else 1,
                padding=kernel // 2 * spread,
                dilation=spread,
                bias=False,
            )
            self.add_module(f"res_{branch}", conv)
            channels = width

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x
        for i, branch in enumerate(self.branches):
            x = F.relu(getattr(self, f"bn_{branch}")(x))
            if i == 0 and self.res_branch1 is not None:
                shortcut = self.res_branch1(x)
            if i == len(self.branches) - 1:
                x = F.dropout(x, self.dropout, self.training)
            x = getattr(self, f"res_{branch}")(x)
        return x + shortcut


class ResNet38(Segmenter):
    """Wide ResNet-38: logits at stride 8; features are the 512 channels that the last convolution reads.

    An image of H x W pixels gets ceil(H / 8) x ceil(W / 8) cells. With the 19 classes of Cityscapes the
    network has 124.0 million parameters.

    Args:
        classes: number of classes K.
        dropout: two probabilities in [0, 1), for the last two blocks, 6a and 7a.
        preprocessing: the preprocessing of the weights; the MXNet files need ImageNet statistics.

    Raises:
        RequestError: ``dropout`` does not have two values in [0, 1).
    """

    def __init__(
        self,
        classes: int,
        *,
        dropout: tuple[float, float] = (0.3, 0.5),
        preprocessing: Preprocessing = IMAGENET,
    ) -> None:
        if len(dropout) != 2 or not all(0 <= rate < 1 for rate in dropout):
            raise RequestError(f"ResNet38: dropout is {dropout}; give two probabilities, each at least 0 and below 1")
        super().__init__(classes, preprocessing, {"name": "resnet38", "dropout": list(dropout)})
        self.stride = 8
        self.feature_channels = HEAD_CHANNELS
        self.conv1a = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        channels = 64
        self.blocks = nn.ModuleDict()
        for number, level in LEVELS.items():
            rate = {6: dropout[0], 7: dropout[1]}.get(number, 0.0)
            for name in level.blocks:
                stride, first = (level.stride, level.first) if name == "a" else (1, level.dilation)
                block = PreactivationBlock(channels, level.widths, stride, first, level.dilation, rate)
                self.blocks[f"{number}{name}"] = block
                channels = level.widths[-1]
        self.bn7 = nn.BatchNorm2d(channels, eps=EPSILON)
        self.conv6a = nn.Conv2d(channels, HEAD_CHANNELS, 3, padding=HEAD_DILATION, dilation=HEAD_DILATION)
        self.linear = nn.Conv2d(HEAD_CHANNELS, classes, 3, padding=HEAD_DILATION, dilation=HEAD_DILATION)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(self.linear.weight, std=0.01)

    @property
    def stems(self) -> tuple[str, ...]:
        """The convolution that reads the images."""
        return ("conv1a",)

    def network(self, x: Tensor) -> Output:
        """Compute logits [B, K, h, w] and features [B, 512, h, w] of preprocessed images [B, 3, H, W]."""
        x = self.conv1a(x)
        for block in self.blocks.values():
            x = block(x)
        features = F.relu(self.conv6a(F.relu(self.bn7(x))))
        return Output(self.linear(features), features)

    def head_modules(self) -> list[nn.Module]:
        return [self.conv6a, self.linear]
