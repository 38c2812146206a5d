"""Contrast of pixels with the prototypes of another image, and labels passed on by them (BCL).

Lee, Oh, Hwang, Ham, *Bi-directional Contrastive Learning for Domain Adaptive Semantic Segmentation*,
ECCV 2022. Each image has its own prototypes [B, K, D]; only some classes are present in it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from segadapt.labels import IGNORE
from segadapt.pieces.directions import unit_vectors
from segadapt.pieces.precision import at_least_float32, exact_products
from segadapt.pieces.prototypes import ClassMeans
from segadapt.pieces.terms import Term

_ABSENT = -1e4
"""Similarity of a class without a prototype: no weight in a softmax, never the largest, and no NaN."""


def image_similarities(features: Tensor, prototypes: ClassMeans) -> Tensor:
    """Compute the cosine of each image's pixels with the prototypes paired with that image.

    Args:
        features: [B, D, h, w], with or without gradient.
        prototypes: vectors [B, K, D] and presence [B, K]; with or without gradient.

    Returns:
        [B, K, h, w] in -1 .. 1, in at least float32; -1e4 for absent classes.

    Example:
        >>> features = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)
        >>> prototypes = ClassMeans(torch.eye(2)[None], torch.tensor([[True, False]]))
        >>> [round(s, 4) for s in image_similarities(features, prototypes).flatten().tolist()]
        [0.6, -10000.0]
    """
    f = at_least_float32(features)
    with exact_products(f.device):
        vectors = F.normalize(prototypes.vectors.to(f.dtype), dim=2)
        similar = torch.einsum("bdhw,bkd->bkhw", unit_vectors(f, dim=1), vectors)
        return similar.masked_fill(~prototypes.present[:, :, None, None], _ABSENT)


def pixel_prototype_contrast(features: Tensor, labels: Tensor, prototypes: ClassMeans, temperature: float) -> Term:
    """Compute the cross entropy of pixels' similarities with prototypes of the other domain (BCL eq. 2 and 3).

    Args:
        features: [B, D, h, w].
        labels: [B, h, w] train ids; pixels with IGNORE, or of a class without prototype, do not count.
        prototypes: prototypes of the image that each image is paired with.
        temperature: tau, above 0; divides the cosines.

    Returns:
        Sum in nats, and number of the pixels that count; both are zero if no pixel counts.

    Example:
        >>> features = torch.eye(2).T.reshape(1, 2, 1, 2)  # two pixels, each along one axis
        >>> prototypes = ClassMeans(torch.eye(2)[None], torch.ones(1, 2, dtype=torch.bool))
        >>> loss = pixel_prototype_contrast(features, torch.tensor([[[0, 255]]]), prototypes, 1.0)
        >>> round(loss.mean().item(), 4), int(loss.count)
        (0.3133, 1)
    """
    log_p = (image_similarities(features, prototypes) / temperature).log_softmax(1)
    valid = labels != IGNORE
    place = torch.where(valid, labels, 0)
    valid = valid & prototypes.present.gather(1, place.flatten(1)).view_as(valid)
    pixels = torch.where(valid, -log_p.gather(1, place[:, None])[:, 0], 0.0)
    return Term(pixels.sum(), valid.sum().to(pixels.dtype))


@torch.no_grad()
def transferred_labels(
    features: Tensor, prototypes: ClassMeans, shown: Tensor, threshold: float, temperature: float | None = None
) -> Tensor:
    """Give pixels the label of the prototype that they are most similar to (BCL eq. 8 and 9).

    Args:
        features: [B, D, h, w].
        prototypes: prototypes of the image that each image is paired with, calibrated or not.
        shown: [B, h, w] bool, pixels that lie in their image; the others get no label.
        threshold: T; only pixels with a larger confidence get a label.
        temperature: tau, above 0: confidence is the largest probability in 0 .. 1 of the softmax of cosine / tau over
            the classes present (the authors' code). An image with one class then passes on no label, because nothing
            competes with it. None: confidence is the largest cosine, in -1 .. 1 (eq. 8 to the letter).

    Returns:
        [B, h, w] train ids, IGNORE elsewhere.

    Example:
        >>> features = torch.tensor([[1.0, 0.6], [0.0, 0.8]]).view(1, 2, 1, 2)
        >>> prototypes = ClassMeans(torch.eye(2)[None], torch.ones(1, 2, dtype=torch.bool))
        >>> shown = torch.ones(1, 1, 2, dtype=torch.bool)
        >>> transferred_labels(features, prototypes, shown, threshold=0.9).tolist()
        [[[0, 255]]]
        >>> transferred_labels(features, prototypes, shown, threshold=0.8, temperature=0.1).tolist()
        [[[0, 1]]]
    """
    similar = image_similarities(features, prototypes)
    rivals = 1 if temperature is None else 2
    confidence, labels = (similar if temperature is None else (similar / temperature).softmax(1)).max(1)
    usable = shown & (prototypes.present.sum(1) >= rivals)[:, None, None]
    return labels.masked_fill(~usable | (confidence <= threshold), IGNORE)
