"""The network of DAFormer (Hoyer et al., CVPR 2022): a four-stage encoder and a context-aware fusing head.

The published network has a Mix Transformer; any convolutional encoder of timm can take its place.
Mix Transformer and head have the parameter names of the public files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from segadapt.errors import RequestError
from segadapt.models.fusion_head import DAFormerHead, HeadNorm
from segadapt.models.halves import TwoHalves
from segadapt.models.mit import SIZES, STRIDES, MixTransformer
from segadapt.models.segmenter import IMAGENET, Preprocessing
from segadapt.models.timm_net import LITE_ENCODER, create_encoder, first_convolutions, stated_preprocessing

STAGES = 4
FINEST = 4
"""Stages with a smaller stride than this are not fused."""


class DAFormerNet(TwoHalves):
    """A Mix Transformer, or any convolutional encoder of timm, with the head of DAFormer.

    With ``mit_b5`` and the 19 classes of Cityscapes it has 85.16 M parameters, 3.71 M of them in the head.

    Args:
        classes: number of classes K.
        encoder: ``mit_b0`` to ``mit_b5``, or a timm name. Of a timm encoder, the four coarsest maps
            with stride 4 or more are fused.
        width: channels D of the head and of the features, at least 1.
        norm: normalisation of the head, ``batch`` or ``group``; see
            :class:`~segadapt.models.fusion_head.DAFormerHead`.
        dropout: probability that a feature channel is zeroed before the classifier, in [0, 1).
        drop_path: only for a Mix Transformer, see :class:`~segadapt.models.mit.MixTransformer`; None takes 0.1.
        preprocessing: None takes ImageNet statistics for a Mix Transformer, and timm's own statement for the rest.

    Attributes:
        encoder_channels: channels C_i of the maps of :meth:`encode`.

    Raises:
        RequestError: an argument is out of its range.
    """

    def __init__(
        self,
        classes: int,
        encoder: str = "mit_b5",
        *,
        width: int = 256,
        norm: HeadNorm = "batch",
        dropout: float = 0.1,
        drop_path: float | None = None,
        preprocessing: Preprocessing | None = None,
    ) -> None:
        if width < 1:
            raise RequestError(f"DAFormerNet: width is {width}; give at least 1 channel")
        architecture: dict[str, Any] = {"name": _name(encoder), "width": width, "norm": norm, "dropout": dropout}
        body: nn.Module
        if encoder in SIZES:
            architecture["drop_path"] = 0.1 if drop_path is None else drop_path
            body = MixTransformer(encoder, architecture["drop_path"])
            used, strides, channels = list(range(STAGES)), list(STRIDES), body.channels
        else:
            if drop_path is not None:
                raise RequestError(f"drop_path is an argument of Mix Transformers only; leave it out for '{encoder}'")
            body = create_encoder(encoder)
            used, strides, channels = _used_maps(encoder, body)
            preprocessing = preprocessing or stated_preprocessing(encoder)
        super().__init__(classes, preprocessing or IMAGENET, architecture)
        self.encoder = body
        self._stems = first_convolutions(body)
        self.used = used
        self.encoder_channels = [channels[i] for i in used]
        self.stride = strides[used[0]]
        self.feature_channels = width
        self.decode_head = DAFormerHead(self.encoder_channels, classes, width, norm, dropout)

    @property
    def stems(self) -> Sequence[str]:
        """The convolutions that read the images."""
        return self._stems

    def encode(self, x: Tensor) -> list[Tensor]:
        """Compute the encoder's maps [B, C_i, h_i, w_i] of preprocessed images [B, 3, H, W], finest first."""
        maps = self.encoder(x)
        return [maps[i] for i in self.used]

    def decode(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Compute logits [B, K, h_1, w_1] and features [B, D, h_1, w_1] from the maps of :meth:`encode`."""
        logits, features = self.decode_head(maps)
        return logits, features

    def head_modules(self) -> list[nn.Module]:
        return [self.decode_head]


def _name(encoder: str) -> str:
    """Return the name under which ``build_segmenter`` builds the network again."""
    if encoder in SIZES:
        return f"daformer_{encoder}"
    return "daformer_lite" if encoder == LITE_ENCODER else f"daformer:{encoder}"


def _used_maps(encoder: str, body: Any) -> tuple[list[int], list[int], list[int]]:
    """Return the numbers of a timm encoder's maps to fuse, and the strides and channels of all its maps."""
    strides, channels = list(body.feature_info.reduction()), list(body.feature_info.channels())
    used = [i for i, stride in enumerate(strides) if stride >= FINEST][-STAGES:]
    if not used:
        raise RequestError(f"encoder '{encoder}' has strides {strides}, none of them {FINEST} or more; choose another")
    return used, strides, channels
