"""Two resolutions of one picture: a detail crop of it, and class scores of both made into one map.

Hoyer, Dai, Van Gool: HRDA: Context-Aware High-Resolution Domain-Adaptive Semantic Segmentation,
ECCV 2022. The whole crop is seen at low resolution (context), a part of it at full resolution
(detail); an attention in [0, 1], predicted from the context, says where to trust the detail.

A box is (top, left, bottom, right), half open, in pixels or in cells of a map.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from segadapt.core.types import Size
from segadapt.pieces.resizing import upsample

Box = tuple[int, int, int, int]


def draw_box(size: Size, detail: Size, divisor: int, reach_end: bool = True) -> Box:
    """A random box of the size ``detail`` in an image, its corner a multiple of ``divisor`` pixels.

    Two draws of torch's CPU generator at most (rows first), none along an axis without room; no
    device is asked.

    Args:
        size: (height, width) of the image.
        detail: (height, width) of the box, at most ``size``.
        divisor: step of the positions in pixels.
        reach_end: the last position, where the box touches the end of the image, may be drawn too.
            The public code leaves it out by counting to ``(margin + 1) // divisor`` exclusively, so that
            the last ``divisor`` rows and columns never get a detail.
    """
    corner = []
    for length, side in zip(size, detail, strict=True):
        margin = length - side
        positions = margin // divisor + 1 if reach_end else max(1, (margin + 1) // divisor)
        corner.append(divisor * int(torch.randint(positions, ())) if positions > 1 else 0)
    return corner[0], corner[1], corner[0] + detail[0], corner[1] + detail[1]


def in_cells(box: Box, size: Size, cells: Size) -> Box:
    """A box in pixels of an image of ``size`` as one in cells of a map of ``cells`` that covers the image.

    ValueError where an edge of the box lies within a cell; nothing is rounded.
    """
    found = []
    for edge, length, count in zip(box, size * 2, cells * 2, strict=True):
        cell, rest = divmod(edge * count, length)
        if rest:
            raise ValueError(f"the box {box} of an image of {size} pixels cuts cells of a map of {cells}")
        found.append(cell)
    return found[0], found[1], found[2], found[3]


def placed(maps: Tensor, box: Box, size: Size) -> Tensor:
    """Maps [B, C, h, w] at the place of ``box`` in maps of ``size`` that are zero elsewhere."""
    top, left, bottom, right = box
    return F.pad(maps, (left, size[1] - right, top, size[0] - bottom))


def kept_within(maps: Tensor, box: Box) -> Tensor:
    """Maps [B, C, h, w] with zeros outside ``box``: the attention of training, where only the box has a detail."""
    top, left, bottom, right = box
    return placed(maps[..., top:bottom, left:right], box, (maps.shape[-2], maps.shape[-1]))


def fuse_scales(context: Tensor, detail: Tensor, attention: Tensor) -> Tensor:
    """Class scores of both resolutions in one map: ``up((1 - a) Z_c) + up(a) Z_d`` (HRDA, scale attention).

    The context is weighted on its own coarse grid and enlarged then, bilinearly. At the rim of a
    box in which ``attention`` was kept (:func:`kept_within`) the enlarged attention fades within a
    cell, and beyond the box meets a detail of zero: scores are slightly damped there, as published.

    Args:
        context: Z_c [B, K, h, w] scores of the whole image.
        detail: Z_d [B, K, H, W] scores on the fine grid, zero where there is no detail.
        attention: a [B, K or 1, h, w] in [0, 1].

    Returns:
        [B, K, H, W], at least float32.
    """
    size = detail.shape[-2:]
    return upsample((1 - attention) * context, size) + upsample(attention, size) * detail


def average_windows(windows: Tensor, boxes: Sequence[Box], size: Size) -> Tensor:
    """Mean of overlapping windows at every cell.

    Args:
        windows: [N B, C, h, w], window by window, within it image by image.
        boxes: N boxes in cells, each h x w; together they cover the map.
        size: (height, width) of the map in cells.

    Returns:
        [B, C, height, width].
    """
    parts = windows.chunk(len(boxes))
    total = windows.new_zeros((*parts[0].shape[:2], *size))
    count = windows.new_zeros(size)
    for part, (top, left, bottom, right) in zip(parts, boxes, strict=True):
        total[..., top:bottom, left:right] += part
        count[top:bottom, left:right] += 1
    return total / count
