"""The quality of pseudo labels that a method makes in its training steps, for the record alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from segadapt.core.types import Size
from segadapt.data.augment import crop_labels
from segadapt.data.cache import DecodedCache
from segadapt.data.dataset import Dataset
from segadapt.data.loader import Samples
from segadapt.data.resize import Resize
from segadapt.engine.runtime import Runtime
from segadapt.engine.truth import LabelCounts, TrueLabels
from segadapt.methods.method import OnlineLabels
from segadapt.pieces.windows import inside


class OnlineRecord:
    """Counts how many pixels get online labels, and how many of the labels are right.

    Args:
        truth: the target set with labels, or None: then only the share of labelled pixels is counted.
        classes: number of classes K.
        size: working size of the target images.
        cache: decoded labels.
        runtime: runtime of this process.
    """

    def __init__(self, truth: Dataset | None, classes: int, size: Resize, cache: DecodedCache, runtime: Runtime):
        self._truth = None if truth is None else TrueLabels(truth, cache)
        self._classes, self._size, self._runtime = classes, size, runtime
        self._clear()

    def _clear(self) -> None:
        self._counts: dict[str, LabelCounts] = {}
        self._pixels: dict[str, Tensor] = {}
        self._true: Tensor | None = None
        self._masses: dict[str, Tensor] = {}

    @torch.no_grad()
    def add(self, samples: Samples, online: OnlineLabels) -> None:
        """Count the labels of one step; nothing waits for the device."""
        self._masses = {name: shares.detach().clone() for name, shares in online.masses.items()}
        counts: LabelCounts | None = None
        truth: Tensor | None = None
        size, pixels = (0, 0), torch.zeros(())
        sets = online.sets if self._truth is None else {**online.sets, **online.alternatives()}
        for name, labels in sets.items():
            if size != (labels.shape[1], labels.shape[2]):
                size = (labels.shape[1], labels.shape[2])
                pixels = inside(samples.windows, samples.sizes, size, labels.device).sum()
                truth = None if self._truth is None else self._crops(self._truth, samples, size, labels.device)
            counts = LabelCounts.of(labels, truth, self._classes)
            self._counts[name] = self._counts[name] + counts if name in self._counts else counts
            self._pixels[name] = self._pixels[name] + pixels if name in self._pixels else pixels
        if counts is not None and truth is not None:
            self._true = counts.true if self._true is None else self._true + counts.true

    def _crops(self, truth: TrueLabels, samples: Samples, size: Size, device: torch.device) -> Tensor:
        """Cut the crops out of the true label maps, at the resolution of the labels, and send them to a device."""
        labels = crop_labels([truth.named(name, self._size) for name in samples.ids], samples.windows, size)
        return labels.to(device, non_blocking=True).long()

    def take(self) -> dict[str, Any]:
        """Return the quality of every set of labels since the last call, over all processes, and start again.

        Returns:
            Shares in [0, 1], None where no truth is known. ``sets`` by name: ``accuracy`` of the labelled pixels,
            ``mean_accuracy`` and ``miou`` over the classes that occur, ``density`` of the labels within the images,
            and, where the truth is known, ``classes``: the share of every class among the labels of pixels with a
            known truth. Then also ``truth``: the share of every class in the truth of the crops. ``masses`` by name:
            the shares that the method counted on at the last step, where it has any. Empty without labels.
        """
        counts, pixels, true, masses = self._counts, self._pixels, self._true, self._masses
        self._clear()
        if not counts:
            return {}
        self._runtime.sum(
            [*(c.counts for c in counts.values()), *pixels.values(), *([] if true is None else [true])],
        )
        quality: dict[str, Any] = {"sets": {name: _shares(counts[name], float(pixels[name])) for name in counts}}
        if masses:
            quality["masses"] = {name: _class_shares(shares.cpu()) for name, shares in masses.items()}
        return quality if true is None else {**quality, "truth": _class_shares(true.cpu())}


def _shares(counts: LabelCounts, pixels: float) -> dict[str, Any]:
    """Describe one set of labels on ``pixels`` pixels; see :meth:`OnlineRecord.take`."""
    counts = LabelCounts(counts.counts.cpu().double())
    shares: dict[str, Any] = {"accuracy": None, "mean_accuracy": None, "miou": None}
    confusion, judged = counts.confusion, counts.judged
    if float(judged.sum()):
        right, wanted = confusion.diag(), confusion.sum(1)
        union = wanted + judged - right
        shares = {
            "accuracy": float(right.sum() / judged.sum()),
            "mean_accuracy": float((right / wanted)[wanted > 0].mean()),
            "miou": float((right / union)[union > 0].mean()),
            "classes": _class_shares(judged),
        }
    return {**shares, "density": float(counts.given.sum()) / pixels}


def _class_shares(counts: Tensor) -> list[float]:
    """Divide counts [K] by their sum, with the four digits that a log needs."""
    total = max(float(counts.sum()), 1.0)
    return [float(f"{count / total:.4g}") for count in counts.tolist()]
