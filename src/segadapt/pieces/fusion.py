"""Two resolutions of one image: draw a detail crop, and fuse the class scores of both (HRDA).

Hoyer, Dai, Van Gool: HRDA: Context-Aware High-Resolution Domain-Adaptive Semantic Segmentation,
ECCV 2022. The network sees the whole crop at low resolution (context) and a part of it at full
resolution (detail). An attention in [0, 1], predicted from the context, says where to trust the detail.

A box is (top, left, bottom, right) in pixels or in cells of a map; bottom and right are exclusive.
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
    """Draw a box of the size ``detail`` in an image; its corner is a multiple of ``divisor`` pixels.

    Takes at most two numbers from torch's CPU generator, for the row first; none along an axis where
    only one position fits. Nothing waits for a device.

    Args:
        size: (height, width) of the image.
        detail: (height, width) of the box, at most ``size``.
        divisor: step of the positions in pixels.
        reach_end: whether the last position, where the box touches the end of the image, may be drawn.
            The public code leaves it out by counting to ``(margin + 1) // divisor`` exclusively, so that
            the last ``divisor`` rows and columns never get a detail.

    Returns:
        The box in pixels.

    Example:
        >>> top, left, bottom, right = draw_box((64, 128), (32, 128), divisor=8)
        >>> bottom - top, top % 8, (left, right)
        (32, 0, (0, 128))
    """
    corner = []
    for length, side in zip(size, detail, strict=True):
        margin = length - side
        positions = margin // divisor + 1 if reach_end else max(1, (margin + 1) // divisor)
        corner.append(divisor * int(torch.randint(positions, ())) if positions > 1 else 0)
    return corner[0], corner[1], corner[0] + detail[0], corner[1] + detail[1]


def in_cells(box: Box, size: Size, cells: Size) -> Box:
    """Convert a box from pixels of an image to cells of a map that covers the image.

    Args:
        box: the box in pixels.
        size: (height, width) of the image in pixels.
        cells: (height, width) of the map in cells.

    Returns:
        The box in cells.

    Raises:
        ValueError: an edge of the box lies within a cell; nothing is rounded.

    Example:
        >>> in_cells((8, 0, 24, 32), size=(32, 32), cells=(4, 4))
        (1, 0, 3, 4)
    """
    found = []
    for edge, length, count in zip(box, size * 2, cells * 2, strict=True):
        cell, rest = divmod(edge * count, length)
        if rest:
            raise ValueError(f"the box {box} of an image of {size} pixels cuts cells of a map of {cells} cells")
        found.append(cell)
    return found[0], found[1], found[2], found[3]


def placed(maps: Tensor, box: Box, size: Size) -> Tensor:
    """Put maps at the place of ``box`` into larger maps that are zero elsewhere.

    Args:
        maps: [B, C, h, w], of the size of the box.
        box: place in cells.
        size: (height, width) of the result in cells.

    Returns:
        [B, C, height, width].

    Example:
        >>> placed(torch.ones(1, 1, 1, 2), (0, 1, 1, 3), (1, 4)).flatten().tolist()
        [0.0, 1.0, 1.0, 0.0]
    """
    top, left, bottom, right = box
    return F.pad(maps, (left, size[1] - right, top, size[0] - bottom))


def kept_within(maps: Tensor, box: Box) -> Tensor:
    """Set maps to zero outside ``box``, e.g. the attention in training, where only the box has a detail.

    Args:
        maps: [B, C, h, w].
        box: place in cells.

    Returns:
        [B, C, h, w].

    Example:
        >>> kept_within(torch.ones(1, 1, 1, 4), (0, 1, 1, 3)).flatten().tolist()
        [0.0, 1.0, 1.0, 0.0]
    """
    top, left, bottom, right = box
    return placed(maps[..., top:bottom, left:right], box, (maps.shape[-2], maps.shape[-1]))


def fuse_scales(context: Tensor, detail: Tensor, attention: Tensor) -> Tensor:
    """Fuse the class scores of both resolutions: ``up((1 - a) Z_c) + up(a) Z_d`` (HRDA, scale attention).

    The context is weighted on its own coarse grid and then enlarged bilinearly. If ``attention`` is
    zero outside a box (:func:`kept_within`), the enlarged attention fades to zero within one cell of the
    box's border. Beyond the border it meets a detail of zero, so scores are slightly damped there, as in
    the paper.

    Args:
        context: Z_c [B, K, h, w] scores of the whole image.
        detail: Z_d [B, K, H, W] scores on the fine grid, zero where there is no detail.
        attention: a [B, K or 1, h, w] in [0, 1].

    Returns:
        [B, K, H, W], at least float32.

    Example:
        >>> context, detail = torch.zeros(1, 2, 2, 2), torch.ones(1, 2, 4, 4)
        >>> fuse_scales(context, detail, torch.full((1, 1, 2, 2), 0.25)).unique().tolist()
        [0.25]
    """
    size = detail.shape[-2:]
    return upsample((1 - attention) * context, size) + upsample(attention, size) * detail


def average_windows(windows: Tensor, boxes: Sequence[Box], size: Size) -> Tensor:
    """Average overlapping windows at every cell.

    Args:
        windows: [N B, C, h, w], ordered by window first, then by image.
        boxes: N boxes in cells, each h x w; together they cover the map.
        size: (height, width) of the map in cells.

    Returns:
        [B, C, height, width].

    Example:
        >>> windows = torch.tensor([1.0, 3.0]).view(2, 1, 1, 1).expand(2, 1, 1, 2)
        >>> average_windows(windows, [(0, 0, 1, 2), (0, 1, 1, 3)], (1, 3)).flatten().tolist()
        [1.0, 2.0, 3.0]
    """
    parts = windows.chunk(len(boxes))
    total = windows.new_zeros((*parts[0].shape[:2], *size))
    count = windows.new_zeros(size)
    for part, (top, left, bottom, right) in zip(parts, boxes, strict=True):
        total[..., top:bottom, left:right] += part
        count[top:bottom, left:right] += 1
    return total / count
