"""Cross entropy with hard and soft labels, and the model regulariser of confidence-regularised self-training.

Every loss is a :class:`~segadapt.pieces.terms.Term`, a sum with the number of pixels it is taken
over, so that means stay means when a batch is split over processes. Most take log-probabilities, so that
several losses of one prediction pay for a single log-softmax (:func:`log_probabilities`).

Half-precision logits are brought to float32 before they are upsampled and normalised.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from segadapt.labels import IGNORE
from segadapt.pieces.precision import at_least_float32
from segadapt.pieces.resizing import upsample
from segadapt.pieces.terms import Term

Over = Literal["valid", "all"]
"""The pixels that a mean is taken over."""

_ROWS = 8192
"""Pixels that a CPU works on at a time."""


def log_probabilities(
    logits: Tensor, size: Sequence[int] | None = None, align_corners: bool = False, channels_last: bool = False
) -> Tensor:
    """Return the log softmax over the classes of [B, K, h, w], brought to ``size`` first where it is given.

    ``channels_last`` lays the result out with the classes of a pixel side by side. For few classes
    that halves the cost of hard labels and entropies at full resolution: enlarging, the softmax over
    neighbours, and above all the way back take one sweep over memory each.
    """
    if channels_last:
        logits = logits.contiguous(memory_format=torch.channels_last)
    logits = at_least_float32(logits) if size is None else upsample(logits, size, align_corners)
    if channels_last:
        return F.log_softmax(logits.permute(0, 2, 3, 1), 3).permute(0, 3, 1, 2)
    return F.log_softmax(logits, 1)


def cross_entropy(
    logits: Tensor,
    labels: Tensor,
    size: Sequence[int] | None = None,
    align_corners: bool = False,
    *,
    weights: Tensor | None = None,
) -> Term:
    """Sum the cross entropy in nats over the labelled pixels (CBST eq. 1 and 6).

    Args:
        logits: [B, K, h, w].
        labels: [B, H, W] train ids of any integer type; IGNORE and negative labels do not count.
            Any other label outside 0 .. K-1 is an IndexError.
        size: upsample the logits to this (height, width) first; must then be (H, W).
        align_corners: see :func:`~segadapt.pieces.resizing.upsample`.
        weights: [B, H, W] factor on the loss of each pixel, e.g. the trust in pseudo labels.

    Returns:
        Sum and number of labelled pixels; both are zero, with zero gradient, if there are none.

    Example:
        >>> logits, labels = torch.zeros(1, 4, 2, 2), torch.tensor([[[0, 1], [2, 255]]])
        >>> loss = cross_entropy(logits, labels)
        >>> round(loss.mean().item(), 3), int(loss.count)
        (1.386, 3)
    """
    return negative_log_likelihood(log_probabilities(logits, size, align_corners, channels_last=True), labels, weights)


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
    by_pixel = log_p.permute(0, 2, 3, 1)
    if by_pixel.is_contiguous():  # the loss of maps would copy them to another layout
        log_p, labels = by_pixel.flatten(0, 2), labels.flatten()
        weights = None if weights is None else weights.flatten()
    pixels = F.nll_loss(log_p, labels, ignore_index=IGNORE, reduction="none")
    if weights is not None:
        pixels = pixels * weights
    count = _count(labels != IGNORE, log_p) if over == "valid" else log_p.new_full((), labels.numel())
    return Term(pixels.sum(), count)


def soft_negative_log_likelihood(log_p: Tensor, soft: Tensor) -> Term:
    """Cross entropy with soft labels: the sum over pixels of ``-sum_c y_c log p_c`` (CRST, LRENT).

    Args:
        log_p: [B, K, H, W] log-probabilities.
        soft: [B, K, H, W] label distributions y without gradient; a zero vector is an ignored pixel.

    Returns:
        Sum and number of pixels whose label is not all zero.
    """
    return Term(-(soft * log_p).sum(), _count(soft.amax(1) > 0, log_p))


def divergence_from_uniform(log_p: Tensor, valid: Tensor) -> Term:
    """Sum the model regulariser MRKLD, ``-1/K sum_c log p_c`` per pixel, over the valid pixels (CRST).

    Up to the constant log K this is the divergence KL(uniform || p) of the prediction from it;
    it is smallest when all classes are equally likely.

    Args:
        log_p: [B, K, H, W] log-probabilities.
        valid: [B, H, W] bool, the labelled pixels of target images.

    Returns:
        Sum and number of valid pixels.
    """
    pixels = torch.where(valid, -log_p.mean(1), 0.0)
    return Term(pixels.sum(), _count(valid, log_p))


class _LikelihoodAndEntropy(torch.autograd.Function):
    """Sums over pixels of ``-log p_y`` and of the entropy H of p, with the gradient of both written down.

    Both gradients, ``p - y`` and ``-p (log p + H)``, are made in the forward pass; on a CPU some thousand pixels at a
    time, so that they stay in its cache. Autograd would make eleven maps of all classes; here there are two.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, shown: Tensor) -> tuple[Tensor, Tensor]:
        """Take logits [P, K], labels [P] and the pixels [P] that count for the entropy."""
        rows = _ROWS if logits.device.type == "cpu" else max(1, len(logits))
        labelled = labels != IGNORE
        places = torch.where(labelled, labels, 0)[:, None]
        fitted, counted = labelled[:, None].to(logits.dtype), shown[:, None].to(logits.dtype)
        of_likelihood, of_entropy = torch.empty_like(logits), torch.empty_like(logits)
        sums = []
        for part in (slice(first, first + rows) for first in range(0, len(logits), rows)):
            log_p = F.log_softmax(logits[part], 1)
            p = torch.exp(log_p, out=of_likelihood[part])
            weighted = torch.mul(p, log_p, out=of_entropy[part])
            negative = weighted.sum(1, keepdim=True)  # -H
            weighted.addcmul_(p, negative, value=-1).mul_(-counted[part])
            p.mul_(fitted[part]).scatter_add_(1, places[part], -fitted[part])
            sums.append(
                torch.stack([(log_p.gather(1, places[part]) * fitted[part]).sum(), (negative * counted[part]).sum()])
            )
        ctx.save_for_backward(of_likelihood, of_entropy)
        totals = -torch.stack(sums).sum(0) if sums else logits.new_zeros(2)
        return totals[0], totals[1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_likelihood: Tensor, by_entropy: Tensor) -> tuple[Tensor, None, None]:
        """Return the sum of the two gradients, weighted."""
        of_likelihood, of_entropy = ctx.saved_tensors
        return (of_likelihood * by_likelihood).addcmul_(of_entropy, by_entropy), None, None


def cross_entropy_and_entropy(
    logits: Tensor, labels: Tensor, shown: Tensor, size: Sequence[int], align_corners: bool = False
) -> tuple[Term, Term]:
    """Cross entropy and entropy (``-sum_c p_c log p_c``, in nats) of one prediction, at less than the cost of the two.

    Args:
        logits: [B, K, h, w], upsampled to ``size`` = (H, W).
        labels: [B, H, W] train ids; see :func:`cross_entropy`.
        shown: [B, H, W] bool, pixels whose entropy counts.
        size, align_corners: see :func:`~segadapt.pieces.resizing.upsample`.
    """
    full = upsample(logits.contiguous(memory_format=torch.channels_last), size, align_corners)
    flat = labels.long().flatten()
    pixels = full.permute(0, 2, 3, 1).flatten(0, 2)
    fitting, unsure = _LikelihoodAndEntropy.apply(pixels, flat.masked_fill(flat < 0, IGNORE), shown.flatten())
    labelled = (labels >= 0) & (labels != IGNORE)
    return Term(fitting, _count(labelled, full)), Term(unsure, _count(shown, full))


def nearest_labels(labels: Tensor, size: Sequence[int], at: Literal["corner", "centre"] = "corner") -> Tensor:
    """Bring label maps [B, H, W] to ``size`` = (h, w) by taking one pixel of each cell.

    Args:
        labels: [B, H, W] of any type.
        size: (h, w) in cells.
        at: the pixel at the top left ``corner`` of the cell, as ``interpolate(mode="nearest")`` does and with it the
            code of ProDA, CPSL and BCL, or the one at its ``centre`` (``mode="nearest-exact"``), which is right more
            often: a corner is half a cell away from what the cell's feature stands for.

    Example:
        >>> labels = torch.arange(4)[None, None]
        >>> nearest_labels(labels, (1, 1)).item(), nearest_labels(labels, (1, 1), at="centre").item()
        (0, 2)
    """
    if tuple(labels.shape[-2:]) == tuple(size):
        return labels
    odd = int(at == "centre")
    rows, columns = (
        (2 * torch.arange(cells, device=labels.device) + odd) * length // (2 * cells)
        for cells, length in zip(map(int, size), labels.shape[1:], strict=True)
    )
    return labels[:, rows[:, None], columns]


def _count(valid: Tensor, like: Tensor) -> Tensor:
    return valid.sum().to(like.dtype)
