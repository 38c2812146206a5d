"""Assign samples to classes, or to parts of classes, by entropic optimal transport.

Sinkhorn-Knopp (Cuturi, 2013) and Greenkhorn (Altschuler et al., 2017), in logarithms.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from segadapt.pieces.precision import at_least_float32, exact_products, wide

_ABSENT = -1e30
"""Log mass of a row or class that takes no part; finite, so that no difference of infinities occurs."""

_LEAST_SHARE = 1e-6

_LARGEST_EXPONENT = 30.0
"""Up to here, products of four exponentials and the number of rows stay far within float32."""


@torch.no_grad()
def sinkhorn(
    scores: Tensor, classes: Tensor, epsilon: float = 0.05, iterations: int = 3, valid: Tensor | None = None
) -> Tensor:
    """Compute a soft assignment Q whose class masses are near ``classes`` (CPSL eq. 5 and 6).

    Q maximises ``<Q, scores> + epsilon H(Q)`` among the plans whose rows hold equal mass and whose
    columns hold the given shares. Everything is in logarithms, so no score over- or underflows. The last
    half step normalises rows: they sum to one exactly, and columns approach their shares with more
    ``iterations``.

    Args:
        scores: [..., N, K] similarities, any floating type; leading dimensions are separate problems.
        classes: [K] or [..., K] shares, summing to 1; a class with share 0 gets nothing.
        epsilon: weight of the entropy, above 0.
        iterations: number of column and row normalisations.
        valid: [..., N] bool, rows that take part; the others come back as zeros.

    Returns:
        [..., N, K] in at least float32.

    Example:
        >>> scores = torch.tensor([[1.0, 0.0], [0.9, 0.0]])  # both rows prefer class 0
        >>> q = sinkhorn(scores, torch.tensor([0.5, 0.5]), epsilon=0.05, iterations=50)
        >>> [round(mass, 2) for mass in q.sum(0).tolist()]
        [1.0, 1.0]
    """
    exact = at_least_float32(scores)
    log_q = exact / epsilon
    shares = classes.to(log_q.dtype).unsqueeze(-2)
    log_r = torch.where(shares > 0, shares, 1.0).log().masked_fill(shares <= 0, _ABSENT)
    rows = None if valid is None else valid.unsqueeze(-1)
    for _ in range(iterations):
        taking_part = log_q if rows is None else log_q.masked_fill(~rows, _ABSENT)
        log_q = log_q - taking_part.logsumexp(-2, keepdim=True) + log_r
        log_q = log_q - log_q.logsumexp(-1, keepdim=True)
    q = log_q.exp()
    return q if rows is None else q * rows


@torch.no_grad()
def sinkhorn_with_bank(
    scores: Tensor, bank: Tensor, valid: Tensor, classes: Tensor, epsilon: float = 0.05, iterations: int = 3
) -> Tensor:
    """Run :func:`sinkhorn` on every image's samples together with rows that all images share, for cosines.

    Scores between -1 and 1 and an ``epsilon`` that is not tiny allow the original form of the
    algorithm: with E = exp(scores / epsilon), it alternates v = r / (E^T u) and u = 1 / (E v), and
    Q = u E v. Exponentials are taken once, for the bank once for all images, and only the samples' rows
    of Q are computed.

    Args:
        scores: [B, M, K] of the samples, in -1 .. 1.
        bank: [L, K] of the shared rows, in -1 .. 1.
        valid: [L] bool, rows of the bank that take part.
        classes: [K] shares, summing to 1; a class with share 0 gets nothing.
        epsilon, iterations: see :func:`sinkhorn`.

    Returns:
        [B, M, K] in at least float32, the rows of the samples.

    Example:
        >>> scores, bank = torch.zeros(2, 3, 2), torch.zeros(4, 2)
        >>> q = sinkhorn_with_bank(scores, bank, torch.ones(4, dtype=torch.bool), torch.tensor([0.75, 0.25]))
        >>> [round(x, 4) for x in q[0, 0].tolist()]
        [0.75, 0.25]
    """
    if 1 / epsilon > _LARGEST_EXPONENT:
        both = torch.cat([bank.expand(len(scores), -1, -1), scores], 1)
        rows = torch.cat([valid, valid.new_ones(scores.shape[1])]).expand(len(scores), -1)
        return sinkhorn(both, classes, epsilon, iterations, rows)[:, len(bank) :]
    dtype = torch.float64 if scores.dtype == torch.float64 else torch.float32
    with exact_products(scores.device):
        own, shared = (scores.to(dtype) / epsilon).exp(), (bank.to(dtype) / epsilon).exp()
        taking_part = valid.to(dtype)[:, None]
        u, u_shared = own.new_ones(len(own), 1, own.shape[1]), taking_part.expand(-1, len(own))
        for iteration in range(iterations):
            v = classes.to(dtype) / ((u @ own)[:, 0] + u_shared.T @ shared)
            v = v / v.sum(1, keepdim=True)  # does not change Q; keeps u and v within a few tens of powers of e
            u = 1 / (own @ v[:, :, None]).transpose(1, 2)
            if iteration + 1 < iterations:
                u_shared = taking_part / (shared @ v.T)
        return u.transpose(1, 2) * own * v[:, None]


@torch.no_grad()
def class_shares(labels: Tensor, classes: int) -> Tensor:
    """Compute the share of every class among the labelled pixels of each image (CPSL eq. 8).

    Args:
        labels: [B, ...] class ids; pixels outside 0 .. K-1 do not count.
        classes: K.

    Returns:
        [B, K] float32, summing to 1; zeros for an image without labels.

    Example:
        >>> class_shares(torch.tensor([[0, 0, 0, 1, 255]]), 2).tolist()
        [[0.75, 0.25]]
    """
    flat = labels.reshape(len(labels), -1)
    valid = (flat >= 0) & (flat < classes)
    counts = torch.zeros(len(flat), classes + 1, device=flat.device)
    counts.scatter_add_(1, torch.where(valid, flat, classes), torch.ones_like(flat, dtype=torch.float32))
    counts = counts[:, :classes]
    return counts / counts.sum(1, keepdim=True).clamp(min=1)


@torch.no_grad()
def class_masses(counts: Tensor) -> Tensor:
    """Turn counts of pixels into class masses r (CPSL eq. 10), none of which is zero.

    Args:
        counts: [K] pixels of each class, at least one in all.

    Returns:
        [K] float32, summing to 1; a class that does not occur has the share 1e-6, without which it could never be
        assigned.

    Example:
        >>> [round(r, 4) for r in class_masses(torch.tensor([3.0, 1.0, 0.0])).tolist()]
        [0.75, 0.25, 0.0]
    """
    shares = (counts / counts.sum()).clamp(min=_LEAST_SHARE)
    return shares / shares.sum()


@torch.no_grad()
def class_balanced_sample(labels: Tensor, count: int, classes: int, stratified: bool = True) -> Tensor:
    """Draw random pixels of each image, from every class in proportion to its share (CPSL eq. 8 and 9).

    ``floor(M share_c)`` pixels of each class are drawn without replacement; the rest, up to M, is drawn
    from all remaining pixels. Unlabelled pixels come last.

    Args:
        labels: [B, N] class ids; pixels outside 0 .. K-1 are unlabelled.
        count: M, at most N.
        classes: K.
        stratified: False draws from all pixels alike, whatever their class.

    Returns:
        [B, M] int64 positions in 0 .. N-1.

    Example:
        >>> labels = torch.tensor([[0, 0, 0, 0, 1, 1]])
        >>> places = class_balanced_sample(labels, count=3, classes=2)
        >>> labels.gather(1, places).sort().values.tolist()
        [[0, 0, 1]]
    """
    chance = torch.rand(labels.shape, device=labels.device)
    if not stratified:
        return chance.topk(count, 1).indices
    valid = (labels >= 0) & (labels < classes)
    group = torch.where(valid, labels.long(), classes)
    quota = torch.floor(count * class_shares(labels, classes) + 1e-4)
    quota = torch.cat([quota, quota.new_zeros(len(quota), 1)], 1)
    # Sorted by class, then by chance: `place` counts along this order, so `place - start` ranks within a class.
    order = (group + 0.999 * chance.to(wide(chance.device))).argsort(1)
    sizes = torch.zeros_like(quota).scatter_add_(1, group, torch.ones_like(chance))
    starts = sizes.cumsum(1) - sizes
    place = torch.empty_like(chance).scatter_(
        1, order, torch.arange(labels.shape[1], device=labels.device).expand_as(order).float()
    )
    drawn = place - starts.gather(1, group) < quota.gather(1, group)
    return (chance + 2 * drawn + valid).topk(count, 1).indices


@torch.no_grad()
def equipartition(scores: Tensor, groups: Tensor, count: int, epsilon: float = 0.05, iterations: int = 10) -> Tensor:
    """Assign the members of each group softly to its K parts, which get equal mass (MPCL eq. 13 and 14).

    All groups are solved at once by Sinkhorn iterations on the dual of the parts alone, K numbers per
    group: rows of Q sum to one exactly, columns approach (members of the group) / K with more
    ``iterations``.

    Args:
        scores: [N, K] similarities with the parts of the row's group, any floating type.
        groups: [N] group of each row, 0 .. count - 1; rows of other groups come back as zeros.
        count: number of groups.
        epsilon: weight of the entropy, above 0.
        iterations: 3 leave errors of a third of the mass, 50 of a few thousandths.

    Returns:
        Q [N, K] in at least float32.

    Example:
        >>> scores = torch.tensor([[1.0, 0.0], [0.9, 0.0]])  # both rows are nearer to part 0
        >>> q = equipartition(scores, torch.zeros(2, dtype=torch.long), count=1, iterations=50)
        >>> [round(mass, 2) for mass in q.sum(0).tolist()]
        [1.0, 1.0]
    """
    problem = _grouped(scores, groups, count, epsilon)
    # Parts in rows and members as a table of zeros and ones: sums over a group are then small matrix products.
    log_k, table = problem.log_k.T.contiguous(), _membership(problem)
    dual = log_k.new_zeros(log_k.shape[0], count + 1)
    q = log_k.exp()  # columns are scaled first: the first masses are the kernel's, whose rows are not yet scaled
    with exact_products(log_k.device):
        for _ in range(iterations):
            dual = dual - _log(log_k.shape[0] * (q @ table.T) / problem.members)
            q = (log_k + dual[:, problem.place]).softmax(0)
    return (q * problem.valid).T if iterations else (log_k.softmax(0) * problem.valid).T


def _membership(problem: _Grouped) -> Tensor:
    """Return [count + 1, N]: 1 where a row belongs to a group."""
    numbers = torch.arange(len(problem.members), device=problem.place.device)
    return (numbers[:, None] == problem.place).to(problem.log_k.dtype)


@torch.no_grad()
def greenkhorn(scores: Tensor, groups: Tensor, count: int, epsilon: float = 0.05, steps: int = 100) -> Tensor:
    """Solve :func:`equipartition` by Greenkhorn: each step rescales the worst row or column of every group.

    The error of a row or column is ``rho(a, b) = b - a + a log(a / b)`` between the mass wanted and the
    mass there. A step rescales only one row, so convergence to Sinkhorn's plan takes many times as many
    steps as a group has members. Stopped early, the result is nearly the assignment to the most similar part.

    Args:
        scores: [N, K].
        groups: [N], see :func:`equipartition`.
        count: number of groups.
        epsilon: weight of the entropy, above 0.
        steps: rows or columns rescaled in each group.

    Returns:
        Q [N, K] in at least float32, rows scaled to sum to one.

    Example:
        >>> scores = torch.tensor([[1.0, 0.0], [0.9, 0.0]])
        >>> q = greenkhorn(scores, torch.zeros(2, dtype=torch.long), count=1, steps=200)
        >>> [round(mass, 2) for mass in q.sum(0).tolist()]
        [1.0, 1.0]
    """
    problem = _grouped(scores, groups, count, epsilon)
    place, parts = problem.place, scores.shape[1]
    wanted_row, wanted_part = (1 / problem.members)[place], 1 / parts
    log_q = problem.log_k - _column_masses(problem.log_k.exp(), problem).sum(1).log()[place, None]
    for _ in range(steps):
        q = log_q.exp()
        rows = q.sum(1)
        columns = _column_masses(q, problem)
        row_gap, part_gap = _gap(wanted_row, rows), _gap(torch.full_like(columns, wanted_part), columns)
        worst_row = row_gap.new_full((count + 1,), -1.0).scatter_reduce_(0, place, row_gap, "amax")
        by_row = worst_row >= part_gap.amax(1)
        chosen = (row_gap == worst_row[place]) & by_row[place]
        log_q = log_q + torch.where(chosen, wanted_row.log() - _log(rows), 0.0)[:, None]
        part = torch.zeros_like(columns, dtype=torch.bool).scatter_(1, part_gap.argmax(1, keepdim=True), True)
        change = torch.where(part & ~by_row[:, None], math.log(wanted_part) - _log(columns), 0.0)
        log_q = log_q + change[place]
    return log_q.softmax(1) * problem.valid[:, None]


class _Grouped(NamedTuple):
    """Many transport problems in one table.

    Attributes:
        log_k: [N, K] logarithm of the kernel, at most 0.
        valid: [N] bool, rows that belong to a group.
        place: [N] group of each row; ``count`` if it belongs to none.
        members: [count + 1] rows per group, at least 1.
    """

    log_k: Tensor
    valid: Tensor
    place: Tensor
    members: Tensor


def _grouped(scores: Tensor, groups: Tensor, count: int, epsilon: float) -> _Grouped:
    """Build the table of all problems, with the kernel of each group scaled to at most 1."""
    exact = at_least_float32(scores)
    valid = (groups >= 0) & (groups < count)
    place = torch.where(valid, groups, count)
    members = exact.new_zeros(count + 1).index_add_(0, place, torch.ones_like(exact[:, 0])).clamp(min=1)
    best = exact.new_full((count + 1,), -torch.inf).scatter_reduce_(0, place, exact.amax(1), "amax")
    return _Grouped((exact - best[place, None]) / epsilon, valid, place, members)


def _column_masses(q: Tensor, problem: _Grouped) -> Tensor:
    """Sum the mass of each part of each group: [count + 1, K]."""
    return q.new_zeros(len(problem.members), q.shape[1]).index_add_(0, problem.place, q)


def _gap(wanted: Tensor, there: Tensor) -> Tensor:
    """Compute rho(wanted, there) of Altschuler et al.: never negative, zero where they agree."""
    return there - wanted + wanted * (wanted.log() - _log(there))


def _log(mass: Tensor) -> Tensor:
    """Take the logarithm, finite where a mass has underflown."""
    return mass.clamp(min=torch.finfo(mass.dtype).tiny).log()
