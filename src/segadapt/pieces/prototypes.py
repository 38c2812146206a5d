"""Class prototypes: one vector per class in feature space, and how pixels relate to them.

Zhang et al., *Prototypical Pseudo Label Denoising and Target Structure Learning for Domain
Adaptive Semantic Segmentation* (ProDA), CVPR 2021. Nothing here waits for the device or makes a map
of the size [B, K, D, h, w].
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from segadapt.pieces.precision import at_least_float32, exact_products

LEAST_PIXELS = 10
"""A class with fewer pixels in an image has no mean there."""
_LEAST_LENGTH = 1e-12
"""Shorter vectors count as this long; a zero vector has the cosine 0 with all others."""
COUNT_CAP = 3000
"""After this many vectors a running mean goes on as a moving average of the rate 1 / (COUNT_CAP + 1)."""


class ClassMeans(NamedTuple):
    """Mean features of the classes in each image of a batch.

    Attributes:
        vectors: [B, K, D] float32; zero where the class is not present.
        present: [B, K] bool.
    """

    vectors: Tensor
    present: Tensor


def distances(features: Tensor, prototypes: Tensor) -> Tensor:
    """Compute the Euclidean distance of every pixel's feature to every prototype.

    Uses one matrix product: ``|f - e|^2 = |f|^2 - 2 f e + |e|^2``. The vectors are shifted first so that
    the mean prototype is the origin, which keeps distances and makes rounding errors small.

    Args:
        features: [B, D, h, w], with or without gradient.
        prototypes: [K, D].

    Returns:
        [B, K, h, w] in at least float32, at least 1e-6 so that the gradient is finite.

    Example:
        >>> distances(torch.tensor([3.0, 4.0]).view(1, 2, 1, 1), torch.zeros(1, 2)).tolist()
        [[[[5.0]]]]
    """
    f = at_least_float32(features)
    e = prototypes.to(f.dtype)
    with exact_products(f.device):
        centre = e.mean(0)
        f, e = f - centre[:, None, None], e - centre
        products = torch.einsum("bdhw,kd->bkhw", f, e)
        squares = f.square().sum(1, keepdim=True) - 2 * products + e.square().sum(1)[:, None, None]
        return squares.clamp(min=1e-12).sqrt()


def cosines(features: Tensor, prototypes: Tensor) -> Tensor:
    """Compute the cosine of every pixel's feature with every prototype.

    Args:
        features: [B, D, h, w], with or without gradient.
        prototypes: [K, D], with or without gradient.

    Returns:
        [B, K, h, w] in -1 .. 1, in at least float32.

    Example:
        >>> similar = cosines(torch.tensor([3.0, 4.0]).view(1, 2, 1, 1), torch.eye(2))
        >>> [round(c, 4) for c in similar.flatten().tolist()]
        [0.6, 0.8]
    """
    f = at_least_float32(features)
    with exact_products(f.device):
        vectors = F.normalize(prototypes.to(f.dtype), dim=1)
        products = torch.bmm(vectors.expand(len(f), -1, -1), f.flatten(2)).view(len(f), -1, *f.shape[2:])
        # Dividing the K products of a pixel is less work than dividing its D features.
        similar: Tensor = products / f.norm(dim=1, keepdim=True).clamp(min=_LEAST_LENGTH)
        return similar


def class_sums(features: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Sum the features of each class in each image, and count its pixels.

    The sums have the gradient of the features.

    Args:
        features: [B, D, h, w].
        labels: [B, h, w] class of each pixel, any integer type; pixels outside 0 .. K-1 do not count.
        classes: K.

    Returns:
        Sums [B, K, D] and counts [B, K], in float32.

    Example:
        >>> sums, counts = class_sums(torch.tensor([[[[1.0, 2.0, 5.0]]]]), torch.tensor([[[0, 0, 255]]]), 2)
        >>> sums.flatten().tolist(), counts.tolist()
        ([3.0, 0.0], [[2.0, 0.0]])
    """
    batch, channels = features.shape[:2]
    labels = labels.reshape(batch, -1).long()
    valid = (labels >= 0) & (labels < classes)
    members = torch.zeros(batch, classes + 1, labels.shape[1], device=features.device)
    members.scatter_(1, torch.where(valid, labels, classes)[:, None], 1.0)
    members = members[:, :classes]
    with exact_products(features.device):
        return members @ features.float().reshape(batch, channels, -1).transpose(1, 2), members.sum(2)


def class_means(features: Tensor, labels: Tensor, classes: int, least: int | Tensor = LEAST_PIXELS) -> ClassMeans:
    """Average the features of each class in each image.

    The means have the gradient of the features.

    Args:
        features: [B, D, h, w].
        labels: [B, h, w] class of each pixel, any integer type; pixels outside 0 .. K-1 do not count.
        classes: K.
        least: a class is present in an image if at least this many pixels have it; 1 or more, or [B] numbers.

    Returns:
        Means, and which classes are present.

    Example:
        >>> means = class_means(torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([[[0, 0]]]), 2, least=1)
        >>> means.vectors.flatten().tolist(), means.present.tolist()
        ([1.5, 0.0], [[True, False]])
    """
    return means_of_sums(*class_sums(features, labels, classes), least)


def means_of_sums(sums: Tensor, counts: Tensor, least: int | Tensor = LEAST_PIXELS) -> ClassMeans:
    """Divide the sums of :func:`class_sums` by their counts.

    Sums over the images of a batch, [1, K, D], give the means over all its pixels.

    Args:
        sums: [B, K, D].
        counts: [B, K] pixels.
        least: see :func:`class_means`.

    Returns:
        Means, and which classes are present.

    Example:
        >>> means = means_of_sums(torch.tensor([[[6.0], [1.0]]]), torch.tensor([[3.0, 1.0]]), least=2)
        >>> means.vectors.flatten().tolist()
        [2.0, 0.0]
    """
    present = counts >= (least[:, None] if isinstance(least, Tensor) else least)
    return ClassMeans(torch.where(present[..., None], sums / counts.clamp(min=1)[..., None], 0.0), present)


@torch.no_grad()
def moving_average(prototypes: Tensor, means: ClassMeans, rate: float) -> Tensor:
    """Move prototypes towards the class means, one after the other: ``e + rate (v - e)`` (ProDA eq. 6).

    Args:
        prototypes: [K, D].
        means: means of B images; a class in several of them moves several times.
        rate: one minus the momentum of the paper, in [0, 1].

    Returns:
        [K, D].

    Example:
        >>> means = ClassMeans(torch.ones(1, 1, 2), torch.tensor([[True]]))
        >>> moving_average(torch.zeros(1, 2), means, rate=0.25).tolist()
        [[0.25, 0.25]]
    """
    everyone = torch.ones(len(prototypes), dtype=torch.bool, device=prototypes.device)
    return seen_average(prototypes, everyone, means, rate)[0]


@torch.no_grad()
def seen_average(prototypes: Tensor, seen: Tensor, means: ClassMeans, rate: float) -> tuple[Tensor, Tensor]:
    """Move prototypes like :func:`moving_average`, but start each class with its first mean.

    Args:
        prototypes: [K, D].
        seen: [K] bool, classes that have a prototype.
        means: means of B images.
        rate: one minus the momentum, in [0, 1].

    Returns:
        Prototypes [K, D], and which classes have one [K].

    Example:
        >>> means = ClassMeans(torch.ones(1, 1, 2), torch.tensor([[True]]))
        >>> seen_average(torch.zeros(1, 2), torch.tensor([False]), means, rate=0.25)[0].tolist()
        [[1.0, 1.0]]
    """
    for vectors, present in zip(means.vectors, means.present, strict=True):
        moved = prototypes + (rate * (vectors.to(prototypes.dtype) - prototypes))
        now = torch.where(seen[:, None], moved, vectors.to(prototypes.dtype))
        prototypes = torch.where(present[:, None], now, prototypes)
        seen = seen | present
    return prototypes, seen


@torch.no_grad()
def running_mean(prototypes: Tensor, counts: Tensor, means: ClassMeans, cap: int = COUNT_CAP) -> tuple[Tensor, Tensor]:
    """Update prototypes that are the mean of all class means seen so far (ProDA's code for eq. 5).

    Args:
        prototypes: [K, D] mean of the vectors before.
        counts: [K] number of these vectors.
        means: means of B further images.
        cap: the counts stop here.

    Returns:
        Prototypes [K, D] and counts [K].

    Example:
        >>> means = ClassMeans(torch.ones(1, 1, 2), torch.tensor([[True]]))
        >>> running_mean(torch.zeros(1, 2), torch.tensor([1.0]), means)[0].tolist()
        [[0.5, 0.5]]
    """
    for vectors, present in zip(means.vectors, means.present, strict=True):
        step = (vectors.to(prototypes.dtype) - prototypes) / (counts[:, None] + 1)
        prototypes = torch.where(present[:, None], prototypes + step, prototypes)
        counts = torch.where(present, (counts + 1).clamp(max=cap), counts)
    return prototypes, counts


@torch.no_grad()
def pooled_mean(prototypes: Tensor, counts: Tensor, sums: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Update prototypes that are the mean of all pixels of a class seen so far (ProDA eq. 5).

    Args:
        prototypes: [K, D] mean of the features before.
        counts: [K] number of these pixels.
        sums: [B, K, D] of the features of further images, see :func:`class_sums`.
        pixels: [B, K] number of their pixels.

    Returns:
        Prototypes [K, D] and counts [K].

    Example:
        >>> pooled_mean(torch.zeros(1, 1), torch.tensor([3.0]), torch.tensor([[[8.0]]]), torch.tensor([[1.0]]))
        (tensor([[2.]]), tensor([4.]))
    """
    total, more = sums.sum(0), pixels.sum(0)
    step = (total - more[:, None] * prototypes) / (counts + more).clamp(min=1)[:, None]
    return prototypes + step, counts + more


def feature_moments(features: Tensor) -> Tensor:
    """Sum features, their squares and their number; moments of several images may be added.

    Args:
        features: [B, D, h, w].

    Returns:
        [D + 2] float32: sum of each channel, sum of the squared lengths, number of pixels.

    Example:
        >>> feature_moments(torch.tensor([[[[1.0, 3.0]], [[5.0, 5.0]]]])).tolist()
        [4.0, 10.0, 60.0, 2.0]
    """
    f = features.float()
    number = f.new_full((1,), float(f.shape[0] * f.shape[2] * f.shape[3]))
    return torch.cat([f.sum((0, 2, 3)), f.square().sum()[None], number])


def total_variance(moments: Tensor) -> Tensor:
    """Compute the variance of features, summed over their channels, of their moments.

    Distances between features grow with its root.

    Args:
        moments: [D + 2], see :func:`feature_moments`.

    Returns:
        Scalar, at least 0.

    Example:
        >>> total_variance(feature_moments(torch.tensor([[[[1.0, 3.0]], [[5.0, 5.0]]]])))
        tensor(1.)
    """
    mean = moments[:-2] / moments[-1]
    return (moments[-2] / moments[-1] - mean.square().sum()).clamp(min=0)


def assignment(distance: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """Assign pixels softly to prototypes: ``softmax_k(-d_k T)`` (ProDA eq. 4 and 8 with T = 1 / tau).

    Args:
        distance: d [B, K, h, w].
        temperature: T multiplies the distance, as in the authors' code; the paper divides by tau.

    Returns:
        [B, K, h, w], summing to 1 over the prototypes.

    Example:
        >>> d = torch.tensor([0.0, 1.0]).view(1, 2, 1, 1)
        >>> [round(x, 4) for x in assignment(d).flatten().tolist()]
        [0.7311, 0.2689]
    """
    return (-distance * temperature).softmax(1)
