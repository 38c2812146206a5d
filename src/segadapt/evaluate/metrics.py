"""Scores of label maps: one confusion matrix, everything else follows from it.

All scores are percentages. A class that occurs neither in the truth nor in the prediction has no
IoU (NaN) and enters no mean, as in the Cityscapes evaluation.
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

from segadapt.errors import RequestError
from segadapt.labels import IGNORE, LabelSpace


class ConfusionMatrix:
    """Pixel counts by true and predicted class, summed over images on the device.

    Args:
        classes: number of classes K.
        device: where the counts live.

    Attributes:
        counts: [K, K + 1] int64, rows the truth, columns the prediction; the last column counts
            pixels whose prediction is no class (IGNORE). Pixels without truth are not counted.
            May be added over processes: ``sum([matrix.counts])``.
    """

    def __init__(self, classes: int, device: torch.device | str = "cpu"):
        self.classes = classes
        self.counts = torch.zeros((classes, classes + 1), dtype=torch.int64, device=device)

    def update(self, prediction: Tensor, label: Tensor) -> None:
        """Count pixels of integer maps of equal shape; RequestError for a label that is no class."""
        if prediction.shape != label.shape:
            raise ValueError(f"prediction {tuple(prediction.shape)} and label {tuple(label.shape)} differ in shape")
        columns = self.classes + 1
        cells = self.classes * columns
        label = label.to(self.counts.device).long().flatten()
        prediction = prediction.to(self.counts.device).long().flatten().clamp(max=self.classes)
        # Bin 0 takes the pixels without truth; a label beyond the classes lengthens the result.
        cell = torch.where(label == IGNORE, 0, label * columns + prediction + 1)
        found = torch.bincount(cell, minlength=cells + 1)
        if len(found) > cells + 1:
            raise RequestError(
                f"a label map holds class {(len(found) - 2) // columns}, but there are only {self.classes} classes "
                f"(0 to {self.classes - 1}, and {IGNORE} for none)"
            )
        self.counts += found[1:].view(self.classes, columns)

    def scores(self, space: LabelSpace) -> Scores:
        """The scores of everything counted so far."""
        return Scores.of(self.counts.cpu().numpy(), space)


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
        pixel_accuracy: share of all pixels that are right.
        fwiou: IoU averaged with the classes' shares of the true pixels as weights.
        subsets: mean IoU over named selections of classes, of the same prediction.
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
        """Scores of a confusion matrix [K, K] or [K, K + 1] (rows the truth) in classes of ``space``."""
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
        """Plain JSON values, NaN as null; ``iou``, ``accuracy`` and ``pixels`` by class name."""
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
    """``part / whole``, NaN where ``whole`` is zero."""
    return np.asarray(np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0))


def _mean(values: npt.NDArray[np.float64]) -> float:
    """Mean of the defined values; NaN if there is none."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else math.nan


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else value
