"""Loss terms as (sum, count), so that a mean is the same however the batch is split.

A method hands the engine sums and counts instead of means. The engine adds up the counts of all
processes before it divides: two processes give exactly the mean that one process would have taken
over the whole batch, also when they hold different numbers of valid pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Term:
    """A weighted mean ``weight * total / count``; zero when ``count`` is zero.

    ``term * 0.5`` and ``0.5 * term`` scale the weight.

    Attributes:
        total: scalar sum over elements, with gradient.
        count: scalar number of elements (no gradient); pixels, images or 1.
        weight: factor in front of the mean.

    Example:
        >>> term = Term(torch.tensor(6.0), torch.tensor(3.0))
        >>> (0.5 * term).mean().item()
        1.0
    """

    total: Tensor
    count: Tensor
    weight: float = 1.0

    def mean(self) -> Tensor:
        """Return the weighted mean over this process alone."""
        return self.weight * self.total / self.count.clamp(min=torch.finfo(self.total.dtype).tiny)

    def __mul__(self, weight: float) -> Term:
        """Return the same term with ``weight`` multiplied in."""
        return replace(self, weight=self.weight * weight)

    __rmul__ = __mul__
