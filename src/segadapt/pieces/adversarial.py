"""Loss of adversarial training in the output space (Tsai et al., CVPR 2018).

A discriminator looks at maps of class probabilities and gives one raw score per patch: low for the
source (label 0), high for the target (label 1).
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from segadapt.pieces.precision import at_least_float32
from segadapt.pieces.terms import Term

Gan = Literal["vanilla", "ls"]
SOURCE, TARGET = 0.0, 1.0


def domain_loss(scores: Tensor, domain: float, gan: Gan = "vanilla") -> Term:
    """Measure how far a discriminator's scores are from calling everything ``domain``.

    The discriminator learns with the true domain (Tsai et al., CVPR 2018, eq. 1); the segmentation
    network learns with ``SOURCE`` for target images (eq. 3).

    Args:
        scores: [B, 1, h, w] raw scores (logits) of the discriminator.
        domain: ``SOURCE`` (0) or ``TARGET`` (1).
        gan: ``vanilla`` is the binary cross entropy of the scores as logits, in nats; ``ls`` is the
            squared error of the raw scores (least squares).

    Returns:
        Sum over the scores, and their number.

    Example:
        >>> scores = torch.zeros(1, 1, 2, 2)
        >>> domain_loss(scores, 1.0, gan="ls").mean().item()
        1.0
        >>> round(domain_loss(scores, 1.0).mean().item(), 4)  # log 2
        0.6931
    """
    scores = at_least_float32(scores)
    wanted = torch.full_like(scores, domain)
    loss = F.binary_cross_entropy_with_logits if gan == "vanilla" else F.mse_loss
    return Term(loss(scores, wanted, reduction="sum"), wanted.new_full((), float(scores.numel())))
