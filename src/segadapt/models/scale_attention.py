"""The head of HRDA that decides from the context where to trust the detail."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from segadapt.models.fusion_head import ConvNorm, FusionHead, HeadNorm, require_norm

EMBEDDING = 256
DROPOUT = 0.1


class ScaleAttention(FusionHead):
    """Encoder maps of the context to attention logits [B, C, h, w] on the grid of the finest map.

    Each map is projected to 256 channels; all are enlarged to the finest and merged by a 1x1
    convolution. Parameters have the names of the public files.

    Args:
        channels: channels of the maps, finest first.
        out: C: number of classes K, or 1 for an attention that all classes share.
        norm: see :class:`~segadapt.models.fusion_head.DAFormerHead`.

    Raises:
        RequestError: ``norm`` is neither ``batch`` nor ``group``.
    """

    def __init__(self, channels: Sequence[int], out: int, norm: HeadNorm = "batch") -> None:
        require_norm(norm)
        super().__init__(channels, out, ConvNorm(EMBEDDING * len(channels), EMBEDDING, 1, norm), EMBEDDING, DROPOUT)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        return self.classified(self.fused(maps))
