"""Labels that keep the class shares which their probabilities expect.

The mean probability of a class over many pixels is the share of them that a network expects to belong to it. Its hard
labels have another: a class that is seldom the most probable one, such as a thin or rare one, gets fewer, and
self-training on hard labels drives it out. Asking labels for given shares is the constraint of class-balanced
self-labelling (CPSL, CVPR 2022, eq. 6, by optimal transport) and of distribution alignment (ReMixMatch, ICLR 2020,
section 3.1), with shares of the labelled data. A target may have other shares than the source, so here the constraint
is that the hard labels agree with the soft ones; nothing is said of what the shares are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_LEAST_SHARE = 1e-4
_LARGEST = 3.0


class ExpectedShares(nn.Module):
    """One number per class, added to the scores, by which the shares of hard labels become those of the probabilities.

    State: ``offset`` [K]; ``expected`` [K], the running mean probability; ``steps``.

    Args:
        classes: K.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> scores = torch.randn(1, 2, 64, 64) + torch.tensor([2.0, 0.0])[:, None, None]
        >>> shares = ExpectedShares(2)
        >>> for _ in range(100):
        ...     shares.follow(shares_of(scores, shares.offset), momentum=0.9)
        >>> soft, hard = shares_of(scores, shares.offset)
        >>> torch.allclose(soft, hard, atol=1e-3), bool(shares.offset[1] > shares.offset[0])
        (True, True)
    """

    offset: Tensor
    expected: Tensor
    steps: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.register_buffer("offset", torch.zeros(classes))
        self.register_buffer("expected", torch.zeros(classes))
        self.register_buffer("steps", torch.zeros(()))

    @torch.no_grad()
    def follow(self, shares: Tensor, momentum: float) -> None:
        """Move the offset of each class by how far, relative to what is expected, its hard share is from the soft one.

        Args:
            shares: [2, K] of :func:`shares_of` with the offset so far, the mean over processes.
            momentum: in [0, 1); the offset follows over about ``1 / (1 - momentum)`` steps.
        """
        soft, hard = shares.to(self.offset)
        self.expected.lerp_(soft, 1 - (1 - 1 / (self.steps + 1)).clamp(max=momentum))
        self.steps += 1
        step = (1 - momentum) * (soft - hard) / self.expected.clamp(min=_LEAST_SHARE)
        self.offset.add_(step.clamp(-1, 1)).clamp_(-_LARGEST, _LARGEST)


@torch.no_grad()
def shares_of(scores: Tensor, offset: Tensor | None = None) -> Tensor:
    """Return the mean probability of each class, and its share of the hard labels.

    Args:
        scores: [B, K, h, w], logits or log-probabilities.
        offset: [K], added before the hard labels are taken; None for nothing.

    Returns:
        [2, K] float32, each row summing to 1: soft and hard shares.
    """
    soft = scores.float().softmax(1).mean((0, 2, 3))
    raised = scores if offset is None else scores + offset[:, None, None]
    labels = raised.argmax(1).flatten()
    hard = torch.zeros_like(soft).index_add_(0, labels, soft.new_ones(()).expand(len(labels)) / len(labels))
    return torch.stack([soft, hard])
