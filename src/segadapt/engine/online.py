"""How good the pseudo labels are that a method makes while it trains, for the record alone."""

from __future__ import annotations

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

    @torch.no_grad()
    def add(self, samples: Samples, online: OnlineLabels) -> None:
        """Count one step's labels."""
        truth = None if self._truth is None else torch.full((0,), IGNORE)
        for name, labels in online.sets.items():
            size = (labels.shape[1], labels.shape[2])
            if truth is not None and truth.shape != labels.shape:
                truth = self._crops(samples, size).to(labels.device)
            pixels = inside(samples.windows, samples.sizes, size, labels.device).sum()
            row = torch.cat([self._confusion(labels, truth), pixels[None]]).double()
            self._counts[name] = self._counts[name] + row if name in self._counts else row

    def _confusion(self, labels: torch.Tensor, truth: torch.Tensor | None) -> torch.Tensor:
        """Confusion [K, K] by truth and label, flat, then the number of labelled pixels."""
        k, given = self._classes, labels != IGNORE
        judged = given & (truth != IGNORE) if truth is not None else torch.zeros_like(given)
        cell = (truth if truth is not None else labels) * k + labels
        matrix = torch.bincount(torch.where(judged, cell, k * k).reshape(-1), minlength=k * k + 1)[:-1]
        return torch.cat([matrix, given.sum()[None]])

    def _crops(self, samples: Samples, output: tuple[int, int]) -> torch.Tensor:
        """The truth of the crops at the resolution of the labels."""
        labels, _ = pad_batch([self._label(id) for id in samples.ids])
        windows: list[Window] = samples.windows
        return crop_labels(labels, windows, samples.sizes, output)

    def _label(self, id: str) -> LabelMap:
        assert self._truth is not None
        index, truth = self._places[id], self._truth
        return self._cache.get(
            (str(truth.items[index].label), self._size), lambda: resize_label(truth.label(index), self._size)
        )

    def take(self) -> dict[str, dict[str, float | None]]:
        """Every set since the last call, over all processes: shares in [0, 1], None where no truth is known.

        ``accuracy`` of the labelled pixels, ``mean_accuracy`` and ``miou`` over the classes that occur,
        ``density`` of the labels within the images.
        """
        self._runtime.sum(list(self._counts.values()))
        result = {name: self._shares(row.cpu()) for name, row in self._counts.items()}
        self._counts = {}
        return result

    def _shares(self, row: torch.Tensor) -> dict[str, float | None]:
        matrix, (given, pixels) = row[:-2].reshape(self._classes, self._classes), row[-2:].tolist()
        shares: dict[str, float | None] = {"accuracy": None, "mean_accuracy": None, "miou": None}
        if float(matrix.sum()):
            right, wanted, found = matrix.diag(), matrix.sum(1), matrix.sum(0)
            union = wanted + found - right
            shares = {
                "accuracy": float(right.sum() / matrix.sum()),
                "mean_accuracy": float((right / wanted)[wanted > 0].mean()),
                "miou": float((right / union)[union > 0].mean()),
            }
        return {**shares, "density": given / pixels}
