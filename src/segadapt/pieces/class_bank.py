"""A memory of recent features per class, each stored with the prototype that it was assigned to (MPCL).

The statistics of every prototype over the whole memory are always up to date: a feature that is
overwritten is subtracted from them. A push therefore costs as much as the features that come in,
however long the memory is.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from segadapt.pieces.multi_prototypes import Moments
from segadapt.pieces.precision import wide

NOWHERE = -1
"""The prototype number of a feature that was stored before its class had prototypes."""


class ClassBank(nn.Module):
    """One ring buffer of features per class. All state is in registered buffers, so checkpoints hold it.

    Args:
        classes, each: C classes with K prototypes each.
        length: features remembered per class.
        channels: D, the length of a feature.
        full: keep second moments [D, D] per prototype, for covariances; otherwise only their diagonals.

    Example:
        >>> bank = ClassBank(classes=2, each=1, length=4, channels=3)
        >>> features, labels = torch.ones(3, 3), torch.tensor([0, 0, 1])
        >>> bank.push(features, labels, torch.zeros(3, dtype=torch.long), most=4, chance=torch.rand(3))
        >>> bank.filled.tolist()
        [2, 1]
        >>> bank.moments().means.shape
        torch.Size([2, 1, 3])
    """

    rows: Tensor
    part: Tensor
    pushed: Tensor
    counts: Tensor
    sums: Tensor
    squares: Tensor

    def __init__(self, classes: int, each: int, length: int, channels: int, full: bool = False) -> None:
        super().__init__()
        self.classes, self.each, self.length, self.full = classes, each, length, full
        # One extra row and one extra prototype take everything that is not stored.
        self.register_buffer("rows", torch.zeros(classes * length + 1, channels, dtype=torch.float16))
        self.register_buffer("part", torch.full((classes * length + 1,), NOWHERE, dtype=torch.int64))
        self.register_buffer("pushed", torch.zeros(classes, dtype=torch.int64))
        parts, shape = classes * each + 1, (channels, channels) if full else (channels,)
        self.register_buffer("counts", torch.zeros(parts, dtype=torch.float64))
        self.register_buffer("sums", torch.zeros(parts, channels, dtype=torch.float64))
        self.register_buffer("squares", torch.zeros(parts, *shape, dtype=torch.float64))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> ClassBank:
        """Convert the module, e.g. move it to a device; a device without float64 gets float32 statistics."""
        dtype = wide(fn(torch.zeros(0)).device)
        self.counts, self.sums, self.squares = (x.to(dtype) for x in (self.counts, self.sums, self.squares))
        return super()._apply(fn, recurse)  # type: ignore[no-any-return, no-untyped-call]

    @property
    def filled(self) -> Tensor:
        """[C] number of features remembered per class."""
        return self.pushed.clamp(max=self.length)

    @torch.no_grad()
    def clear(self) -> None:
        """Forget all features.

        Example:
            >>> bank = ClassBank(classes=1, each=1, length=4, channels=3)
            >>> bank.push(torch.ones(1, 3), torch.tensor([0]), torch.tensor([0]), most=4, chance=torch.rand(1))
            >>> bank.clear()
            >>> bank.filled.item(), bank.moments().counts.item()
            (0, 0.0)
        """
        self.part.fill_(NOWHERE)
        for buffer in (self.pushed, self.counts, self.sums, self.squares):
            buffer.zero_()

    @torch.no_grad()
    def push(self, features: Tensor, labels: Tensor, assigned: Tensor, most: int, chance: Tensor) -> None:
        """Store pixels of each class in place of its oldest ones.

        Args:
            features: [N, D]; stored in half precision.
            labels: [N] class of each pixel; pixels outside 0 .. C-1 are left out.
            assigned: [N] prototype within the class, 0 .. K-1, or :data:`NOWHERE`.
            most: pixels stored per class at most; if a class has more, a random choice is stored.
            chance: [N] uniform numbers in [0, 1) that decide this choice: the smallest are stored.
        """
        valid = (labels >= 0) & (labels < self.classes)
        group = torch.where(valid, labels, self.classes)
        order = (group + 0.999 * chance.to(wide(chance.device))).argsort()
        sizes = torch.zeros(self.classes + 1, dtype=torch.int64, device=group.device)
        sizes.scatter_add_(0, group, torch.ones_like(group))
        # The place of a pixel in the order, from which its rank in its class follows; features stay where they are.
        rank = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
        rank -= (sizes.cumsum(0) - sizes)[group]
        kept = valid & (rank < min(most, self.length))
        own = torch.where(kept, group, 0)
        place = torch.where(kept, own * self.length + (self.pushed[own] + rank) % self.length, len(self.rows) - 1)
        rows = features.to(self.rows.dtype)
        self._count(self.rows[place], self.part[place], kept, -1.0)
        part = torch.where(kept & (assigned >= 0), own * self.each + assigned, NOWHERE)
        self.rows.index_copy_(0, place, rows)
        self.part.index_copy_(0, place, part)
        self.part[-1:].fill_(NOWHERE)
        self._count(rows, part, kept, 1.0)
        self.pushed += sizes[:-1].clamp(max=min(most, self.length))

    def _count(self, rows: Tensor, part: Tensor, kept: Tensor, sign: float) -> None:
        """Add rows to the statistics of their prototypes (``sign`` 1), or subtract them (-1).

        Rows are counted in the precision in which they are stored, so sums do not drift.
        """
        place = torch.where(kept & (part >= 0), part, len(self.counts) - 1)
        exact = rows.to(self.sums.dtype)
        self.counts.index_add_(0, place, torch.full_like(exact[:, 0], sign))
        self.sums.index_add_(0, place, exact, alpha=sign)
        if self.full:
            member = torch.zeros(len(self.counts), len(rows), dtype=exact.dtype, device=rows.device)
            member.scatter_(0, place[None], sign)
            for one, weights in enumerate(member):  # one at a time: [parts, N, D, D] would not fit
                self.squares[one] += (exact * weights[:, None]).T @ exact
        else:
            self.squares.index_add_(0, place, exact.square(), alpha=sign)

    def moments(self) -> Moments:
        """Return the statistics of all remembered features per prototype, in float32."""
        shape = (self.classes, self.each)
        counts = self.counts[:-1].clamp(min=0)
        members = counts.clamp(min=1)[:, None]
        means = self.sums[:-1] / members
        if self.full:
            variances = self.squares[:-1] / members[:, :, None] - means[:, :, None] * means[:, None, :]
        else:
            variances = (self.squares[:-1] / members - means.square()).clamp(min=0)
        means, variances = means * (counts > 0)[:, None], variances.float()
        return Moments(
            counts.float().view(shape), means.float().view(*shape, -1), variances.view(*shape, *variances.shape[1:])
        )

    @torch.no_grad()
    def reassign(self, label: int, assigned: Tensor) -> None:
        """Assign the first n remembered features of a class to other prototypes, e.g. to new clusters.

        Args:
            label: the class.
            assigned: [n] prototype within the class, 0 .. K-1.
        """
        start = label * self.length
        rows = slice(start, start + len(assigned))
        stays = torch.ones_like(assigned, dtype=torch.bool)
        self._count(self.rows[rows], self.part[rows], stays, -1.0)
        self.part[rows] = label * self.each + assigned
        self._count(self.rows[rows], self.part[rows], stays, 1.0)

    def remembered(self, label: int) -> Tensor:
        """Return the [n, D] float32 features of a class; waits for the device to know n."""
        start = label * self.length
        return self.rows[start : start + int(self.filled[label])].float()
