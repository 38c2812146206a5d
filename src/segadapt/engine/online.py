"""Accuracy of the pseudo labels that a method makes while it trains, for the record alone."""

from __future__ import annotations

from typing import Any

import torch

from segadapt.data.augment import Window, crop_labels, pad_batch
from segadapt.data.dataset import Dataset
from segadapt.data.loader import DecodedCache, Samples
from segadapt.data.resize import Resize, resize_label
from segadapt.engine.runtime import Runtime
from segadapt.labels import IGNORE, LabelMap
from segadapt.methods.method import OnlineLabels


class OnlineRecord:
    """Counts how many online labels are given and right; nothing of it reaches the method.

    Args:
        truth: the target set with labels, or None: then only the share of labelled pixels is counted.
        size: working size of the target images.
        cache: of decoded labels.
        runtime: of this process.
    """

    def __init__(self, truth: Dataset | None, size: Resize, cache: DecodedCache, runtime: Runtime):
        self._truth, self._size, self._cache, self._runtime = truth, size, cache, runtime
        self._places = {item.id: i for i, item in enumerate(truth.items)} if truth is not None else {}
        self._counts: dict[str, torch.Tensor] = {}

    @torch.no_grad()
    def add(self, samples: Samples, online: OnlineLabels) -> None:
        """Count one step's labels."""
        truth: torch.Tensor | None = None
        for name, labels in online.sets.items():
            given = labels != IGNORE
            counts = [given.sum(), torch.tensor(given.numel(), device=given.device)]
            if self._truth is not None:
                if truth is None or truth.shape != labels.shape:
                    truth = self._crops(samples, (labels.shape[1], labels.shape[2])).to(labels.device)
                judged = given & (truth != IGNORE)
                counts += [judged.sum(), (judged & (truth == labels)).sum()]
            row = torch.stack(counts).double()
            self._counts[name] = self._counts[name] + row if name in self._counts else row

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

    def take(self) -> dict[str, dict[str, Any]]:
        """Accuracy and density of every set since the last call, over all processes."""
        self._runtime.sum(list(self._counts.values()))
        result = {}
        for name, row in self._counts.items():
            numbers = row.tolist()
            right = numbers[3] / numbers[2] if len(numbers) == 4 and numbers[2] else None
            result[name] = {"accuracy": right, "density": numbers[0] / numbers[1]}
        self._counts = {}
        return result
