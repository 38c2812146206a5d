"""Soft pseudo labels corrected online, and a loss that tolerates wrong labels.

Equation numbers are from ProDA (Zhang et al., CVPR 2021). The symmetric cross entropy is due to
Wang et al., ICCV 2019.
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
    """Reweight soft labels: ``w_k p_k / sum_k' w_k' p_k'`` (ProDA eq. 3).

    Args:
        probabilities: [B, K, h, w] soft pseudo labels, fixed during training.
        weights: [B, K, h, w], at least 0, e.g. assignments to prototypes.

    Returns:
        [B, K, h, w], summing to 1 over the classes; zeros where all products are zero.

    Example:
        >>> p, w = torch.tensor([0.5, 0.5]).view(1, 2, 1, 1), torch.tensor([0.9, 0.3]).view(1, 2, 1, 1)
        >>> [round(x, 4) for x in rectified(p, w).flatten().tolist()]
        [0.75, 0.25]
    """
    product = probabilities * weights
    return product / product.sum(1, keepdim=True).clamp(min=torch.finfo(product.dtype).tiny)


@torch.no_grad()
def hard_labels(probabilities: Tensor, threshold: float = 0.0) -> Tensor:
    """Take the most probable class of each pixel.

    Args:
        probabilities: [B, K, h, w].
        threshold: pixels whose largest probability is below it are ignored.

    Returns:
        [B, h, w] int64 train ids, IGNORE below the threshold.

    Example:
        >>> p = torch.tensor([[0.9, 0.4], [0.1, 0.6]]).view(1, 2, 1, 2)
        >>> hard_labels(p, threshold=0.8).tolist()
        [[[0, 255]]]
    """
    confidence, labels = probabilities.max(1)
    return labels.masked_fill(confidence < threshold, IGNORE)


def reverse_cross_entropy(log_p: Tensor, labels: Tensor) -> Term:
    """Compute the cross entropy with prediction and label exchanged (second half of ProDA eq. 7).

    ``-sum_k p_k log y_k`` with the one-hot label clamped to 1e-4 .. 1, so probability outside the label
    costs ``log 1e4`` nats. Probabilities are clamped to at least 1e-7; below it they have no gradient.

    Args:
        log_p: [B, K, h, w] log-probabilities.
        labels: [B, h, w] train ids; IGNORE does not count.

    Returns:
        Sum and number of labelled pixels.

    Example:
        >>> log_p = torch.tensor([0.75, 0.25]).log().view(1, 2, 1, 1)
        >>> round(reverse_cross_entropy(log_p, torch.tensor([[[0]]])).mean().item(), 4)  # log(1e4) / 4
        2.3026
    """
    p = log_p.exp().clamp(min=_LEAST_PROBABILITY, max=1.0)
    valid = labels != IGNORE
    at_label = p.gather(1, torch.where(valid, labels, 0)[:, None]).squeeze(1)
    pixels = torch.where(valid, -math.log(_LEAST_TARGET) * (p.sum(1) - at_label), 0.0)
    return Term(pixels.sum(), valid.sum().to(p.dtype))


def soft_reverse_cross_entropy(log_p: Tensor, soft: Tensor) -> Term:
    """Compute :func:`reverse_cross_entropy` with label distributions.

    Args:
        log_p: [B, K, h, w] log-probabilities.
        soft: [B, K, h, w] label distributions; a zero vector is an ignored pixel.

    Returns:
        Sum and number of labelled pixels.

    Example:
        >>> log_p = torch.tensor([0.75, 0.25]).log().view(1, 2, 1, 1)
        >>> round(soft_reverse_cross_entropy(log_p, torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)).mean().item(), 4)
        2.3026
    """
    p = log_p.exp().clamp(min=_LEAST_PROBABILITY, max=1.0)
    valid = soft.amax(1) > 0
    pixels = torch.where(valid, -(p * soft.clamp(min=_LEAST_TARGET, max=1.0).log()).sum(1), 0.0)
    return Term(pixels.sum(), valid.sum().to(p.dtype))


def symmetric_cross_entropy(log_p: Tensor, labels: Tensor, alpha: float, beta: float) -> dict[str, Term]:
    """Compute ``alpha CE + beta RCE`` as two terms (ProDA eq. 7); a term of weight 0 is left out.

    Args:
        log_p: [B, K, h, w] log-probabilities.
        labels: [B, h, w] train ids, or [B, K, h, w] label distributions (a zero vector is ignored).
        alpha, beta: weights of the cross entropy and the reverse cross entropy.

    Returns:
        Weighted terms under ``ce`` and ``rce``.

    Example:
        >>> log_p = torch.tensor([0.75, 0.25]).log().view(1, 2, 1, 1)
        >>> terms = symmetric_cross_entropy(log_p, torch.tensor([[[0]]]), alpha=0.1, beta=1.0)
        >>> {name: round(term.mean().item(), 4) for name, term in terms.items()}
        {'ce': 0.0288, 'rce': 2.3026}
    """
    soft = labels.ndim == log_p.ndim
    terms = {}
    if alpha:
        ce = soft_negative_log_likelihood if soft else negative_log_likelihood
        terms["ce"] = alpha * ce(log_p, labels)
    if beta:
        rce = soft_reverse_cross_entropy if soft else reverse_cross_entropy
        terms["rce"] = beta * rce(log_p, labels)
    return terms
