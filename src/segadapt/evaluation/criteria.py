"""Criteria that tell about a model without target labels; of the same images, the higher one is meant to be better."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from segadapt.evaluation.looking import Look
from segadapt.pieces.confusion import confusion_counts
from segadapt.pieces.unlabelled import (
    classes_kept,
    dispersity,
    entropies,
    information,
    neighbourhood_density,
    share_divergence,
)

CRITERIA: Mapping[str, str] = {
    "steady": "mean of mirrored, light and recoloured, as far as they are known, in percent",
    "certainty": "minus the mean entropy of a pixel, in nats",
    "information": "entropy of the mean prediction minus the mean entropy, in nats",
    "dispersity": "nuclear norm of the predictions, in (0, 1]",
    "density": "soft neighbourhood density, in nats",
    "mirrored": "mIoU with the mirrored view, in percent",
    "light": "mIoU with a brighter and a darker view, in percent",
    "ensemble": "mIoU with the mean prediction of all models compared, in percent",
    "unchanged": "mIoU with the model that was adapted, in percent",
    "kept": "part of the classes of the model that was adapted that are still predicted, in [0, 1]",
    "shares": "minus the divergence of the predicted class shares from those of the source labels, in nats",
    "source": "mIoU on source images, in percent",
    "recoloured": "mIoU on source images in the colours of the target, in percent",
}
"""Criteria by name, and what they are. The last three need source images."""
STEADY = ("mirrored", "light", "recoloured")
"""Criteria that ask whether a prediction stays as it is, or right, where only the look of an image changes."""
DENSITY_PIXELS = 2000
"""Pixels of which the neighbourhood density is taken; its cost grows with their square."""


def criteria_of(look: Look, before: Look | None, ensemble: Tensor | None = None) -> dict[str, float | None]:
    """Compute all criteria of a model.

    Args:
        look: the model on the sample.
        before: the model that it was adapted from on the same sample, or None.
        ensemble: [N] labels of the mean prediction, see :func:`ensemble_labels`, or None.

    Returns:
        Numbers by name of :data:`CRITERIA`; None where something is missing that a criterion needs, or a number is not
        finite.
    """
    p, labels, classes = look.probabilities, look.labels, look.probabilities.shape[1]
    shares = torch.bincount(labels, minlength=classes) / len(labels)
    chosen = torch.randperm(len(p), generator=torch.Generator().manual_seed(0))[:DENSITY_PIXELS]
    found: dict[str, float | None] = {
        "certainty": -float(entropies(p).mean()),
        "information": information(p),
        "dispersity": dispersity(p),
        "density": neighbourhood_density(p[chosen]),
        "mirrored": agreement(labels, look.views["mirrored"], classes),
        "light": sum(agreement(labels, look.views[name], classes) for name in ("brighter", "darker")) / 2,
        "ensemble": agreement(labels, ensemble, classes) if ensemble is not None else None,
    }
    if before is not None:
        earlier = torch.bincount(before.labels, minlength=classes) / len(labels)
        found |= {"unchanged": agreement(labels, before.labels, classes), "kept": classes_kept(shares, earlier)}
    if look.source is not None and look.recoloured is not None:
        truth = look.source[:classes].sum(1)
        found |= {"shares": -share_divergence(shares, truth)}
        found |= {"source": mean_iou(look.source), "recoloured": mean_iou(look.recoloured)}
    known = [value for name in STEADY if (value := _finite(found.get(name))) is not None]
    found["steady"] = sum(known) / len(known) if known else None
    return {name: _finite(found.get(name)) for name in CRITERIA}


def ensemble_labels(looks: Sequence[Look]) -> Tensor:
    """Return the labels [N] of the mean of the predictions of several models at the same places.

    Hu, Luo, Liang, Foo: *Towards Reliable Model Selection for Unsupervised Domain Adaptation*, NeurIPS 2024, choose the
    model that agrees best with it: an ensemble is at least as good as its members are on average.

    Args:
        looks: of one sample.
    """
    return torch.stack([look.probabilities for look in looks]).mean(0).argmax(1)


def agreement(one: Tensor, other: Tensor, classes: int) -> float:
    """Compute the mIoU in percent of two label maps of the same places [N]; the order does not matter."""
    return mean_iou(confusion_counts(one, other, classes))


def mean_iou(counts: Tensor) -> float:
    """Compute the mean IoU in percent, over the classes that occur, of [K + 1, K + 1] counts, rows the truth.

    Pixels without a true class do not count; NaN without any pixel.
    """
    inner = counts[:-1].double()
    right = inner.diagonal()
    union = inner.sum(1) + inner.sum(0)[:-1] - right
    there = union > 0
    return 100 * float((right[there] / union[there]).mean())


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
