"""Pseudo labels beside the truth, for the record alone: nothing here reaches a method."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from segadapt.data.cache import DecodedCache
from segadapt.data.dataset import Dataset
from segadapt.data.resize import Resize, resize_label
from segadapt.errors import RequestError
from segadapt.labels import IGNORE, LabelMap
from segadapt.pieces.confusion import confusion_counts, require_classes


class TrueLabels:
    """The true label maps of the target images.

    Args:
        dataset: target training set with labels.
        cache: keeps decoded label maps; None reads them again each time.
    """

    def __init__(self, dataset: Dataset, cache: DecodedCache | None = None):
        self._dataset, self._cache = dataset, cache or DecodedCache(0)
        self._places = {item.id: i for i, item in enumerate(dataset.items)}

    def at(self, index: int, size: Resize) -> LabelMap:
        """Return the true label map of one image at a size, nearest.

        Raises:
            DamagedFile: the label cannot be read.
            RequestError: the label holds a value that is neither a class nor IGNORE.
        """
        return self._cache.get(("label", self._dataset.items[index].label, size), lambda: self._read(index, size))

    def named(self, name: str, size: Resize) -> LabelMap:
        """Return the true label map of the image with this id; see :meth:`at`."""
        return self.at(self._places[name], size)

    def _read(self, index: int, size: Resize) -> LabelMap:
        label = self._dataset.label(index)
        try:
            require_classes(torch.from_numpy(label), len(self._dataset.space))
        except RequestError as problem:
            raise RequestError(f"{self._dataset.name}: '{self._dataset.items[index].id}': {problem}") from None
        return resize_label(label, size)


@dataclass(frozen=True)
class LabelCounts:
    """Pixels of pseudo labels by true class and label; the counts of several images, steps or processes may be added.

    Attributes:
        counts: [K + 1, K + 1] int64, see :func:`segadapt.pieces.confusion.confusion_counts`.
    """

    counts: Tensor

    @classmethod
    def none(cls, classes: int, device: torch.device | str = "cpu") -> LabelCounts:
        """Start with no pixel counted."""
        return cls(torch.zeros((classes + 1, classes + 1), dtype=torch.int64, device=device))

    @classmethod
    def of(cls, labels: Tensor, truth: Tensor | None, classes: int) -> LabelCounts:
        """Count label maps [..., H, W] beside the truth of equal shape, or alone where it is not known.

        The truth must have passed :func:`segadapt.pieces.confusion.require_classes`. Nothing waits for the device.
        """
        known = torch.full_like(labels, IGNORE) if truth is None else truth
        return cls(confusion_counts(labels, known, classes, check=False))

    def __add__(self, other: LabelCounts) -> LabelCounts:
        return LabelCounts(self.counts + other.counts)

    @property
    def confusion(self) -> Tensor:
        """Confusion matrix [K, K] by true class and label, of the labelled pixels with known truth."""
        return self.counts[:-1, :-1]

    @property
    def judged(self) -> Tensor:
        """Pixels [K] of each label with known truth."""
        return self.confusion.sum(0)

    @property
    def given(self) -> Tensor:
        """Pixels [K] of each label, whether their truth is known or not."""
        return self.counts[:, :-1].sum(0)

    @property
    def pixels(self) -> Tensor:
        """All counted pixels, as a number."""
        return self.counts.sum()

    @property
    def true(self) -> Tensor:
        """Pixels [K] of each class in the truth, labelled or not."""
        return self.counts[:-1].sum(1)
