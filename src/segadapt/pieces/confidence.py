"""Pseudo labels of a teacher and how far an image of them can be trusted (DACS; DAFormer eq. 3 and 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from segadapt.pieces.losses import upsample

Over = Literal["batch", "image"]


def labels_and_confidence(logits: Tensor, size: Sequence[int], align_corners: bool = False) -> tuple[Tensor, Tensor]:
    """Most probable class and its probability.

    Args:
        logits: [B, K, h, w].
        size: (H, W) to which the logits are brought first, one picture at a time.
        align_corners: see :func:`segadapt.pieces.losses.upsample`.

    Returns:
        Labels [B, H, W] int64 and confidence [B, H, W] float32 in (0, 1].
    """
    labels, confidence = [], []
    for one in logits:
        full = upsample(one[None], size, align_corners)
        best, label = full.max(1)
        labels.append(label)
        confidence.append((best - full.logsumexp(1)).exp())
    return torch.cat(labels), torch.cat(confidence)


def confident_share(confidence: Tensor, shown: Tensor, threshold: float, over: Over) -> Tensor:
    """Share of the pixels that are at least so confident (DAFormer eq. 4).

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
