"""Which pixels of a target crop may carry pseudo labels: none in the margins of the picture.

The car that carries the camera and the borders of a rectified image show in the lowest and the
outermost pixels of Cityscapes; no class of a prediction there means anything. DAFormer (Hoyer et al.,
CVPR 2022) leaves out margins of every *crop*, wherever it lies; HRDA (ECCV 2022) those of the *image*,
which move with the crop. Margins are shares of the height and the width, so they fit images of any size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from segadapt.pieces.windows import WindowLike, window_axes


class Margins(NamedTuple):
    """Margins of a crop or an image as shares of its height (top, bottom) and width (left, right), in 0 .. 1."""

    top: float = 0.0
    bottom: float = 0.0
    left: float = 0.0
    right: float = 0.0


DAFORMER_CROP = Margins(top=15 / 512, bottom=120 / 512)
"""Of crops: 15 rows at the top and 120 at the bottom of 512 (DAFormer, on all of its targets)."""

HRDA_CITYSCAPES = Margins(top=30 / 1024, bottom=240 / 1024, left=30 / 2048, right=30 / 2048)
"""Of images: 30 rows at the top, 240 at the bottom and 30 columns at both sides of 1024 x 2048 (HRDA, MIC)."""


def crop_margins(output: Sequence[int], margins: Margins, device: torch.device | None = None) -> Tensor:
    """[h, w] bool, False within the margins of a crop: the same for every crop.

    Args:
        output: (h, w) of the crop in pixels.
        margins: shares of the crop. A pixel belongs to a margin when its centre does.
        device: of the result.
    """
    height, width = ((torch.arange(int(n), dtype=torch.float64) + 0.5) / int(n) for n in (output[0], output[1]))
    tall, wide = _within(height, margins.top, margins.bottom), _within(width, margins.left, margins.right)
    return tall.to(device, non_blocking=True)[:, None] & wide.to(device, non_blocking=True)


def image_margins(
    windows: Sequence[WindowLike],
    sizes: Sequence[Sequence[int]],
    output: Sequence[int],
    margins: Margins,
    device: torch.device,
) -> Tensor:
    """[B, h, w] bool, False where a crop shows the margins of its image, or what lies beside the image.

    The margins are cut, scaled and mirrored with the crop, as a mask of the whole image would be.

    Args:
        windows: one window an image, in pixels of the image (``Samples.windows``).
        sizes: (height, width) of each image in pixels (``Samples.sizes``).
        output: (h, w) of the crops in pixels.
        margins: shares of the image; all zero keeps every pixel of the image.
        device: of the result.
    """
    rows, columns = window_axes(windows, sizes, output)
    tall = _within((rows + 1) / 2, margins.top, margins.bottom).to(device, non_blocking=True)
    wide = _within((columns + 1) / 2, margins.left, margins.right).to(device, non_blocking=True)
    return tall[:, :, None] & wide[:, None, :]


def _within(places: Tensor, before: float, after: float) -> Tensor:
    """Which places on an axis from 0 to 1 lie between the margins at its two ends."""
    return (places >= before) & (places < 1 - after)
