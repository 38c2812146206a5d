"""How sure a network usually is of each class, and the weight of a pseudo label by it.

Chen et al., SoftMatch, ICLR 2023, eq. 5 to 8, with moments per class instead of moments over all: a class that a
network is never very sure of, such as a thin or rare one, keeps as large a part of its pixels as the others.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from segadapt.pieces.precision import wide
from segadapt.pieces.teacher import growing_momentum

_LEAST_VARIANCE = 1e-6


class ClassConfidence(nn.Module):
    """Running mean and variance of the confidence of each class.

    State: ``mean`` [K] in [0, 1] and ``variance`` [K], zeros until a class is seen; ``steps`` [K], the updates that saw
    the class.

    Args:
        classes: K.

    Example:
        >>> sureness = ClassConfidence(2)
        >>> labels, confidence = torch.tensor([0, 0, 1, 1]), torch.tensor([1.0, 0.8, 0.5, 0.3])
        >>> sureness.follow(sureness.tally(labels, confidence), momentum=0.9)
        >>> [round(m, 2) for m in sureness.mean.tolist()]
        [0.9, 0.4]
        >>> sureness.weights(labels, confidence, width=0.5).gt(0.5).tolist()  # the surer half of both classes
        [True, False, True, False]
    """

    mean: Tensor
    variance: Tensor
    steps: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        for name in ("mean", "variance", "steps"):
            self.register_buffer(name, torch.zeros(classes))

    @torch.no_grad()
    def tally(self, labels: Tensor, confidence: Tensor, counted: Tensor | None = None) -> Tensor:
        """Sum a batch up, so that processes can add their sums.

        Args:
            labels: train ids 0 .. K-1 of any shape.
            confidence: their probabilities, of the same shape.
            counted: bool of the same shape, the pixels that count; None counts all.

        Returns:
            [3, K] in the widest type of the device: pixels, sum and sum of squares of their confidence, by class.
        """
        value = confidence.flatten().to(wide(confidence.device))
        ones = torch.ones_like(value) if counted is None else counted.flatten().to(value)
        rows = torch.stack([ones, ones * value, ones * value * value])
        return torch.zeros(3, len(self.mean), dtype=value.dtype, device=value.device).index_add_(
            1, labels.flatten(), rows
        )

    @torch.no_grad()
    def follow(self, tally: Tensor, momentum: float) -> None:
        """Move mean and variance of the classes that a batch shows (eq. 6, 7), quickly at first.

        Args:
            tally: [3, K] of :meth:`tally`, added up over processes.
            momentum: share that each update keeps, in [0, 1); after t updates of a class at most ``1 - 1 / (t + 1)``.
        """
        count = tally[0].clamp(min=1)
        mean = tally[1] / count
        variance = (tally[2] / count - mean * mean).clamp(min=0)
        moved = torch.where(tally[0] > 0, 1 - growing_momentum(self.steps, momentum), 0.0)
        self.mean.lerp_(mean.to(self.mean), moved)
        self.variance.lerp_(variance.to(self.variance), moved)
        self.steps += tally[0] > 0

    @torch.no_grad()
    def weights(self, labels: Tensor, confidence: Tensor, width: float) -> Tensor:
        """Weigh pseudo labels: 1 from the class's mean confidence on, below it a Gaussian (eq. 5).

        Args:
            labels: train ids 0 .. K-1 of any shape.
            confidence: their probabilities, of the same shape.
            width: of the Gaussian, in standard deviations of the class (SoftMatch: 0.5), above 0.

        Returns:
            Weights in (0, 1] of the same shape; 1 for a class that was never seen.
        """
        spread = width * width * self.variance.clamp(min=_LEAST_VARIANCE)
        below = (self.mean[labels] - confidence).clamp(min=0)
        return torch.exp(-below * below / (2 * spread[labels]))
