"""Class prototypes: one vector a class in feature space, and how pixels relate to them.

Zhang et al., *Prototypical Pseudo Label Denoising and Target Structure Learning for Domain
Adaptive Semantic Segmentation* (ProDA), CVPR 2021. Nothing here waits for the device or makes a map
of the size [B, K, D, h, w].
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from segadapt.pieces.precision import at_least_float32

LEAST_PIXELS = 10
"""A class with fewer pixels in an image gives no mean there."""
_LEAST_LENGTH = 1e-12
"""A vector without length has the cosine 0 with all others."""
COUNT_CAP = 3000
"""A running mean over this many vectors goes on as a moving average of the rate 1 / (COUNT_CAP + 1)."""


class ClassMeans(NamedTuple):
    """Mean features of the classes in each image of a batch.

    Attributes:
        vectors: [B, K, D] float32; zero where the class is not present.
        present: [B, K] bool.
    """

    vectors: Tensor
    present: Tensor


def distances(features: Tensor, prototypes: Tensor) -> Tensor:
    """Euclidean distance of every pixel's feature to every prototype, in at least float32.

    One matrix product by ``|f - e|^2 = |f|^2 - 2 f e + |e|^2``; the vectors are moved first so that
    the mean prototype is the origin, which leaves distances as they are and rounding small.

    Args:
        features: [B, D, h, w], with or without gradient.
        prototypes: [K, D].

    Returns:
        [B, K, h, w], at least 1e-6 so that the gradient is finite.
    """
    f = at_least_float32(features)
    e = prototypes.to(f.dtype)
    with torch.autocast(f.device.type, enabled=False):
        centre = e.mean(0)
        f, e = f - centre[:, None, None], e - centre
        products = torch.einsum("bdhw,kd->bkhw", f, e)
        squares = f.square().sum(1, keepdim=True) - 2 * products + e.square().sum(1)[:, None, None]
        return squares.clamp(min=1e-12).sqrt()


def cosines(features: Tensor, prototypes: Tensor) -> Tensor:
    """Cosine of every pixel's feature and every prototype, in at least float32.

    Args:
        features: [B, D, h, w], with or without gradient.
        prototypes: [K, D], with or without gradient.

    Returns:
        [B, K, h, w] in -1 .. 1.
    """
    f = at_least_float32(features)
    with torch.autocast(f.device.type, enabled=False):
        vectors = F.normalize(prototypes.to(f.dtype), dim=1)
        products = torch.bmm(vectors.expand(len(f), -1, -1), f.flatten(2)).view(len(f), -1, *f.shape[2:])
        # Dividing a pixel's K products is less work than dividing its D features.
        similar: Tensor = products / f.norm(dim=1, keepdim=True).clamp(min=_LEAST_LENGTH)
        return similar


def class_sums(features: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Sum of the features of each class in each image [B, K, D], and its pixels [B, K], in float32.

    The sums have the gradient of the features.

    Args:
        features: [B, D, h, w].
        labels: [B, h, w] class of each pixel, any integer type; what is not in 0 .. K-1 does not count.
        classes: K.
    """
    batch, channels = features.shape[:2]
    labels = labels.reshape(batch, -1).long()
    valid = (labels >= 0) & (labels < classes)
    members = torch.zeros(batch, classes + 1, labels.shape[1], device=features.device)
    members.scatter_(1, torch.where(valid, labels, classes)[:, None], 1.0)
    members = members[:, :classes]
    with torch.autocast(features.device.type, enabled=False):
        return members @ features.float().reshape(batch, channels, -1).transpose(1, 2), members.sum(2)


def class_means(features: Tensor, labels: Tensor, classes: int, least: int = LEAST_PIXELS) -> ClassMeans:
    """Mean feature of each class in each image (ProDA eq. 5, image by image as its code does).

    The means have the gradient of the features.

    Args:
        features: [B, D, h, w].
        labels: [B, h, w] class of each pixel, any integer type; what is not in 0 .. K-1 does not count.
        classes: K.
        least: a class is present if at least so many pixels have it.
    """
    sums, counts = class_sums(features, labels, classes)
    present = counts >= least
    return ClassMeans(torch.where(present[..., None], sums / counts.clamp(min=1)[..., None], 0.0), present)


@torch.no_grad()
def moving_average(prototypes: Tensor, means: ClassMeans, rate: float) -> Tensor:
    """Prototypes [K, D] moved towards the class means, image after image: ``e + rate (v - e)`` (ProDA eq. 6).

    Args:
        prototypes: [K, D].
        means: of B images; a class in several of them moves several times.
        rate: one minus the momentum of the paper.
    """
    everyone = torch.ones(len(prototypes), dtype=torch.bool, device=prototypes.device)
    return seen_average(prototypes, everyone, means, rate)[0]


@torch.no_grad()
def seen_average(prototypes: Tensor, seen: Tensor, means: ClassMeans, rate: float) -> tuple[Tensor, Tensor]:
    """:func:`moving_average` that starts with the first mean of a class; the prototypes, and which have one.

    Args:
        prototypes: [K, D].
        seen: [K] bool, classes that have a prototype.
        means: of B images.
        rate: one minus the momentum.
    """
    for vectors, present in zip(means.vectors, means.present, strict=True):
        moved = prototypes + (rate * (vectors.to(prototypes.dtype) - prototypes))
        now = torch.where(seen[:, None], moved, vectors.to(prototypes.dtype))
        prototypes = torch.where(present[:, None], now, prototypes)
        seen = seen | present
    return prototypes, seen


@torch.no_grad()
def running_mean(prototypes: Tensor, counts: Tensor, means: ClassMeans, cap: int = COUNT_CAP) -> tuple[Tensor, Tensor]:
    """Prototypes [K, D] as the mean of all class means seen so far, and how many those were.

    Args:
        prototypes: [K, D] mean of the vectors before.
        counts: [K] how many they were.
        means: of B further images.
        cap: the counts stop here.
    """
    for vectors, present in zip(means.vectors, means.present, strict=True):
        step = (vectors.to(prototypes.dtype) - prototypes) / (counts[:, None] + 1)
        prototypes = torch.where(present[:, None], prototypes + step, prototypes)
        counts = torch.where(present, (counts + 1).clamp(max=cap), counts)
    return prototypes, counts


def assignment(distance: Tensor, temperature: float = 1.0) -> Tensor:
    """Soft assignment of pixels to prototypes: ``softmax_k(-d_k * T)`` (ProDA eq. 4 and 7 with T = 1 / tau).

    Args:
        distance: [B, K, h, w].
        temperature: multiplies the distance, as in the authors' code; the paper divides by tau.
    """
    return (-distance * temperature).softmax(1)
