"""Bilinear resizing of class scores and features."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from segadapt.pieces.precision import at_least_float32


def upsample(maps: Tensor, size: Sequence[int], align_corners: bool = False) -> Tensor:
    """Resize class scores or features bilinearly, in at least float32.

    Args:
        maps: [B, K, h, w], of any floating type.
        size: (height, width) in pixels; maps that have it already are not resized.
        align_corners: corner pixels keep their centres, as in the AdaptSegNet and CRST scripts.

    Returns:
        [B, K, height, width] float32, or float64 for float64 maps.

    Example:
        >>> upsample(torch.zeros(1, 19, 65, 129).half(), (512, 1024)).shape
        torch.Size([1, 19, 512, 1024])
    """
    maps = at_least_float32(maps)
    height, width = int(size[0]), int(size[1])
    if tuple(maps.shape[-2:]) == (height, width):
        return maps
    return F.interpolate(maps, (height, width), mode="bilinear", align_corners=align_corners)
