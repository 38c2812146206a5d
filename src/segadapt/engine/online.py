"""How good the pseudo labels are that a method makes while it trains, for the record alone."""

from __future__ import annotations

from typing import Any

import torch

from segadapt.data.augment import Window, crop_labels, pad_batch
from segadapt.data.cache import DecodedCache
from segadapt.data.dataset import Dataset
from segadapt.data.loader import Samples
from segadapt.data.resize import Resize, resize_label
from segadapt.engine.runtime import Runtime
from segadapt.labels import IGNORE, LabelMap
from segadapt.methods.method import OnlineLabels
from segadapt.pieces.windows import inside


class OnlineRecord:
    """Counts how many online labels are given and right; nothing of it reaches the method.

    Args:
        truth: the target set with labels, or None: then only the share of labelled pixels is counted.
        classes: K.
        size: working size of the target images.
        cache: of decoded labels.
        runtime: of this process.
    """

    def __init__(self, truth: Dataset | None, classes: int, size: Resize, cache: DecodedCache, runtime: Runtime):
        self._truth, self._classes, self._size, self._cache, self._runtime = truth, classes, size, cache, runtime
        self._places = {item.id: i for i, item in enumerate(truth.items)} if truth is not None else {}
        self._counts: dict[str, torch.Tensor] = {}
        self._true: torch.Tensor | None = None

    @torch.no_grad()
    def add(self, samples: Samples, online: OnlineLabels) -> None:
        """Count one step's labels."""
        truth: torch.Tensor | None = None
        size, pixels = (0, 0), torch.zeros(())
        sets = online.sets if self._truth is None else {**online.sets, **online.alternatives()}
        for name, labels in sets.items():
            if size != (labels.shape[1], labels.shape[2]):
                size = (labels.shape[1], labels.shape[2])
                pixels = inside(samples.windows, samples.sizes, size, labels.device).sum()
                truth = None if self._truth is None else self._crops(samples, size).to(labels.device)
            row = torch.cat([self._confusion(labels, truth), pixels[None]])
            self._counts[name] = self._counts[name] + row if name in self._counts else row
        if truth is not None:
            found = torch.bincount(truth.clamp(max=self._classes).reshape(-1), minlength=self._classes + 1)[:-1]
            self._true = found if self._true is None else self._true + found

    def _confusion(self, labels: torch.Tensor, truth: torch.Tensor | None) -> torch.Tensor:
        """Confusion [K, K] by truth and label, flat, then the number of labelled pixels."""
        k, given = self._classes, labels != IGNORE
        judged = given & (truth != IGNORE) if truth is not None else torch.zeros_like(given)
        cell = (truth if truth is not None else labels) * k + labels
        matrix = torch.bincount(torch.where(judged, cell, k * k).reshape(-1), minlength=k * k + 1)[:-1]
        return torch.cat([matrix, given.sum()[None]])

    def _crops(self, samples: Samples, output: tuple[int, int]) -> torch.Tensor:
        """The truth of the crops at the resolution of the labels."""
        labels, _ = pad_batch([self._label(name) for name in samples.ids])
        windows: list[Window] = samples.windows
        return crop_labels(labels, windows, samples.sizes, output)

    def _label(self, name: str) -> LabelMap:
        assert self._truth is not None
        index, truth = self._places[name], self._truth
        return self._cache.get(
            (str(truth.items[index].label), self._size), lambda: resize_label(truth.label(index), self._size)
        )

    def take(self) -> dict[str, Any]:
        """Every set since the last call, over all processes: shares in [0, 1], None where no truth is known.

        Returns:
            ``sets`` by name: ``accuracy`` of the labelled pixels, ``mean_accuracy`` and ``miou`` over the
            classes that occur, ``density`` of the labels within the images, and, where the truth is
            known, ``classes``: the share of every class among the labels of pixels with a known truth.
            Then also ``truth``: the share of every class in the truth of the crops. Empty without labels.
        """
        counts, true = self._counts, self._true
        self._counts, self._true = {}, None
        if not counts:
            return {}
        self._runtime.sum([*counts.values(), *([] if true is None else [true])])
        found: dict[str, Any] = {"sets": {name: self._shares(row.cpu().double()) for name, row in counts.items()}}
        return found if true is None else {**found, "truth": _class_shares(true.cpu())}

    def _shares(self, row: torch.Tensor) -> dict[str, Any]:
        matrix, (given, pixels) = row[:-2].reshape(self._classes, self._classes), row[-2:].tolist()
        shares: dict[str, Any] = {"accuracy": None, "mean_accuracy": None, "miou": None}
        if float(matrix.sum()):
            right, wanted, found = matrix.diag(), matrix.sum(1), matrix.sum(0)
            union = wanted + found - right
            shares = {
                "accuracy": float(right.sum() / matrix.sum()),
                "mean_accuracy": float((right / wanted)[wanted > 0].mean()),
                "miou": float((right / union)[union > 0].mean()),
                "classes": _class_shares(found),
            }
        return {**shares, "density": given / pixels}


def _class_shares(counts: torch.Tensor) -> list[float]:
    """Counts [K] divided by their sum, with the four digits that a log needs."""
    total = max(float(counts.sum()), 1.0)
    return [float(f"{count / total:.4g}") for count in counts.tolist()]
