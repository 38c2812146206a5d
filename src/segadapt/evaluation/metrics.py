"""Scores of label maps; all of them follow from one confusion matrix.

All scores are percentages. A class that occurs neither in the truth nor in the prediction has no
IoU (NaN) and is left out of every mean, as in the Cityscapes evaluation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from segadapt.labels import IGNORE, LabelSpace
from segadapt.pieces.confusion import confusion_counts, require_classes


class ConfusionMatrix:
    """Pixel counts by true and predicted class, summed over images on the device.

    Args:
        classes: number of classes K.
        device: device on which the pixels are counted.

    Attributes:
        counts: [K, K + 1] int64, rows the truth, columns the prediction; the last column counts
            pixels that are predicted as no class (IGNORE). Pixels without truth are not counted.
            The counts of several processes may be added: ``sum([matrix.counts])``.

    Example:
        >>> from segadapt.labels import CITYSCAPES
        >>> matrix = ConfusionMatrix(len(CITYSCAPES))
        >>> matrix.update(prediction=torch.tensor([0, 0, 1]), label=torch.tensor([0, 1, 1]))
        >>> matrix.scores(CITYSCAPES).miou
        50.0
    """

    def __init__(self, classes: int, device: torch.device | str = "cpu"):
        self.classes = classes
        self.counts = torch.zeros((classes, classes + 1), dtype=torch.int64, device=device)

    def update(self, prediction: Tensor, label: Tensor, *, check: bool = True) -> None:
        """Count the pixels of a predicted and a true map; see :func:`segadapt.pieces.confusion.confusion_counts`.

        Args:
            prediction, label: maps of equal shape.
            check: whether the values of ``label`` are still to be checked.

        Raises:
            ValueError: the shapes differ.
            RequestError: the label map holds a value that is neither a class nor IGNORE.
        """
        if check:
            require_classes(label, self.classes)  # before the transfer: on a GPU the check would wait
        there = label.to(self.counts.device, non_blocking=True)
        counted = confusion_counts(prediction, there, self.classes, check=False)
        self.counts += counted[: self.classes]

    def scores(self, space: LabelSpace, merge: Mapping[str, str] | None = None) -> Scores:
        """Compute the scores of everything counted so far.

        Args:
            space: the K classes.
            merge: class that is predicted -> class of ``space`` that it counts as, or ``ignore`` for none: such pixels
                are missed by their true class, and wrong for no other.
        """
        counts = self.counts.cpu().numpy()
        return Scores.of(counts if not merge else merged_predictions(counts, space, merge), space)


def merged_predictions(
    counts: npt.NDArray[np.int64], space: LabelSpace, merge: Mapping[str, str]
) -> npt.NDArray[np.int64]:
    """Return a confusion matrix [K, K + 1] in which predictions of a class count as another, or as none.

    Example:
        >>> from segadapt.labels import LabelSpace
        >>> space = LabelSpace("s", ("car", "truck"), ((0, 0, 0), (1, 1, 1)))
        >>> merged_predictions(np.array([[5, 2, 0], [0, 0, 0]]), space, {"truck": "car"}).tolist()
        [[7, 0, 0], [0, 0, 0]]
    """
    result = np.zeros_like(counts)
    for column, goal in enumerate(space.mapping_to(space, merge)[: len(space)]):
        result[:, -1 if goal == IGNORE else goal] += counts[:, column]
    result[:, -1] += counts[:, -1]
    return result


@dataclass(frozen=True)
class Scores:
    """Scores in percent; NaN where undefined.

    Attributes:
        names: class names.
        iou: per class, true positives / (true positives + false positives + false negatives).
        accuracy: per class, share of its true pixels that are found (recall).
        pixels: per class, number of true pixels.
        miou: mean IoU over the classes that occur in truth or prediction.
        mpa: mean of ``accuracy`` over the classes that occur in the truth.
        pixel_accuracy: share of all pixels that are predicted correctly.
        fwiou: mean IoU in which each class weighs as much as its share of the true pixels.
        subsets: mean IoU over each named subset of the classes, of the same prediction.
    """

    names: tuple[str, ...]
    iou: tuple[float, ...]
    accuracy: tuple[float, ...]
    pixels: tuple[int, ...]
    miou: float
    mpa: float
    pixel_accuracy: float
    fwiou: float
    subsets: Mapping[str, float]

    @classmethod
    def of(cls, counts: npt.NDArray[np.int64], space: LabelSpace) -> Scores:
        """Compute scores from a confusion matrix [K, K] or [K, K + 1], rows the truth, in the classes of ``space``."""
        classes = len(space)
        if counts.shape not in ((classes, classes), (classes, classes + 1)):
            raise ValueError(f"confusion matrix {counts.shape} does not fit {classes} classes")
        right = np.diagonal(counts).astype(np.float64)
        true = counts.sum(1).astype(np.float64)
        predicted = counts[:, :classes].sum(0).astype(np.float64)
        iou = _ratio(right, true + predicted - right)
        accuracy = _ratio(right, true)
        total = true.sum()
        return cls(
            names=space.names,
            iou=tuple((100 * iou).tolist()),
            accuracy=tuple((100 * accuracy).tolist()),
            pixels=tuple(int(n) for n in true),
            miou=100 * _mean(iou),
            mpa=100 * _mean(accuracy),
            pixel_accuracy=100 * float(right.sum() / total) if total else math.nan,
            fwiou=100 * float(np.nansum(iou * true) / total) if total else math.nan,
            subsets={name: 100 * _mean(iou[space.subset_ids(name)]) for name in space.subsets},
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, NaN as null; ``iou``, ``accuracy`` and ``pixels`` by class name."""
        return {
            "miou": _plain(self.miou),
            "mpa": _plain(self.mpa),
            "pixel_accuracy": _plain(self.pixel_accuracy),
            "fwiou": _plain(self.fwiou),
            "subsets": {name: _plain(value) for name, value in self.subsets.items()},
            "iou": {name: _plain(value) for name, value in zip(self.names, self.iou, strict=True)},
            "accuracy": {name: _plain(value) for name, value in zip(self.names, self.accuracy, strict=True)},
            "pixels": dict(zip(self.names, self.pixels, strict=True)),
        }


def _ratio(part: npt.NDArray[np.float64], whole: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return ``part / whole``, NaN where ``whole`` is zero."""
    return np.asarray(np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0))


def _mean(values: npt.NDArray[np.float64]) -> float:
    """Average the defined values; NaN if there are none."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else math.nan


def _plain(value: float) -> float | None:
    """Replace NaN, which JSON does not know, by None."""
    return None if math.isnan(value) else value
