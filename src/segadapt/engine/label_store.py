"""The pseudo labels of one round on the disk, and their summary for the record.

FOLDER/labels/ID.png             label maps, 255 without a label
FOLDER/confidence/NUMBER.png     confidence of a few images, for the report
FOLDER/labels.json               the summary, written when all labels are
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from segadapt.core.documents import write_document
from segadapt.core.files import write_bytes
from segadapt.data.dataset import DamagedFile, Dataset
from segadapt.data.decode import read_index
from segadapt.data.files.writing import encode_picture
from segadapt.data.masks.mask_format import mask_format
from segadapt.data.streaming import Behind, or_damage
from segadapt.engine.damaged import DamagedFiles
from segadapt.engine.runtime import Runtime
from segadapt.engine.truth import LabelCounts, TrueLabels
from segadapt.labels import LabelSpace
from segadapt.pieces.images import for_device

SHOWN = 6
"""Images per round for which the confidence of the pseudo labels is kept, for the report."""


class LabelStore:
    """Stores the pseudo labels of one round and counts them, in threads.

    Args:
        folder: folder of the round.
        target: target images.
        space: label space of the labels.
        truth: true labels to compare with for the record, or None.
        runtime: runtime of this process.
        damaged: decides about true labels that cannot be read.
        behind: writes and counts while the caller goes on.
    """

    def __init__(
        self,
        folder: Path,
        target: Dataset,
        space: LabelSpace,
        *,
        truth: Dataset | None,
        runtime: Runtime,
        damaged: DamagedFiles,
        behind: Behind,
    ):
        self._folder, self._target, self._space, self._runtime, self._damaged = folder, target, space, runtime, damaged
        self._behind = behind
        self._stamp = mask_format(space, "train").stamp
        self._truth = None if truth is None else TrueLabels(truth)
        self._counts = LabelCounts.none(len(space), runtime.device)
        self._reported: dict[str, Any] = {}
        self._shown = set(np.linspace(0, len(target) - 1, min(SHOWN, len(target))).astype(int).tolist())

    def keep(self, index: int, label: Tensor, confidence: Tensor | None = None) -> None:
        """Write the pseudo label [H, W] of a target image as an index PNG that names its classes, and count it.

        Both are done behind the caller; :meth:`dataset` and :meth:`finish` wait for them.

        Args:
            index: position of the image in the target data set.
            label: train ids and IGNORE, uint8.
            confidence: [H, W] in [0, 1]; written for the few images that the report shows.

        Raises:
            RunError: a file of this or of an earlier image cannot be written.
        """
        grey = None
        if index in self._shown and confidence is not None:
            grey = (confidence.float().clamp(0, 1) * 255).round().to(torch.uint8)
        work = partial(self._write, index, label.to(torch.uint8, copy=True), grey)
        self._behind.add(work, self._add, holds=label.numel())

    def _write(self, index: int, label: Tensor, grey: Tensor | None) -> tuple[LabelCounts, DamagedFile | None]:
        """Write a label, and count it on its device beside the truth; return a complaint if that cannot be read."""
        write_bytes(self._file(index), self._stamp.into_png(encode_picture(".png", label.cpu().numpy())), flush=False)
        if grey is not None:
            shown = self._folder / "confidence" / f"{index:06d}.png"
            write_bytes(shown, encode_picture(".png", grey.cpu().numpy()), flush=False)
        truth = or_damage(lambda _: self._true_label(index, label))(None)
        problem = truth if isinstance(truth, DamagedFile) else None
        return LabelCounts.of(label, None if isinstance(truth, DamagedFile) else truth, len(self._space)), problem

    def _add(self, counted: tuple[LabelCounts, DamagedFile | None]) -> None:
        """Add the counts of an image; of a damaged truth as the run wants it."""
        counts, problem = counted
        self._counts += counts
        if problem is not None:
            self._damaged.readable(problem)

    def dataset(self) -> Dataset:
        """Return the target data set with the stored labels."""
        self._behind.finish()
        items = tuple(replace(item, label=self._file(i)) for i, item in enumerate(self._target.items))
        return replace(self._target, items=items, read_label=read_index)

    def report(self, values: Mapping[str, Any]) -> None:
        """Add a method's own numbers to the summary.

        Args:
            values: ``portion``; ``measured``, further numbers by name; and those of :func:`summarise`.
        """
        self._reported.update(values)

    def finish(self, stage: str, round_index: int) -> dict[str, Any] | None:
        """Write and return the summary over all processes; None if no label was kept. Every process must call this."""
        self._behind.finish()
        counts = self._counts.counts.clone()
        self._runtime.sum([counts])
        total = LabelCounts(counts.cpu())
        if not int(total.pixels):
            return None
        summary = {
            "stage": stage,
            "round": round_index,
            "portion": self._reported.get("portion"),
            "measured": self._reported.get("measured", {}),
            **summarise(total, self._space, self._reported),
            "shown": sorted(self._shown),
        }
        if self._runtime.main:
            write_document(self._folder / "labels.json", summary)
        self._runtime.barrier()
        return summary

    def _file(self, index: int) -> Path:
        return self._folder / "labels" / f"{self._target.items[index].id}.png"

    def _true_label(self, index: int, label: Tensor) -> Tensor | None:
        """Read the true label map at the size of the label, for its device; None where it is not known."""
        if self._truth is None:
            return None
        stored = self._truth.at(index, (label.shape[0], label.shape[1]))
        return for_device(stored, label.device).to(label.device, non_blocking=True)


def summarise(counts: LabelCounts, space: LabelSpace, reported: Mapping[str, Any]) -> dict[str, Any]:
    """Describe pseudo labels in numbers, overall and per class.

    Args:
        counts: the counted labels.
        space: label space.
        reported: numbers of the method, where it has them: ``thresholds`` [K]; ``predicted`` [K], pixels that the
            network predicts as each class; ``masses`` [K], the share of each class that the method counts on.

    Returns:
        ``density``, the share of the pixels that have a label; ``accuracy`` of the labels with known truth;
        ``classes``, the same per class and the shares of the class among the labels, in the truth and in ``masses``.
        Shares are in [0, 1]; None where there is nothing to compare with.
    """
    given, judged, right = counts.given, counts.judged, counts.confusion.diagonal()
    true, pixels = counts.true, int(counts.pixels)
    thresholds = reported.get("thresholds", torch.ones(len(space))).tolist()
    predicted = reported.get("predicted", given).tolist()
    masses = reported["masses"].tolist() if "masses" in reported else [None] * len(space)
    classes = [
        {
            "name": name,
            "threshold": thresholds[c],
            "predicted": int(predicted[c]),
            "selected": int(given[c]),
            "share_selected": float(given[c]) / predicted[c] if predicted[c] else 0.0,
            "density": float(given[c]) / pixels,
            "accuracy": _share(right[c], judged[c]),
            # Of the labels with known truth, and of the whole truth.
            "label_share": _share(judged[c], judged.sum()),
            "truth_share": _share(true[c], true.sum()),
            "mass": masses[c],
        }
        for c, name in enumerate(space.names)
    ]
    return {
        "density": float(given.sum()) / pixels,
        "accuracy": _share(right.sum(), judged.sum()),
        "classes": classes,
    }


def _share(part: Tensor, whole: Tensor) -> float | None:
    """Divide two counts; None where there is nothing to divide by."""
    return float(part) / float(whole) if int(whole) else None
