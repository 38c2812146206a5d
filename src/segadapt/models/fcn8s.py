"""FCN-8s on VGG-16 (Long et al., CVPR 2015).

A convolutional classification network whose class scores from three depths are added up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from segadapt.errors import RequestError
from segadapt.models.segmenter import IMAGENET, Output, Preprocessing, Segmenter

WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
WIDE = 4096
FC6_KERNEL = 7


class FCN8s(Segmenter):
    """FCN-8s: logits at stride 8; features are the fc7 map, 4096 channels at stride 32.

    The original pads the image by 100 pixels so that its unpadded 7x7 convolution fits, and crops the
    maps to each other. Here that convolution is padded, and each coarser score map is resized
    bilinearly to the next finer one. Pooling rounds up, so every image of at least one pixel works:
    logits have ceil(H / 8) x ceil(W / 8) cells, features ceil(H / 32) x ceil(W / 32).

    The scores of pool3 and pool4 start at zero: training begins as FCN-32s, with the coarse scores
    alone, and learns how much the finer maps add.

    Args:
        classes: number of classes K.
        dropout: probability after fc6 and fc7, in [0, 1).
        preprocessing: the preprocessing of the weights; torchvision's VGG-16 needs ImageNet statistics.

    Raises:
        RequestError: ``dropout`` is out of its range.
    """

    def __init__(self, classes: int, *, dropout: float = 0.5, preprocessing: Preprocessing = IMAGENET) -> None:
        if not 0 <= dropout < 1:
            raise RequestError(f"FCN8s: dropout is {dropout}; give a probability of at least 0 and below 1")
        super().__init__(classes, preprocessing, {"name": "fcn8s_vgg16", "dropout": dropout})
        self.stride = 8
        self.feature_channels = WIDE
        self.dropout = dropout
        self.features = _vgg16()
        self.pools = [i for i, module in enumerate(self.features) if isinstance(module, nn.MaxPool2d)]
        self.fc6 = nn.Conv2d(WIDTHS[4][-1], WIDE, FC6_KERNEL, padding=FC6_KERNEL // 2)
        self.fc7 = nn.Conv2d(WIDE, WIDE, 1)
        self.score_fc7 = nn.Conv2d(WIDE, classes, 1)
        self.score_pool4 = nn.Conv2d(WIDTHS[3][-1], classes, 1)
        self.score_pool3 = nn.Conv2d(WIDTHS[2][-1], classes, 1)
        self._initialise()

    def _initialise(self) -> None:
        heads = self.head_modules()
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                assert module.bias is not None
                nn.init.zeros_(module.bias)
                if module not in heads:
                    nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.normal_(self.score_fc7.weight, std=0.01)
        nn.init.zeros_(self.score_pool4.weight)
        nn.init.zeros_(self.score_pool3.weight)

    @property
    def stems(self) -> Sequence[str]:
        """The convolution that reads the images."""
        return ("features.0",)

    def network(self, x: Tensor) -> Output:
        """Compute logits [B, K, H / 8, W / 8] and features [B, 4096, H / 32, W / 32] of preprocessed images."""
        third, fourth, _ = (pool + 1 for pool in self.pools[2:])
        pool3 = self.features[:third](x)
        pool4 = self.features[third:fourth](pool3)
        pool5 = self.features[fourth:](pool4)
        fc6 = F.dropout(F.relu(self.fc6(pool5)), self.dropout, self.training)
        fc7 = F.dropout(F.relu(self.fc7(fc6)), self.dropout, self.training)
        scores = self.score_fc7(fc7)
        scores = _enlarged(scores, pool4) + self.score_pool4(pool4)
        scores = _enlarged(scores, pool3) + self.score_pool3(pool3)
        return Output(scores, fc7)

    def head_modules(self) -> list[nn.Module]:
        return [self.score_fc7, self.score_pool4, self.score_pool3]

    def load_imagenet(self, state: Mapping[str, Tensor]) -> None:
        """Fill everything except the score layers from torchvision's ``vgg16``.

        Args:
            state: ``features.N.*`` and ``classifier.{0,3}.*``; the matrices of the classifier become
                convolutions. ``classifier.6.*`` is ignored.

        Raises:
            RequestError: an entry is missing, unknown or of another shape.
        """
        given = {key: value for key, value in state.items() if not key.startswith("classifier.6.")}
        renamed = {_our_name(key): value for key, value in given.items()}
        own = {key: value for key, value in self.state_dict().items() if not key.startswith("score_")}
        wrong = [key for key in renamed if key not in own or renamed[key].numel() != own[key].numel()]
        wrong += [key for key in own if key not in renamed]
        if wrong:
            raise RequestError(
                f"these are not the weights of torchvision's vgg16: {len(wrong)} entries are missing,"
                f" unknown or of another shape, the first is '{wrong[0]}'; use vgg16 without batch normalisation"
            )
        self.load_state_dict({key: value.reshape(own[key].shape) for key, value in renamed.items()}, strict=False)


def _vgg16() -> nn.Sequential:
    """Build the convolutions of VGG-16 with torchvision's numbering; pooling rounds up."""
    layers: list[nn.Module] = []
    channels = 3
    for widths in WIDTHS:
        for width in widths:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
            channels = width
        layers.append(nn.MaxPool2d(2, ceil_mode=True))
    return nn.Sequential(*layers)


def _enlarged(scores: Tensor, finer: Tensor) -> Tensor:
    """Resize scores bilinearly to the size of a finer map."""
    return F.interpolate(scores, finer.shape[-2:], mode="bilinear", align_corners=False)


def _our_name(name: str) -> str:
    """Return our name of a torchvision entry."""
    return name.replace("classifier.0.", "fc6.").replace("classifier.3.", "fc7.")
