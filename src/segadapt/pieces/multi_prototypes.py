"""Several prototypes per class: similarities, class predictions, two losses and moving updates (MPCL).

Equation numbers are from *Multi-Prototype Contrastive Learning for domain adaptive semantic
segmentation*. Each of C classes has K prototypes, which are points (*centroid*) or normal
distributions (*Gaussian*). Pixels are rows: N is the number of pixels of a batch. Similarities are
matrix products; no tensor has the size N x CK x D.

These products are taken in float32 whatever the precision of the network: terms that nearly cancel
are divided by small variances.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from segadapt.pieces.precision import at_least_float32, exact_products
from segadapt.pieces.terms import Term

_ABSENT = -1e30
"""Similarity of a prototype that does not exist: below all others, no weight in a softmax, and no NaN."""


class Moments(NamedTuple):
    """Statistics of the pixels assigned to each prototype.

    Attributes:
        counts: [C, K] number of pixels.
        means: [C, K, D]; zero without pixels.
        variances: [C, K, D] about the mean, divided by n, or covariances [C, K, D, D]; zero without pixels.
    """

    counts: Tensor
    means: Tensor
    variances: Tensor


# ---- similarities ----


def centroid_similarity(features: Tensor, means: Tensor) -> Tensor:
    """Compute minus the squared Euclidean distance to each prototype (MPCL eq. 8).

    Args:
        features: [N, D], with or without gradient.
        means: [C, K, D].

    Returns:
        [N, C, K], at most 0, in at least float32.

    Example:
        >>> centroid_similarity(torch.tensor([[3.0, 4.0]]), torch.zeros(1, 1, 2)).tolist()
        [[[-25.0]]]
    """
    f = at_least_float32(features)
    mu = means.to(f.dtype).flatten(0, 1)
    with exact_products(f.device):
        squares = f.square().sum(1, keepdim=True) + mu.square().sum(1) - 2 * f @ mu.T
    return -squares.clamp(min=0).view(-1, *means.shape[:2])


def gaussian_similarity(features: Tensor, means: Tensor, variances: Tensor) -> Tensor:
    """Compute the log density, in nats, of each prototype's normal distribution (MPCL eq. 9).

    Args:
        features: [N, D], with or without gradient.
        means: [C, K, D].
        variances: [C, K, D] of independent dimensions, or covariances [C, K, D, D]; positive (definite).

    Returns:
        [N, C, K] in at least float32.

    Example:
        >>> density = gaussian_similarity(torch.zeros(1, 1), torch.zeros(1, 1, 1), torch.ones(1, 1, 1))
        >>> round(density.item(), 4)  # -log(2 pi) / 2
        -0.9189
    """
    f = at_least_float32(features)
    mu, var = means.to(f.dtype).flatten(0, 1), variances.to(f.dtype).flatten(0, 1)
    with exact_products(f.device):
        if var.ndim == 2:
            # Shifted to the middle of all means, terms are small before they are divided by variances.
            middle = mu.mean(0)
            quadratic = _Quadratic.apply(f - middle, mu - middle, var.reciprocal())
            log_det = var.log().sum(1)
        else:
            root = torch.linalg.cholesky_ex(var).L  # its check for errors would wait for the device
            # |L^-1 (f - mu)|^2, one prototype at a time: [CK, D, N] would not fit.
            solved = [
                torch.linalg.solve_triangular(one, (f - centre).T, upper=False).square().sum(0)
                for one, centre in zip(root, mu, strict=True)
            ]
            quadratic = torch.stack(solved, 1)
            log_det = 2 * root.diagonal(dim1=1, dim2=2).log().sum(1)
        log_p: Tensor = -0.5 * (quadratic + (log_det + f.shape[1] * math.log(2 * math.pi)))
    return log_p.view(-1, *means.shape[:2])


class _Quadratic(torch.autograd.Function):
    """Distances ``sum_d (f_d - mu_d)^2 / var_d`` [N, M] of rows [N, D] to M points, with the gradient written down.

    The gradient of the rows alone: prototypes move by averages. Autograd would keep the squares of the rows, and go
    over memory of their size three times more.
    """

    @staticmethod
    def forward(ctx: Any, f: Tensor, mu: Tensor, inverse: Tensor) -> Tensor:
        """Take rows [N, D], points [M, D] and one over their variances [M, D]."""
        scaled = mu * inverse
        ctx.save_for_backward(f, scaled, inverse)
        linear = torch.addmm((mu * scaled).sum(1), f, scaled.T, alpha=-2)
        return linear.addmm_(f.square(), inverse.T)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient of the rows."""
        f, scaled, inverse = ctx.saved_tensors
        with exact_products(f.device):
            return (gradient @ inverse).mul_(f).addmm_(gradient, scaled, alpha=-1).mul_(2), None, None


def class_similarity(similarity: Tensor) -> Tensor:
    """Take the similarity of the best prototype of each class; its argmax is the predicted class (MPCL eq. 10).

    Args:
        similarity: s [N, C, K].

    Returns:
        g [N, C] (below eq. 11).

    Example:
        >>> class_similarity(torch.tensor([[[0.1, 0.9], [0.5, 0.4]]])).argmax(1).tolist()
        [0]
    """
    return similarity.amax(2)


class Prototypes(NamedTuple):
    """Prototypes of all classes.

    Attributes:
        means: [C, K, D].
        variances: [C, K, D] or covariances [C, K, D, D] of normal distributions; None for centroids.
        active: [C] bool, classes that have prototypes.
    """

    means: Tensor
    variances: Tensor | None
    active: Tensor


def similarity(features: Tensor, prototypes: Prototypes, floor: float = 0.25, per_dimension: bool = True) -> Tensor:
    """Compute the similarity of either kind of prototype (MPCL eq. 8, 9).

    Args:
        features: [N, D], with or without gradient.
        prototypes: see :class:`Prototypes`.
        floor: ``floor / D`` is added to variances, at least 0.
        per_dimension: whether log densities are divided by D.

    Returns:
        s [N, C, K]; -1e30 for classes that have no prototypes yet.

    Example:
        >>> prototypes = Prototypes(torch.zeros(2, 1, 2), None, torch.tensor([True, False]))
        >>> similarity(torch.tensor([[3.0, 4.0]]), prototypes).argmax(1).tolist()
        [[0]]
    """
    means, variances, active = prototypes
    if variances is None:
        return only_active(centroid_similarity(features, means), active)
    channels = means.shape[2]
    unit = torch.ones_like(variances)
    if variances.ndim == 4:
        unit = torch.eye(channels, dtype=variances.dtype, device=variances.device).expand_as(variances)
    begun = active.view(-1, *[1] * (variances.ndim - 1))  # the placeholders of other classes are masked
    similar = gaussian_similarity(features, means, torch.where(begun, variances + floor / channels * unit, unit))
    return only_active(similar / channels if per_dimension else similar, active)


def only_active(similarity: Tensor, active: Tensor) -> Tensor:
    """Set the similarities with classes that have no prototypes yet to -1e30.

    Args:
        similarity: [N, C, K].
        active: [C] bool, classes that have prototypes.

    Returns:
        [N, C, K].

    Example:
        >>> only_active(torch.ones(1, 2, 1), torch.tensor([True, False])).flatten().argmax().item()
        0
    """
    return similarity.masked_fill(~active[:, None], _ABSENT)


# ---- losses ----


def prototype_contrast(
    similarity: Tensor, labels: Tensor, assigned: Tensor, weights: Tensor, temperature: float, in_class: bool = True
) -> Term:
    """Compute the cross entropy of the assigned prototype against all others (MPCL eq. 15 and 17).

    Args:
        similarity: [N, C, K] with gradient.
        labels: [N] class of each pixel; pixels outside 0 .. C-1 do not count.
        assigned: [N] in 0 .. K-1, the prototype of its class that a pixel is assigned to.
        weights: [N] factor per pixel, 1 for source pixels.
        temperature: tau, above 0.
        in_class: whether the other prototypes of the pixel's class are negatives too.

    Returns:
        Weighted sum in nats, and number of pixels with a label.

    Example:
        >>> zero = torch.zeros(1, dtype=torch.long)
        >>> loss = prototype_contrast(torch.zeros(1, 2, 2), zero, zero, torch.ones(1), temperature=0.1)
        >>> round(loss.mean().item(), 4)  # log 4: four prototypes are equally similar
        1.3863
    """
    classes, each = similarity.shape[1:]
    valid, own = _labelled(labels, classes)
    scores = similarity / temperature
    positive = own_class(scores, own).gather(1, assigned[:, None])[:, 0]
    if in_class:
        total = scores.flatten(1).logsumexp(1)
    else:
        others = torch.ones_like(scores, dtype=torch.bool).scatter(1, own[:, None, None].expand(-1, 1, each), False)
        total = torch.logaddexp(scores.masked_fill(~others, -math.inf).flatten(1).logsumexp(1), positive)
    pixels = torch.where(valid, weights * (total - positive), 0.0)
    return Term(pixels.sum(), valid.sum().to(pixels.dtype))


def prototype_cross_entropy(similarity: Tensor, labels: Tensor, weights: Tensor, temperature: float) -> Term:
    """Compute the cross entropy of the classes that prototypes predict (MPCL eq. 11 and 12).

    Args:
        similarity: [N, C, K] with gradient; in each class only the best prototype receives it.
        labels: [N] class of each pixel; pixels outside 0 .. C-1 do not count.
        weights: [N] factor per pixel.
        temperature: tau, above 0.

    Returns:
        Weighted sum in nats, and number of pixels with a label.

    Example:
        >>> label = torch.zeros(1, dtype=torch.long)
        >>> round(prototype_cross_entropy(torch.zeros(1, 2, 3), label, torch.ones(1), 0.1).mean().item(), 4)  # log 2
        0.6931
    """
    valid, own = _labelled(labels, similarity.shape[1])
    log_p = (class_similarity(similarity) / temperature).log_softmax(1)
    pixels = torch.where(valid, -weights * log_p.gather(1, own[:, None])[:, 0], 0.0)
    return Term(pixels.sum(), valid.sum().to(pixels.dtype))


def own_class(similarity: Tensor, labels: Tensor) -> Tensor:
    """Select the similarities with the prototypes of each pixel's class.

    Args:
        similarity: [N, C, K].
        labels: [N] int64 in 0 .. C-1.

    Returns:
        [N, K].

    Example:
        >>> own_class(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]), torch.tensor([1])).tolist()
        [[3.0, 4.0]]
    """
    each = similarity.shape[2]
    return similarity.gather(1, labels[:, None, None].expand(-1, 1, each))[:, 0]


# ---- moving prototypes ----


@torch.no_grad()
def moments(features: Tensor, labels: Tensor, assigned: Tensor, classes: int, each: int, full: bool = False) -> Moments:
    """Count the pixels of every prototype and take their mean and variance.

    Args:
        features: [N, D].
        labels: [N]; pixels outside 0 .. C-1 do not count.
        assigned: [N] prototype within the class, 0 .. K-1.
        classes, each: C and K.
        full: whole covariances instead of variances.

    Returns:
        Statistics in at least float32.

    Example:
        >>> zeros = torch.zeros(2, dtype=torch.long)
        >>> found = moments(torch.tensor([[1.0], [3.0]]), zeros, zeros, classes=1, each=1)
        >>> found.counts.item(), found.means.item(), found.variances.item()
        (2.0, 2.0, 1.0)
    """
    valid, own = _labelled(labels, classes)
    f = at_least_float32(features)
    place = torch.where(valid, own * each + assigned, classes * each)
    counts = f.new_zeros(classes * each + 1).index_add_(0, place, torch.ones_like(f[:, 0]))
    members = counts.clamp(min=1)[:, None]
    means = f.new_zeros(classes * each + 1, f.shape[1]).index_add_(0, place, f) / members
    around = f - means[place]
    if full:
        outer = f.new_zeros(classes * each, f.shape[1], f.shape[1])
        for one in range(classes * each):
            mine = around * (place == one)[:, None]
            outer[one] = mine.T @ mine
        variances = outer / members[:-1, :, None]
    else:
        variances = (f.new_zeros(means.shape).index_add_(0, place, around.square()) / members)[:-1]
    shape = (classes, each)
    return Moments(counts[:-1].view(shape), means[:-1].view(*shape, -1), variances.view(*shape, *variances.shape[1:]))


@torch.no_grad()
def moved(old: Tensor, new: Tensor, counts: Tensor, momentum: float) -> Tensor:
    """Take ``alpha old + (1 - alpha) new`` where a prototype has pixels, and ``old`` elsewhere (MPCL eq. 20 and 21).

    Args:
        old, new: [C, K, ...].
        counts: [C, K] pixels of each prototype.
        momentum: alpha in [0, 1].

    Returns:
        [C, K, ...].

    Example:
        >>> moved(torch.zeros(1, 2, 1), torch.ones(1, 2, 1), torch.tensor([[5, 0]]), momentum=0.75).flatten().tolist()
        [0.25, 0.0]
    """
    has = (counts > 0).view(*counts.shape, *[1] * (old.ndim - 2))
    return torch.where(has, torch.lerp(old, new.to(old.dtype), 1 - momentum), old)


def _labelled(labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Return which labels are classes, and the labels with zeros in place of the others."""
    valid = (labels >= 0) & (labels < classes)
    return valid, torch.where(valid, labels, 0).long()
