"""Divergences between two soft class assignments: consistency of two views, and distillation.

Zhang et al. (ProDA), CVPR 2021, equations 9 and 12 (section 4.3); Li et al. (CPSL), CVPR 2022, equation 13.

Both papers sum divergences over the classes; their codes, for which their weights were chosen, take the mean over the K
classes too. A weight of g then acts on a pixel like g / K: 10 / 19 on GTA5. With K classes, g K / 19 acts like the
published g.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from segadapt.pieces.losses import log_probabilities
from segadapt.pieces.terms import Term


def prototypical_consistency(
    distance: Tensor, target: Tensor, valid: Tensor, temperature: float | Tensor = 1.0
) -> Term:
    """Compute the divergence of one view's assignment to prototypes from another view's (ProDA eq. 9).

    ``sum_k z_k (log z_k - log softmax_k(-d_k T))``, where z is the target. The sum over the classes is
    divided by their number, as in the authors' code, for which their weight of 10 was chosen (with 19 classes).

    Args:
        distance: d [B, K, h, w] of the view that learns, with gradient.
        target: z [B, K, h, w], assignment of the other view at the same places, without gradient.
        valid: [B, h, w] bool, places that both views show.
        temperature: T, see :func:`~segadapt.pieces.prototypes.assignment`.

    Returns:
        Sum in nats, and the number of valid pixels times K.

    Example:
        >>> d, valid = torch.tensor([0.0, 1.0]).view(1, 2, 1, 1), torch.tensor([[[True]]])
        >>> abs(round(prototypical_consistency(d, assignment(d), valid).mean().item(), 4))  # views agree
        0.0
    """
    log_s = (-distance * temperature).log_softmax(1)
    pixels = torch.where(valid, _divergence(target, log_s).sum(1), 0.0)
    return Term(pixels.sum(), valid.sum().to(pixels.dtype) * distance.shape[1])


def symmetric_divergence(log_p: Tensor, log_q: Tensor, valid: Tensor) -> Term:
    """Compute ``KL(p || q) + KL(q || p)`` of two predictions at the same places (CPSL eq. 13).

    The sum over the classes is divided by their number, as in :func:`prototypical_consistency`.

    Args:
        log_p, log_q: [B, K, h, w] log-probabilities; either may be without gradient.
        valid: [B, h, w] bool, places that count.

    Returns:
        Sum in nats, and the number of valid pixels times K.

    Example:
        >>> log_p = torch.tensor([0.75, 0.25]).log().view(1, 2, 1, 1)
        >>> round(symmetric_divergence(log_p, log_p.flip(1), torch.tensor([[[True]]])).mean().item(), 4)  # log(3) / 2
        0.5493
    """
    pixels = ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(1)
    return Term(torch.where(valid, pixels, 0.0).sum(), valid.sum().to(pixels.dtype) * log_p.shape[1])


def distillation(logits: Tensor, teacher: Tensor, variant: Literal["paper", "official"] = "paper") -> Term:
    """Compute the divergence of the student's prediction from the teacher's (ProDA eq. 12).

    ``paper`` is ``KL(teacher || student)`` summed over the classes. ``official`` is the formula of the
    published code: it passes probabilities where log-probabilities are due, and takes the mean over
    classes too, so that its gradient is some twenty times smaller; it can be negative.

    Args:
        logits: [B, K, h, w] of the student.
        teacher: [B, K, h, w] logits of the teacher, without gradient.
        variant: ``paper`` or ``official``, see above.

    Returns:
        Sum in nats, and the number of pixels (times K for ``official``).

    Example:
        >>> teacher = torch.tensor([0.75, 0.25]).log().view(1, 2, 1, 1)
        >>> round(distillation(torch.zeros(1, 2, 1, 1), teacher).mean().item(), 4)
        0.1308
    """
    log_s, log_t = log_probabilities(logits), log_probabilities(teacher)
    t = log_t.exp()
    pixels = t.new_full((), float(t[:, 0].numel()))
    if variant == "paper":
        return Term((t * (log_t - log_s)).sum(), pixels)
    return Term((t * (log_t - log_s.exp())).sum(), pixels * t.shape[1])


def _divergence(target: Tensor, log_s: Tensor) -> Tensor:
    """Compute ``t (log t - s)`` elementwise; zero where t is zero."""
    entropy: Tensor = torch.xlogy(target, target)
    return entropy - target * log_s
