"""Cross entropy with hard and soft labels, and the model regulariser of confidence-regularised self-training.

Every loss is a :class:`~segadapt.pieces.terms.Term`, a sum with the number of pixels it is taken
over, so that means stay means when a batch is split over processes. Each loss comes in two forms:
one on logits, and one on log-probabilities for methods that need several losses of one prediction
and want to pay for a single log-softmax.

Half-precision logits are brought to float32 before they are upsampled and normalised.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from segadapt.labels import IGNORE
from segadapt.pieces.terms import Term

Over = Literal["valid", "all"]
"""The pixels that a mean is taken over."""


def upsample(logits: Tensor, size: Sequence[int], align_corners: bool = False) -> Tensor:
    """Bilinear resize of class scores to the size of the labels, in at least float32.

    Args:
        logits: [B, K, h, w].
        size: (height, width) in pixels; logits that have it already are returned as they are.
        align_corners: corner pixels keep their centres, as in the AdaptSegNet and CRST scripts.

    Returns:
        [B, K, height, width].
    """
    logits = _at_least_float32(logits)
    height, width = int(size[0]), int(size[1])
    if tuple(logits.shape[-2:]) == (height, width):
        return logits
    return F.interpolate(logits, (height, width), mode="bilinear", align_corners=align_corners)


def log_probabilities(logits: Tensor, size: Sequence[int] | None = None, align_corners: bool = False) -> Tensor:
    """log softmax over the classes of [B, K, h, w], after :func:`upsample` when ``size`` is given."""
    logits = _at_least_float32(logits) if size is None else upsample(logits, size, align_corners)
    return F.log_softmax(logits, 1)


def cross_entropy(
    logits: Tensor, labels: Tensor, size: Sequence[int] | None = None, align_corners: bool = False
) -> Term:
    """Cross entropy in nats, summed over the labelled pixels (CBST eq. 1 and 6).

    Args:
        logits: [B, K, h, w].
        labels: [B, H, W] train ids of any integer type; IGNORE and negative labels do not count.
            Any other label outside 0 .. K-1 is an IndexError.
        size: upsample the logits to this (height, width) first; must then be (H, W).
        align_corners: see :func:`upsample`.

    Returns:
        Sum and number of labelled pixels; both are zero, with zero gradient, if there are none.
    """
    return negative_log_likelihood(log_probabilities(logits, size, align_corners), labels)


def negative_log_likelihood(log_p: Tensor, labels: Tensor, weights: Tensor | None = None, over: Over = "valid") -> Term:
    """:func:`cross_entropy` of log-probabilities [B, K, H, W] with labels [B, H, W].

    Args:
        log_p: [B, K, H, W].
        labels: [B, H, W].
        weights: [B, H, W] factor on the loss of each pixel; the count stays a number of pixels.
        over: ``valid`` counts labelled pixels, ``all`` the ignored ones too, as mmsegmentation does.
    """
    labels = labels.long()
    labels = labels.masked_fill(labels < 0, IGNORE)
    pixels = F.nll_loss(log_p, labels, ignore_index=IGNORE, reduction="none")
    if weights is not None:
        pixels = pixels * weights
    count = _count(labels != IGNORE, log_p) if over == "valid" else log_p.new_full((), labels.numel())
    return Term(pixels.sum(), count)


def soft_cross_entropy(logits: Tensor, soft: Tensor) -> Term:
    """Cross entropy with soft labels: the sum over pixels of ``-sum_c y_c log p_c`` (CRST, LRENT).

    Args:
        logits: [B, K, H, W].
        soft: [B, K, H, W] label distributions y without gradient; a zero vector is an ignored pixel.

    Returns:
        Sum and number of pixels whose label is not all zero.
    """
    return soft_negative_log_likelihood(log_probabilities(logits), soft)


def soft_negative_log_likelihood(log_p: Tensor, soft: Tensor) -> Term:
    """:func:`soft_cross_entropy` of log-probabilities [B, K, H, W]."""
    return Term(-(soft * log_p).sum(), _count(soft.amax(1) > 0, log_p))


def model_kld(logits: Tensor, valid: Tensor) -> Term:
    """The model regulariser MRKLD: the sum over valid pixels of ``-1/K sum_c log p_c`` (CRST).

    Up to the constant log K this is the divergence of the prediction from the uniform
    distribution; it is smallest when all classes are equally likely.

    Args:
        logits: [B, K, H, W].
        valid: [B, H, W] bool, the labelled pixels of target images.

    Returns:
        Sum and number of valid pixels.
    """
    return divergence_from_uniform(log_probabilities(logits), valid)


def divergence_from_uniform(log_p: Tensor, valid: Tensor) -> Term:
    """:func:`model_kld` of log-probabilities [B, K, H, W]."""
    pixels = torch.where(valid, -log_p.mean(1), 0.0)
    return Term(pixels.sum(), _count(valid, log_p))


def entropy(log_p: Tensor, valid: Tensor) -> Term:
    """Entropy in nats of predictions, summed over valid pixels.

    Args:
        log_p: [B, K, H, W] log-probabilities.
        valid: [B, H, W] bool.
    """
    pixels = torch.where(valid, -(log_p.exp() * log_p).sum(1), 0.0)
    return Term(pixels.sum(), _count(valid, log_p))


def nearest_labels(labels: Tensor, size: Sequence[int]) -> Tensor:
    """Label maps [B, H, W] brought to ``size`` by the nearest pixel, as ``interpolate(mode="nearest")`` does."""
    if tuple(labels.shape[-2:]) == tuple(size):
        return labels
    rows = torch.arange(int(size[0]), device=labels.device) * labels.shape[1] // int(size[0])
    columns = torch.arange(int(size[1]), device=labels.device) * labels.shape[2] // int(size[1])
    return labels[:, rows[:, None], columns]


def _at_least_float32(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()


def _count(valid: Tensor, like: Tensor) -> Tensor:
    return valid.sum().to(like.dtype)
