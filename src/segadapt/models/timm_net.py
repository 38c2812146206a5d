"""Any convolutional timm encoder with a light decoder.

    f_i  = encoder feature maps with stride >= finest          [B, C_i, H/s_i, W/s_i]
    z    = concat_i up(W_i f_i)                                 [B, n D, H/s_1, W/s_1]
    features = ReLU(GroupNorm(W z)),  logits = V features       [B, D, ...], [B, K, ...]

The decoder of SegFormer (Xie et al., 2021) fuses upsampled stages by 1x1 convolutions in the same way.
Group instead of batch normalisation gives the same result for one image, for any number of processes,
and under bfloat16.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from segadapt.errors import RequestError
from segadapt.models.foundation_encoder import require_encoder
from segadapt.models.halves import TwoHalves
from segadapt.models.inference import evaluation_mode
from segadapt.models.segmenter import Preprocessing

LITE_ENCODER = "tf_efficientnet_lite0"
_OTHER_SIZE = (128, 192)
"""A height and a width that no network of one fixed size has."""


class TimmSegmenter(TwoHalves):
    """An encoder of timm whose stages are fused at the finest stride used.

    Args:
        classes: number of classes K.
        encoder: a timm name, e.g. ``convnext_tiny``; the encoder must give feature maps (``features_only``).
        width: channels D of the decoder and of the features.
        finest: least stride of the stages that are fused; the output has the stride of the finest of them.
        dropout: probability that a feature channel is zeroed before the classifier, in [0, 1).
        preprocessing: None takes timm's own statement for the encoder's weights.

    Attributes:
        encoder_channels: channels C_i of the maps of :meth:`encode`.

    Raises:
        RequestError: timm does not have the encoder, or it does not fit.
    """

    def __init__(
        self,
        classes: int,
        encoder: str = LITE_ENCODER,
        *,
        width: int = 128,
        finest: int = 4,
        dropout: float = 0.0,
        preprocessing: Preprocessing | None = None,
    ):
        body = create_encoder(encoder)
        name = "lite" if encoder == LITE_ENCODER else f"timm:{encoder}"
        arguments = {"name": name, "width": width, "finest": finest, "dropout": dropout}
        super().__init__(classes, preprocessing or stated_preprocessing(encoder), arguments)
        self.encoder = body
        self._stems = first_convolutions(body)
        strides, channels = body.feature_info.reduction(), body.feature_info.channels()
        self.used = [i for i, stride in enumerate(strides) if stride >= finest]
        if not self.used:
            raise RequestError(
                f"encoder '{encoder}' has strides {strides}, none of them {finest} or more; lower 'finest'"
            )
        self.stride = int(strides[self.used[0]])
        self.feature_channels = width
        self.encoder_channels = [int(channels[i]) for i in self.used]
        self.lateral = nn.ModuleList(nn.Conv2d(channels[i], width, 1) for i in self.used)
        self.fuse = nn.Sequential(
            nn.Conv2d(width * len(self.used), width, 1, bias=False),
            nn.GroupNorm(math.gcd(16, width), width),
            nn.ReLU(inplace=True),
        )
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(width, classes, 1)

    @property
    def stems(self) -> Sequence[str]:
        """The convolutions of the encoder that read the images."""
        return self._stems

    def encode(self, x: Tensor) -> list[Tensor]:
        """Compute the maps [B, C_i, h_i, w_i] that the decoder uses of preprocessed images, finest first."""
        maps = self.encoder(x)
        return [maps[i] for i in self.used]

    def decode(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Compute logits [B, K, h_1, w_1] and features [B, D, h_1, w_1] from the maps of :meth:`encode`."""
        size = maps[0].shape[-2:]
        projected = [
            F.interpolate(project(x), size=size, mode="bilinear", align_corners=False)
            for x, project in zip(maps, self.lateral, strict=True)
        ]
        features = self.fuse(torch.cat(projected, 1))
        return self.classifier(self.dropout(features)), features

    def head_modules(self) -> list[nn.Module]:
        """Return the parts of the decoder."""
        return [self.lateral, self.fuse, self.classifier]


def create_encoder(encoder: str) -> Any:
    """Create an encoder of timm that returns all its feature maps, with random weights.

    Raises:
        RequestError: timm has no encoder of that name, or the encoder gives no feature maps or takes images
            of one size only.
    """
    require_encoder(encoder)
    try:
        body = timm.create_model(encoder, features_only=True, pretrained=False)
    except (AttributeError, RuntimeError, ValueError) as problem:
        raise RequestError(
            f"timm's '{encoder}' gives no feature maps; choose a convolutional encoder or 'foundation:NAME'"
        ) from problem
    if not _takes_any_size(body):
        raise RequestError(
            f"timm's '{encoder}' takes images of one size only; choose a convolutional "
            f"encoder, or for a vision transformer 'foundation:{encoder}'"
        )
    return body


def _takes_any_size(body: nn.Module) -> bool:
    """Return whether an encoder gives maps [B, C_i, h, w] of images of any size; checks shapes only.

    Transformers with a fixed number of positions or windows refuse such images by an assertion.
    """
    shapes = {name: torch.empty_like(value, device="meta") for name, value in body.state_dict().items()}
    with evaluation_mode(body), torch.no_grad(), suppress(AssertionError):
        maps = functional_call(body, shapes, (torch.empty(1, 3, *_OTHER_SIZE, device="meta"),))
        return [x.shape[1] for x in maps] == list(body.feature_info.channels())  # type: ignore[union-attr, operator]
    return False


def first_convolutions(body: nn.Module) -> list[str]:
    """Return the names within a network of the convolutions that read RGB; an encoder's inner maps have more bands."""
    convolutions = [(name, part) for name, part in body.named_modules() if isinstance(part, nn.Conv2d)]
    return [f"encoder.{name}" for name, part in convolutions if part.in_channels == 3]


def stated_preprocessing(encoder: str) -> Preprocessing:
    """Return the preprocessing that timm states for an encoder's weights, or else ImageNet statistics."""
    stated = timm.get_pretrained_cfg(encoder)
    if stated is None:
        return Preprocessing()
    (r, g, b), (sr, sg, sb) = stated.mean, stated.std
    return Preprocessing((r, g, b), (sr, sg, sb))
