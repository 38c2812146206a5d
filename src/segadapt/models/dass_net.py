"""The network of the DASS project (Lee et al., BCL, ECCV 2022): DeepLabV2 with one stem per domain.

The first convolution and the first level exist twice, everything behind them once. Parameters have the
names of the public files, whose second classifier (``layer6``) is left out because it is never used.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from segadapt.models.deeplabv2 import DILATIONS, EXPANSION, AtrousClassifier, DilatedResNet, StrideIn, from_official
from segadapt.models.segmenter import IMAGENET, Output, Preprocessing

STEM = ("conv1.", "bn1.", "layer1.")


class DASSNet(DilatedResNet):
    """DeepLabV2-ResNet with separate stems; called as a segmenter it uses the stem of the *target* domain.

    BCL builds its prototypes from these features: the outputs of the classifier's four branches side
    by side, 4 K channels. The sum over the branches gives the logits.

    Args:
        classes: number of classes K.
        depth: 50, 101 or 152 layers; the published network has 101.
        stride_in: see :class:`~segadapt.models.deeplabv2.DilatedResNet`.
        preprocessing: the preprocessing of the weights; :data:`~segadapt.models.segmenter.CAFFE` for published ones.

    Raises:
        RequestError: an argument has none of the values above.
    """

    head_names = ("layer5.",)

    def __init__(
        self, classes: int, depth: int = 101, *, stride_in: StrideIn = "1x1", preprocessing: Preprocessing = IMAGENET
    ) -> None:
        super().__init__(classes, depth, stride_in, preprocessing, {"name": "dass_deeplabv2"})
        self.target_conv1 = copy.deepcopy(self.conv1)
        self.target_bn1 = copy.deepcopy(self.bn1)
        self.target_layer1 = copy.deepcopy(self.layer1)
        self.layer5 = AtrousClassifier(512 * EXPANSION, classes, len(DILATIONS))
        self.feature_channels = classes * len(DILATIONS)

    @property
    def stems(self) -> Sequence[str]:
        """The convolutions that read source and target images."""
        return ("conv1", "target_conv1")

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute layer3 [B, 1024, h, w] and layer4 [B, 2048, h, w] of preprocessed target images [B, 3, H, W]."""
        return self._encoded(x, self.target_conv1, self.target_bn1, self.target_layer1)

    def network(self, x: Tensor) -> Output:
        """Compute logits [B, K, h, w] and features [B, 4 K, h, w] of preprocessed target images [B, 3, H, W]."""
        return self._classified(self.encode(x)[1])

    def source_network(self, x: Tensor) -> Output:
        """Compute the same for preprocessed images of the source domain, through their own stem."""
        return self._classified(super().encode(x)[1])

    def _classified(self, deep: Tensor) -> Output:
        parts = [conv(deep) for conv in self.layer5.conv2d_list]
        return Output(torch.stack(parts).sum(0), torch.cat(parts, 1), deep=deep)

    def head_modules(self) -> list[nn.Module]:
        return [self.layer5]

    def load_imagenet(self, state: Mapping[str, Tensor]) -> None:
        """Fill the encoder and both stems from a ResNet of the same depth; see the base class."""
        single = from_official(state)
        twice = {f"target_{key}": value for key, value in single.items() if key.startswith(STEM)}
        super().load_imagenet({**single, **twice})
