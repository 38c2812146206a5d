"""Discriminators of output-space adversarial adaptation (Tsai et al., CVPR 2018; warm-up of Zhang et al., CVPR 2021).

They read a map of class probabilities and score for every patch which domain it comes from. Parameters
have the names of the public files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch.nn.functional as F
from torch import Tensor, nn

from segadapt.errors import RequestError

Kind = Literal["adaptsegnet", "proda"]

SLOPE = 0.2
"""Slope of the leaky rectifiers below zero."""


@dataclass(frozen=True)
class _Shape:
    """The differences between the two published discriminators.

    Attributes:
        kernel: side of the four strided convolutions, which have padding 1 and stride 2.
        score_kernel, score_stride, score_padding: geometry of the convolution that scores.
        slopes: slope of the rectifier after each of the four convolutions, 0 for a plain rectifier.
    """

    kernel: int
    score_kernel: int
    score_stride: int
    score_padding: int
    slopes: tuple[float, float, float, float]


_SHAPES: Mapping[Kind, _Shape] = {
    "adaptsegnet": _Shape(4, 4, 2, 1, (SLOPE, SLOPE, SLOPE, SLOPE)),
    "proda": _Shape(3, 1, 1, 0, (0.0, 0.0, 0.0, SLOPE)),
}


class Discriminator(nn.Module):
    """Class probabilities [B, K, H, W] to one score per patch [B, 1, h, w], before a sigmoid.

    Five convolutions without normalisation, the last without activation. The loss decides which sign
    means which domain: the public projects train towards 0 for source and 1 for target.

    Args:
        classes: number of classes K.
        kind: ``adaptsegnet``: kernels of 4, stride 2 five times, leaky rectifiers (512 x 1024 gives
            16 x 32 scores). ``proda``: kernels of 3, stride 2 four times, plain rectifiers except
            for the last, scores by a 1x1 convolution (512 x 1024 gives 32 x 64).
        width: channels after the first convolution; each of the next three doubles them.

    Raises:
        RequestError: the kind is unknown.
    """

    def __init__(self, classes: int, kind: Kind = "adaptsegnet", width: int = 64) -> None:
        if kind not in _SHAPES:
            raise RequestError(f"Discriminator: kind is {kind!r}; choose one of {', '.join(get_args(Kind))}")
        super().__init__()
        self.kind = kind
        shape = _SHAPES[kind]
        self.slopes = shape.slopes

        def halving(channels: int, out: int) -> nn.Conv2d:
            return nn.Conv2d(channels, out, shape.kernel, stride=2, padding=1)

        self.conv1 = halving(classes, width)
        self.conv2 = halving(width, 2 * width)
        self.conv3 = halving(2 * width, 4 * width)
        self.conv4 = halving(4 * width, 8 * width)
        self.classifier = nn.Conv2d(
            8 * width, 1, shape.score_kernel, stride=shape.score_stride, padding=shape.score_padding
        )

    def forward(self, probabilities: Tensor) -> Tensor:
        """Compute scores [B, 1, h, w], before a sigmoid, from class probabilities [B, K, H, W] in [0, 1]."""
        x = probabilities
        for conv, slope in zip((self.conv1, self.conv2, self.conv3, self.conv4), self.slopes, strict=True):
            x = F.leaky_relu(conv(x), slope, inplace=True)
        scores: Tensor = self.classifier(x)
        return scores


def discriminator_from(state: Mapping[str, Tensor]) -> Discriminator:
    """Build the discriminator of a public state dict, with its weights.

    Args:
        state: ``conv1.weight`` [width, K, k, k] and so on, of an AdaptSegNet file ``*_D1.pth`` or
            of the entry ``FCDiscriminator`` of a ProDA warm-up file.

    Raises:
        RequestError: the state dict belongs to another network.
    """
    problem = RequestError("these are not the weights of a discriminator of AdaptSegNet or ProDA")
    if not is_discriminator(state):
        raise problem
    first = state["conv1.weight"]
    kind: Kind = "adaptsegnet" if first.shape[-1] == _SHAPES["adaptsegnet"].kernel else "proda"
    model = Discriminator(first.shape[1], kind, first.shape[0])
    own = model.state_dict()
    if {k: v.shape for k, v in own.items()} != {k: v.shape for k, v in state.items()}:
        raise problem
    model.load_state_dict(dict(state))
    return model


def is_discriminator(state: Mapping[str, object]) -> bool:
    """Return whether a state dict has the names of a discriminator and no others."""
    layers = ("conv1", "conv2", "conv3", "conv4", "classifier")
    return set(state) == {f"{layer}.{part}" for layer in layers for part in ("weight", "bias")}
