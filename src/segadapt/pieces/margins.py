"""Masks of the target pixels that may carry pseudo labels: none in the margins.

In Cityscapes the lowest and outermost pixels show the camera's car and the borders of the rectified
image; a predicted class means nothing there. DAFormer (Hoyer et al., CVPR 2022) leaves out margins of
every *crop*, wherever it lies; HRDA (ECCV 2022) leaves out margins of the *image*, which move with
the crop. Margins are shares of height and width, so they fit images of any size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from segadapt.pieces.windows import WindowLike, crossed, window_axes


class Margins(NamedTuple):
    """Margins of a crop or an image as shares of its height or width, each in [0, 1].

    Attributes:
        top, bottom: shares of the height.
        left, right: shares of the width.
    """

    top: float = 0.0
    bottom: float = 0.0
    left: float = 0.0
    right: float = 0.0


def crop_margins(output: Sequence[int], margins: Margins, device: torch.device | None = None) -> Tensor:
    """Mask the margins of a crop; the mask is the same for every crop.

    Args:
        output: (h, w) of the crop in pixels.
        margins: shares of the crop. A pixel belongs to a margin when its centre does.
        device: device of the result; None is the CPU.

    Returns:
        [h, w] bool, False within the margins.

    Example:
        >>> crop_margins((4, 2), Margins(top=0.25, bottom=0.5))[:, 0].tolist()
        [False, True, False, False]
    """
    height, width = ((torch.arange(int(n), dtype=torch.float64) + 0.5) / int(n) for n in (output[0], output[1]))
    tall, wide = _within(height, margins.top, margins.bottom), _within(width, margins.left, margins.right)
    return crossed(tall[None], wide[None], device or torch.device("cpu"))[0]


def image_margins(
    windows: Sequence[WindowLike],
    sizes: Sequence[Sequence[int]],
    output: Sequence[int],
    margins: Margins,
    device: torch.device,
) -> Tensor:
    """Mask the margins of the images that crops were taken from, and all that lies beside the image.

    The margins are cut, scaled and mirrored with the crop, as a mask of the whole image would be.

    Args:
        windows: one window per image, in pixels of the image (``Samples.windows``).
        sizes: (height, width) of each image in pixels (``Samples.sizes``).
        output: (h, w) of the crops in pixels.
        margins: shares of the image; if all are zero, every pixel of the image is kept.
        device: device of the result.

    Returns:
        [B, h, w] bool, False within the margins and beside the image.

    Example:
        >>> from types import SimpleNamespace
        >>> window = SimpleNamespace(top=0, left=2, height=4, width=4, flip=False)
        >>> image_margins([window], [(4, 6)], (4, 4), Margins(right=1 / 6), torch.device("cpu"))[0, 0].tolist()
        [True, True, True, False]
    """
    rows, columns = window_axes(windows, sizes, output)
    tall = _within((rows + 1) / 2, margins.top, margins.bottom)
    wide = _within((columns + 1) / 2, margins.left, margins.right)
    return crossed(tall, wide, device)


def _within(places: Tensor, before: float, after: float) -> Tensor:
    """Mark the places on an axis from 0 to 1 that lie between the margins at its two ends."""
    return (places >= before) & (places < 1 - after)
