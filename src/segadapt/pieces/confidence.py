"""Pseudo labels of a teacher and how far an image of them can be trusted (DACS; DAFormer eq. 3 and 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from segadapt.pieces.precision import at_least_float32
from segadapt.pieces.resizing import upsample

Over = Literal["batch", "image"]


_STRIP = 32
"""Rows that a CPU reduces at a time; they fit its cache."""


@torch.no_grad()
def labels_and_confidence(
    logits: Tensor, size: Sequence[int], align_corners: bool = False, dtype: torch.dtype = torch.int64
) -> tuple[Tensor, Tensor]:
    """Return the most probable class of each pixel and its probability, ``max_c softmax(logits)_c``.

    Full-size class scores exist for one image at a time, their softmax for a strip of it.

    Args:
        logits: [B, K, h, w]; log-probabilities give the same.
        size: (H, W) to which the logits are brought first.
        align_corners: see :func:`segadapt.pieces.resizing.upsample`.
        dtype: type of the labels, an integer type.

    Returns:
        Labels [B, H, W] and confidence [B, H, W] float32 in (0, 1].

    Example:
        >>> labels, confidence = labels_and_confidence(torch.randn(2, 19, 64, 128), (512, 1024))
        >>> labels.shape, confidence.shape
        (torch.Size([2, 512, 1024]), torch.Size([2, 512, 1024]))
    """
    height, width = int(size[0]), int(size[1])
    labels = torch.empty((len(logits), height, width), dtype=dtype, device=logits.device)
    confidence = torch.empty(labels.shape, dtype=at_least_float32(logits[:0]).dtype, device=logits.device)
    step = _STRIP if logits.device.type == "cpu" else 16 * _STRIP
    for index in range(len(logits)):
        full = upsample(logits[index : index + 1], size, align_corners)
        for top in range(0, height, step):
            strip = full[:, :, top : top + step]
            best, label = strip.max(1)
            labels[index, top : top + step] = label[0]
            confidence[index, top : top + step] = (best - strip.logsumexp(1)).exp_()[0]
    return labels, confidence


def confident_share(confidence: Tensor, shown: Tensor, threshold: float, over: Over) -> Tensor:
    """Return the share of the pixels that are at least so confident (DAFormer eq. 4).

    Args:
        confidence: [B, H, W].
        shown: [B, H, W] bool, pixels that show an image and not its padding.
        threshold: tau.
        over: each ``image`` by itself, as in the paper, or the ``batch`` together, as in the authors' code.

    Returns:
        q [B, 1, 1] in [0, 1].
    """
    sure = ((confidence >= threshold) & shown).sum((1, 2), keepdim=True).float()
    pixels = shown.sum((1, 2), keepdim=True).float()
    if over == "batch":
        sure, pixels = sure.sum(0, keepdim=True).expand_as(sure), pixels.sum(0, keepdim=True).expand_as(pixels)
    return sure / pixels.clamp(min=1)
