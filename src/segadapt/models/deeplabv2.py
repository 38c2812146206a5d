"""DeepLabV2 on a ResNet, as the adaptation papers use it (Chen et al., TPAMI 2018; Tsai et al., CVPR 2018).

A ResNet whose last two levels are dilated instead of strided, so that the output stride is 8, and a
classifier that adds four 3x3 convolutions of growing dilation (atrous spatial pyramid pooling).
Parameters have the names of the public state dicts of the AdaptSegNet and CRST projects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segadapt.errors import RequestError
from segadapt.models.segmenter import IMAGENET, Output, Preprocessing, Segmenter

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
DILATIONS = (6, 12, 18, 24)
EXPANSION = 4
COUNTER = ".num_batches_tracked"
VGG_WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))

StrideIn = Literal["1x1", "3x3"]


class Bottleneck(nn.Module):
    """Residual block of a 1x1, a 3x3 and a 1x1 convolution, [B, C, H, W] -> [B, 4 * width, H / stride, W / stride].

    Args:
        channels: C.
        width: channels of the two inner maps.
        stride: of the whole block.
        dilation: of the 3x3 convolution.
        stride_in: the convolution that carries the stride, ``1x1`` or ``3x3``.
        downsample: use a strided 1x1 convolution as shortcut instead of the identity.
    """

    def __init__(
        self, channels: int, width: int, stride: int, dilation: int, stride_in: StrideIn, downsample: bool
    ) -> None:
        super().__init__()
        first, second = (stride, 1) if stride_in == "1x1" else (1, stride)
        out = width * EXPANSION
        self.conv1 = nn.Conv2d(channels, width, 1, stride=first, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=second, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.downsample: nn.Sequential | None = None
        if downsample:
            self.downsample = nn.Sequential(nn.Conv2d(channels, out, 1, stride=stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = F.relu(self.bn2(self.conv2(x)), inplace=True)
        return F.relu(self.bn3(self.conv3(x)) + shortcut, inplace=True)


class AtrousClassifier(nn.Module):
    """Sum of 3x3 convolutions with dilations 6, 12, 18, 24: [B, C, h, w] -> [B, K, h, w].

    All four are stored, and the first ``branches`` are summed. The others are frozen: they get no
    gradient, which distributed training would report as an error and weight decay would shrink.
    """

    def __init__(self, channels: int, classes: int, branches: int) -> None:
        super().__init__()
        self.branches = branches
        self.conv2d_list = nn.ModuleList(nn.Conv2d(channels, classes, 3, padding=d, dilation=d) for d in DILATIONS)
        for index, conv in enumerate(self.conv2d_list):
            assert isinstance(conv, nn.Conv2d)
            assert conv.bias is not None
            nn.init.normal_(conv.weight, std=0.01)
            nn.init.zeros_(conv.bias)
            conv.requires_grad_(index < branches)

    def forward(self, x: Tensor) -> Tensor:
        total: Tensor = self.conv2d_list[0](x)
        for conv in list(self.conv2d_list)[1 : self.branches]:
            total = total + conv(x)
        return total


class DilatedResNet(Segmenter):
    """A ResNet whose last two levels are dilated, the encoder of :class:`DeepLabV2` and its relatives.

    The pooling rounds up, so a side of 8 n pixels gets n + 1 cells: 96 x 128 pixels give 13 x 17 cells,
    720 x 1280 give 91 x 161. Subclasses add their heads under names that start with one of
    ``head_names``.

    Args:
        classes: number of classes K.
        depth: 50, 101 or 152 layers.
        stride_in: the convolution that carries the stride of a block. ``1x1`` is the convention of
            the Caffe weights (and of the public adaptation projects), ``3x3`` the convention of torchvision.
        preprocessing: the preprocessing of the weights.
        architecture: name and arguments of the subclass.

    Raises:
        RequestError: an argument has none of the values above.
    """

    head_names: tuple[str, ...] = ("layer5.", "layer6.")

    def __init__(
        self,
        classes: int,
        depth: int,
        stride_in: StrideIn,
        preprocessing: Preprocessing,
        architecture: Mapping[str, Any],
    ) -> None:
        self._require("depth", depth, tuple(BLOCKS))
        self._require("stride_in", stride_in, ("1x1", "3x3"))
        super().__init__(classes, preprocessing, {**architecture, "depth": depth, "stride_in": stride_in})
        self.stride = 8
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        counts = BLOCKS[depth]
        self.layer1 = _level(64, 64, counts[0], 1, 1, stride_in)
        self.layer2 = _level(256, 128, counts[1], 2, 1, stride_in)
        self.layer3 = _level(512, 256, counts[2], 1, 2, stride_in)
        self.layer4 = _level(1024, 512, counts[3], 1, 4, stride_in)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @classmethod
    def _require(cls, name: str, value: object, known: tuple[object, ...]) -> None:
        """Raise RequestError unless an argument has one of the known values."""
        if value not in known:
            raise RequestError(f"{cls.__name__}: {name} is {value!r}; choose one of {', '.join(map(str, known))}")

    @property
    def stems(self) -> Sequence[str]:
        """The convolution that reads the images."""
        return ("conv1",)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute layer3 [B, 1024, h, w] and layer4 [B, 2048, h, w] of preprocessed images [B, 3, H, W]."""
        return self._encoded(x, self.conv1, self.bn1, self.layer1)

    def _encoded(self, x: Tensor, conv: nn.Module, norm: nn.Module, first: nn.Module) -> tuple[Tensor, Tensor]:
        """Compute the same through a given stem and first level."""
        x = F.max_pool2d(F.relu(norm(conv(x)), inplace=True), 3, stride=2, padding=1, ceil_mode=True)
        middle: Tensor = self.layer3(self.layer2(first(x)))
        deep: Tensor = self.layer4(middle)
        return middle, deep

    def deep_features(self, images: Tensor) -> Tensor:
        return self.encode(self.preprocess(images))[1]

    def load_imagenet(self, state: Mapping[str, Tensor]) -> None:
        """Fill the encoder from a ResNet of the same depth in torchvision's names.

        Args:
            state: ``conv1.weight``, ``bn1.*``, ``layerN.M.*``, all of them; ``fc.*`` and heads are ignored.
                The Caffe file of the AdaptSegNet project and SimCLRv2 weights converted to torchvision's
                names work as well. Build the network with the ``stride_in`` of the weights' origin.

        Raises:
            RequestError: an entry is missing, unknown or of another shape.
        """
        heads = ("fc.", *self.head_names)
        given = {key: value for key, value in from_official(state).items() if not key.startswith(heads)}
        own = {key: value for key, value in self.state_dict().items() if not key.startswith(heads)}
        wrong = [key for key in given if key not in own or given[key].shape != own[key].shape]
        wrong += [key for key in own if key not in given and not key.endswith(COUNTER)]
        if wrong:
            raise RequestError(
                f"these are not the weights of a ResNet-{self.architecture['depth']}: {len(wrong)} entries are missing,"
                f" unknown or of another shape, the first is '{wrong[0]}'; choose the depth of the file"
            )
        self.load_state_dict(given, strict=False)


class DeepLabV2(DilatedResNet):
    """DeepLabV2-ResNet: logits at stride 8 and 2048-channel features (the output of layer4).

    Args:
        classes, depth, stride_in: see :class:`DilatedResNet`.
        branches: number of classifier branches that are summed, 4 or 2. AdaptSegNet's code returns
            from its loop early, so its published weights need 2; the weights of CRST need 4.
        auxiliary: add a second classifier on the output of layer3, which fills ``Output.aux``. As in the
            public files, the main classifier is then called layer6, and layer5 otherwise.
        preprocessing: the preprocessing of the weights; :data:`~segadapt.models.segmenter.CAFFE` for AdaptSegNet.

    Raises:
        RequestError: an argument has none of the values above.
    """

    def __init__(
        self,
        classes: int,
        depth: int = 101,
        *,
        branches: int = 4,
        auxiliary: bool = False,
        stride_in: StrideIn = "1x1",
        preprocessing: Preprocessing = IMAGENET,
    ) -> None:
        self._require("branches", branches, (2, 4))
        architecture = {"name": f"deeplabv2_resnet{depth}", "branches": branches, "auxiliary": auxiliary}
        super().__init__(classes, depth, stride_in, preprocessing, architecture)
        self.feature_channels = 512 * EXPANSION
        main = AtrousClassifier(self.feature_channels, classes, branches)
        if auxiliary:
            self.layer5 = AtrousClassifier(256 * EXPANSION, classes, branches)
            self.layer6 = main
        else:
            self.layer5 = main

    @property
    def auxiliary(self) -> bool:
        """Whether the network has a second classifier on layer3."""
        return bool(self.architecture["auxiliary"])

    def network(self, x: Tensor) -> Output:
        """Compute logits [B, K, h, w], features [B, 2048, h, w] and aux [B, K, h, w] of preprocessed images."""
        middle, features = self.encode(x)
        if self.auxiliary:
            return Output(self.layer6(features), features, self.layer5(middle), features)
        return Output(self.layer5(features), features, deep=features)

    def head_modules(self) -> list[nn.Module]:
        return [self.layer5, self.layer6] if self.auxiliary else [self.layer5]


class DeepLabV2VGG(Segmenter):
    """DeepLabV2 on VGG-16: logits at stride 8 and 1024-channel features (Tsai et al., CVPR 2018).

    The last two poolings are left out and the convolutions behind them are dilated; two further dilated
    convolutions replace the fully connected layers. Pooling rounds down, so a side of 8 n pixels gets
    n cells.

    Args:
        classes: number of classes K.
        branches: number of classifier branches that are summed, 4 or 2; see :class:`DeepLabV2`.
        preprocessing: the preprocessing of the weights; :data:`~segadapt.models.segmenter.CAFFE` for AdaptSegNet.

    Raises:
        RequestError: an argument has none of the values above.
    """

    def __init__(self, classes: int, *, branches: int = 4, preprocessing: Preprocessing = IMAGENET) -> None:
        if branches not in (2, 4):
            raise RequestError(f"DeepLabV2VGG: branches is {branches!r}; choose one of 2, 4")
        super().__init__(classes, preprocessing, {"name": "deeplabv2_vgg16", "branches": branches})
        self.stride = 8
        self.feature_channels = 1024
        self.features = _vgg_features(self.feature_channels)
        for module in self.features:
            if isinstance(module, nn.Conv2d):
                assert module.bias is not None
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)
        self.classifier = AtrousClassifier(self.feature_channels, classes, branches)

    @property
    def stems(self) -> Sequence[str]:
        """The convolution that reads the images."""
        return ("features.0",)

    def network(self, x: Tensor) -> Output:
        """Compute logits [B, K, H / 8, W / 8] and features [B, 1024, H / 8, W / 8] of preprocessed images."""
        features = self.features(x)
        return Output(self.classifier(features), features)

    def head_modules(self) -> list[nn.Module]:
        return [self.classifier]

    def load_imagenet(self, state: Mapping[str, Tensor]) -> None:
        """Fill the thirteen convolutions of VGG-16 from torchvision's ``vgg16``.

        Args:
            state: ``features.N.*``; the two further convolutions and the classifier keep their weights.

        Raises:
            RequestError: an entry is missing, unknown or of another shape.
        """
        given = [value for key, value in state.items() if key.startswith("features.")]
        own = list(self.features.parameters())[: 2 * sum(map(len, VGG_WIDTHS))]
        if [value.shape for value in given] != [parameter.shape for parameter in own]:
            raise RequestError("these are not the weights of torchvision's vgg16; use it without batch normalisation")
        with torch.no_grad():
            for parameter, value in zip(own, given, strict=True):
                parameter.copy_(value)


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Drop the common prefix of all names in the state dict of an AdaptSegNet or CRST file.

    The prefix is ``module.`` after data parallel training and ``Scale.`` in the converted Caffe file.
    Files written before torch 0.4.1 have no ``num_batches_tracked``; the loaders allow that.
    """
    plain = dict(state)
    for prefix in ("module.", "Scale."):
        if plain and all(key.startswith(prefix) for key in plain):
            plain = {key[len(prefix) :]: value for key, value in plain.items()}
    return plain


def _level(channels: int, width: int, count: int, stride: int, dilation: int, stride_in: StrideIn) -> nn.Sequential:
    """Build one level of the ResNet; its first block changes width and resolution."""
    first = Bottleneck(channels, width, stride, dilation, stride_in, downsample=True)
    rest = [Bottleneck(width * EXPANSION, width, 1, dilation, stride_in, downsample=False) for _ in range(count - 1)]
    return nn.Sequential(first, *rest)


def _vgg_features(out: int) -> nn.Sequential:
    """Build VGG-16 at stride 8, numbered as in AdaptSegNet's files; dilation 2 in the last level, then 4."""
    layers: list[nn.Module] = []
    channels = 3
    for level, widths in enumerate(VGG_WIDTHS):
        dilation = 2 if level == len(VGG_WIDTHS) - 1 else 1
        for width in widths:
            conv = nn.Conv2d(channels, width, 3, padding=dilation, dilation=dilation)
            layers += [conv, nn.ReLU(inplace=True)]
            channels = width
        if level < len(VGG_WIDTHS) - 2:
            layers.append(nn.MaxPool2d(2))
    for width in (out, out):
        layers += [nn.Conv2d(channels, width, 3, padding=4, dilation=4), nn.ReLU(inplace=True)]
        channels = width
    return nn.Sequential(*layers)
