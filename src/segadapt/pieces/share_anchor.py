"""Class shares that pseudo labels are held to: those of the first labels.

Self-training drifts to the classes that it predicts already, and small ones vanish (Zou et al., CBST, ECCV 2018,
section 4.2). Distribution alignment (Berthelot et al., ReMixMatch, ICLR 2020, section 3.1) multiplies predictions by
the ratio of wanted and running shares. There the wanted shares are those of labelled data; a target domain may have
others, so here they are what the labelling network itself expects before it has learnt from its own labels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_LEAST_SHARE = 1e-5


class ShareAnchor(nn.Module):
    """Mean class probabilities of a labelling network, at first and now.

    State: ``first`` and ``now`` [K], summing to 1 after the first update; ``steps`` so far.

    Args:
        classes: K.

    Example:
        >>> anchor = ShareAnchor(2)
        >>> anchor.follow(torch.tensor([0.8, 0.2]), momentum=0.5, until=1)
        >>> anchor.follow(torch.tensor([1.0, 0.0]), momentum=0.5, until=1)
        >>> [round(s, 2) for s in anchor.now.tolist()]
        [0.9, 0.1]
        >>> [round(o, 2) for o in anchor.offset(1.0).tolist()]  # of log-probabilities: the second class is raised
        [-0.12, 0.69]
    """

    first: Tensor
    now: Tensor
    steps: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.register_buffer("first", torch.full((classes,), 1 / classes))
        self.register_buffer("now", torch.full((classes,), 1 / classes))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def follow(self, shares: Tensor, momentum: float, until: int) -> None:
        """Move the running shares; the first ones are the plain mean of the first steps.

        Args:
            shares: [K], mean probabilities of the network in this step, before any offset.
            momentum: share that each update keeps, in [0, 1); after t updates at most ``1 - 1 / (t + 1)``.
            until: number of steps that make the first shares.
        """
        self.now.lerp_(shares.to(self.now), 1 - (1 - 1 / (self.steps + 1)).clamp(max=momentum))
        moved = torch.where(self.steps < until, 1 / (self.steps + 1), 0.0)
        self.first.lerp_(shares.to(self.first), moved)
        self.steps += 1

    @torch.no_grad()
    def offset(self, strength: float) -> Tensor:
        """Return what is added to log-probabilities: ``strength log(first / now)`` [K]; ``strength`` in [0, 1]."""
        return strength * (self.first.clamp(min=_LEAST_SHARE) / self.now.clamp(min=_LEAST_SHARE)).log()
