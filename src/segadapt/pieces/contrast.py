"""Contrast of pixels with the prototypes of another image, and labels passed on by them (BCL).

Lee, Oh, Hwang, Ham, *Bi-directional Contrastive Learning for Domain Adaptive Semantic Segmentation*,
ECCV 2022. Prototypes belong to single images: [B, K, D], of which only some classes are present.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from segadapt.labels import IGNORE
from segadapt.pieces.precision import at_least_float32
from segadapt.pieces.prototypes import ClassMeans
from segadapt.pieces.terms import Term

_ABSENT = -1e4
"""Similarity of a class without prototype: no weight in a softmax, never the largest, and no NaN."""


def image_similarities(features: Tensor, prototypes: ClassMeans) -> Tensor:
    """Cosine of the pixels of each image with the prototypes that belong to it, in at least float32.

    Args:
        features: [B, D, h, w], with or without gradient.
        prototypes: [B, K, D] and [B, K]; with or without gradient.

    Returns:
        [B, K, h, w] in -1 .. 1, and -1e4 for absent classes.
    """
    f = at_least_float32(features)
    with torch.autocast(f.device.type, enabled=False):
        vectors = F.normalize(prototypes.vectors.to(f.dtype), dim=2)
        similar = torch.einsum("bdhw,bkd->bkhw", F.normalize(f, dim=1), vectors)
        return similar.masked_fill(~prototypes.present[:, :, None, None], _ABSENT)


def pixel_prototype_contrast(features: Tensor, labels: Tensor, prototypes: ClassMeans, temperature: float) -> Term:
    """Cross entropy of pixels' similarities with prototypes of the other domain (eq. 2 and 3).

    Args:
        features: [B, D, h, w].
        labels: [B, h, w] train ids; pixels with IGNORE, or of a class without prototype, do not count.
        prototypes: of the image that each is paired with.
        temperature: tau.

    Returns:
        Sum and number of the pixels that count; both zero if none does.
    """
    log_p = (image_similarities(features, prototypes) / temperature).log_softmax(1)
    valid = labels != IGNORE
    place = torch.where(valid, labels, 0)
    valid = valid & prototypes.present.gather(1, place.flatten(1)).view_as(valid)
    pixels = torch.where(valid, -log_p.gather(1, place[:, None])[:, 0], 0.0)
    return Term(pixels.sum(), valid.sum().to(pixels.dtype))


@torch.no_grad()
def transferred_labels(
    features: Tensor, prototypes: ClassMeans, shown: Tensor, threshold: float, density: float | None = None
) -> Tensor:
    """Labels passed on from prototypes to the pixels most similar to them (eq. 8 and 9).

    Args:
        features: [B, D, h, w].
        prototypes: of the image that each is paired with, calibrated or not.
        shown: [B, h, w] bool, pixels that lie in their image; the others get no label.
        threshold: T; only pixels more similar than this get a label.
        density: instead of T, the share of the pixels of the batch that get one, the most similar ones.

    Returns:
        [B, h, w] train ids, IGNORE elsewhere.
    """
    similar, labels = image_similarities(features, prototypes).max(1)
    similar = similar.masked_fill(~shown, _ABSENT)
    if density is not None:
        kept = max(1, round(density * similar.numel()))
        passes = (similar >= similar.flatten().topk(kept).values[-1]) & (similar > _ABSENT)
    else:
        passes = similar > threshold
    return labels.masked_fill(~passes, IGNORE)
