"""Pseudo labels corrected online, and a loss that forgives the wrong ones (ProDA, CVPR 2021).

Equation numbers are those of Zhang et al. (ProDA); the symmetric cross entropy is that of Wang et al.,
ICCV 2019.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from segadapt.labels import IGNORE
from segadapt.pieces.losses import negative_log_likelihood, soft_negative_log_likelihood
from segadapt.pieces.terms import Term

_LEAST_PROBABILITY = 1e-7
_LEAST_TARGET = 1e-4


@torch.no_grad()
def rectified(probabilities: Tensor, weights: Tensor) -> Tensor:
    """Soft labels after reweighting, ``w_k p_k / sum_k' w_k' p_k'`` (eq. 3).

    Args:
        probabilities: [B, K, h, w] soft pseudo labels, fixed over the training.
        weights: [B, K, h, w], e.g. assignments to prototypes.
    """
    product = probabilities * weights
    return product / product.sum(1, keepdim=True).clamp(min=torch.finfo(product.dtype).tiny)


@torch.no_grad()
def hard_labels(probabilities: Tensor, threshold: float = 0.0) -> Tensor:
    """The most probable class [B, h, w] int64, IGNORE where its probability is below ``threshold``."""
    confidence, labels = probabilities.max(1)
    return labels.masked_fill(confidence < threshold, IGNORE)


def reverse_cross_entropy(log_p: Tensor, labels: Tensor) -> Term:
    """Cross entropy with prediction and label exchanged (the second half of eq. 8).

    ``-sum_k p_k log y_k`` with the one-hot label clamped to 1e-4 .. 1: each probability outside the
    label costs ``log 1e4``. Probabilities are clamped to at least 1e-7, below which they have no gradient.

    Args:
        log_p: [B, K, h, w] log-probabilities.
        labels: [B, h, w] train ids; IGNORE does not count.

    Returns:
        Sum and number of labelled pixels.
    """
    p = log_p.exp().clamp(min=_LEAST_PROBABILITY, max=1.0)
    valid = labels != IGNORE
    at_label = p.gather(1, torch.where(valid, labels, 0)[:, None]).squeeze(1)
    pixels = torch.where(valid, -math.log(_LEAST_TARGET) * (p.sum(1) - at_label), 0.0)
    return Term(pixels.sum(), valid.sum().to(p.dtype))


def soft_reverse_cross_entropy(log_p: Tensor, soft: Tensor) -> Term:
    """:func:`reverse_cross_entropy` with label distributions [B, K, h, w]; a zero vector is an ignored pixel."""
    p = log_p.exp().clamp(min=_LEAST_PROBABILITY, max=1.0)
    valid = soft.amax(1) > 0
    pixels = torch.where(valid, -(p * soft.clamp(min=_LEAST_TARGET, max=1.0).log()).sum(1), 0.0)
    return Term(pixels.sum(), valid.sum().to(p.dtype))


def symmetric_cross_entropy(log_p: Tensor, labels: Tensor, alpha: float, beta: float) -> dict[str, Term]:
    """``alpha CE + beta RCE`` (eq. 8); a term of weight 0 is left out.

    Args:
        log_p: [B, K, h, w] log-probabilities.
        labels: [B, h, w] train ids, or [B, K, h, w] label distributions (a zero vector is ignored).
        alpha, beta: weights.
    """
    soft = labels.ndim == log_p.ndim
    terms = {}
    if alpha:
        ce = soft_negative_log_likelihood if soft else negative_log_likelihood
        terms["ce"] = ce(log_p, labels).times(alpha)
    if beta:
        rce = soft_reverse_cross_entropy if soft else reverse_cross_entropy
        terms["rce"] = rce(log_p, labels).times(beta)
    return terms
