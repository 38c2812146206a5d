"""What a method may ask of the engine between training steps: data, passes, a place for labels."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from segadapt.core.files import read_json, write_bytes, write_json
from segadapt.core.types import Size
from segadapt.data.cache import DecodedCache
from segadapt.data.dataset import DamagedFile, Dataset
from segadapt.data.decode import read_index
from segadapt.data.resize import Resize, resize_image, resize_label
from segadapt.data.statistics import class_statistics, spatial_frequencies
from segadapt.data.writing import encode_picture
from segadapt.engine.record import Record, Steps
from segadapt.engine.runtime import Runtime
from segadapt.engine.stored import KeptScores, SoftLabels
from segadapt.errors import RequestError
from segadapt.labels import IGNORE, LabelMap, LabelSpace
from segadapt.methods.method import Prediction
from segadapt.models.inference import InferenceConfig, scores
from segadapt.models.segmenter import Segmenter
from segadapt.pieces.images import to_batch
from segadapt.pieces.pseudo_labels import encode_scores, probabilities_from_scores

T = TypeVar("T")

SHOWN = 6
"""Pseudo-labelled images a round that are kept with their confidence for the report."""


@dataclass
class DataBundle:
    """The data of a run, opened.

    Attributes:
        source: labelled source images.
        target: target images; has no label paths.
        oracle: the target training set with labels, opened only when an oracle asks.
        truth: the same for measuring pseudo labels in the report; never given to a method.
        source_size, target_size: working sizes.
        cache_folder: for statistics cached by content.
        cache: decoded images.
        workers: decoding processes.
        skip_damaged: see :class:`segadapt.data.loader.Feeder`.
    """

    source: Dataset
    target: Dataset
    oracle: Callable[[], Dataset] | None
    truth: Dataset | None
    source_size: Resize
    target_size: Resize
    cache_folder: Path
    cache: DecodedCache = field(default_factory=lambda: DecodedCache(0))
    workers: int = 0
    skip_damaged: bool = False


class RoundEnvironment:
    """The environment of one round; implements :class:`segadapt.methods.method.Environment`.

    Attributes:
        kept_scores, soft_label: read what was stored of a target image; can be sent to decoding processes.
    """

    def __init__(self, data: DataBundle, space: LabelSpace, seed: int, runtime: Runtime, record: Record, folder: Path):
        self.space = space
        self.seed = seed
        self.source, self.target = data.source, data.target
        self.source_size, self.target_size = data.source_size, data.target_size
        self._data, self._runtime, self._record, self._folder = data, runtime, record, folder
        self.kept_scores, self.soft_label = KeptScores(folder / "scores"), SoftLabels(folder / "soft")
        self._reported: dict[str, Any] = {}
        self._damaged: set[str] = set()
        self._left_out: set[int] = set()
        classes = len(space)
        self._selected = torch.zeros(classes + 1, dtype=torch.int64)
        self._confusion = torch.zeros((classes, classes), dtype=torch.int64)
        self._true = torch.zeros(classes, dtype=torch.int64)
        self._shown = set(np.linspace(0, len(self.target) - 1, min(SHOWN, len(self.target))).astype(int).tolist())

    # ---- data ----

    def labelled_target(self) -> Dataset:
        """The oracle's data."""
        if self._data.oracle is None:
            raise RequestError("an oracle needs target labels, and the recipe names none (data.oracle)")
        return self._data.oracle()

    def target_image(self, index: int) -> npt.NDArray[np.uint8]:
        """Target image at working size."""
        key = (str(self.target.items[index].image), self.target_size)
        return self._data.cache.get(key, lambda: resize_image(self.target.image(index), self.target_size))

    def target_shape(self) -> Size:
        """Working size of the target images."""
        for index in range(len(self.target)):
            image = self._if_readable(partial(self.target_image, index))
            if image is not None:
                return image.shape[0], image.shape[1]
        raise RequestError(f"{self.target.name}: no image can be read; check the folders of the recipe")

    def source_frequencies(self, size: Size) -> Tensor:
        """Source label frequency by position, cached by content."""
        return torch.from_numpy(
            spatial_frequencies(self.source, *size, cache=self._data.cache_folder, damaged=self._skip)
        )

    def source_shares(self) -> Tensor:
        """Class shares of every source image, cached by content."""
        statistics = class_statistics(self.source, self._data.cache_folder, damaged=self._skip)
        return torch.from_numpy(statistics.fractions).float()

    @property
    def _skip(self) -> Callable[[DamagedFile], None] | None:
        """What to do about a damaged file; None where it stops the run."""
        return self._note_damaged if self._data.skip_damaged else None

    def _note_damaged(self, problem: DamagedFile) -> None:
        """Name a file that is skipped, once a round."""
        if str(problem) not in self._damaged:
            self._damaged.add(str(problem))
            self._record.warn(f"skipped: {problem}")

    def _if_readable(self, read: Callable[[], T]) -> T | None:
        """What ``read`` gives; None for a damaged file where the run skips those."""
        try:
            return read()
        except DamagedFile as problem:
            if self._skip is None:
                raise
            self._skip(problem)
            return None

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Add over processes."""
        self._runtime.sum(tensors)

    def gather(self, tensor: Tensor, samples: int) -> Tensor:
        """A batch that was dealt out to the processes, in its own order."""
        if self._runtime.processes == 1:
            return tensor
        whole = tensor.new_zeros((samples, *tensor.shape[1:]))
        whole[self._runtime.rank :: self._runtime.processes] = tensor
        self._runtime.sum([whole])
        return whole

    # ---- passes over the target set ----

    def _share(self) -> range:
        """The target images that this process looks at."""
        return range(self._runtime.rank, len(self.target), self._runtime.processes)

    def target_images(self) -> Iterator[tuple[int, Tensor]]:
        """This process's target images on its device, one after the other; damaged ones may be left out."""
        with Steps("target images", len(self._share()), quiet=self._record.quiet) as steps:
            for index in self._share():
                image = self._if_readable(partial(self.target_image, index))
                if image is None:
                    self._left_out.add(index)
                else:
                    yield index, to_batch(image, self._runtime.device)
                steps.advance()

    def source_images(self) -> Iterator[tuple[Tensor, Tensor]]:
        """This process's labelled source images on its device, one after the other; damaged ones may be left out."""
        indices = range(self._runtime.rank, len(self.source), self._runtime.processes)
        with Steps("source images", len(indices), quiet=self._record.quiet) as steps:
            for index in indices:
                pair = self._if_readable(partial(self._source_pair, index))
                if pair is not None:
                    image, label = (torch.from_numpy(array) for array in pair)
                    yield to_batch(image, self._runtime.device), label[None].to(self._runtime.device).long()
                steps.advance()

    def _source_pair(self, index: int) -> tuple[npt.NDArray[np.uint8], LabelMap]:
        """A source image and its label at working size."""
        image = resize_image(self.source.image(index), self.source_size)
        return image, resize_label(self.source.label(index), self.source_size)

    def predict_target(self, model: Segmenter, inference: InferenceConfig, keep: bool = False) -> TargetPass:
        """Run the network once over this process's share of the target set."""
        folder = self.kept_scores.folder
        folder.mkdir(parents=True, exist_ok=True)
        if keep:
            (folder / "keep").touch()
        sizes: dict[int, Size] = {}
        for index, image in self.target_images():
            with self._runtime.autocast():
                compact = scores(model, image, inference)[0]
            self.kept_scores.keep(index, encode_scores(compact))
            sizes[index] = (image.shape[-2], image.shape[-1])
        return TargetPass(self.kept_scores, sizes, self._runtime.device, inference.align_corners)

    def keep_soft_label(self, index: int, log_p: Tensor) -> None:
        """Store a soft label."""
        self.soft_label.keep(index, log_p)

    # ---- pseudo labels ----

    def _label_file(self, index: int) -> Path:
        return self._folder / "labels" / f"{self.target.items[index].id}.png"

    def keep_label(self, index: int, label: Tensor, confidence: Tensor | None = None) -> None:
        """Store a pseudo label as an index PNG and count it for the record; RunError if it cannot be written."""
        array = label.to("cpu", torch.uint8).numpy()
        write_bytes(self._label_file(index), encode_picture(".png", array))
        classes = len(self.space)
        flat = torch.from_numpy(array.astype(np.int64)).reshape(-1).clamp(max=classes)
        self._selected += torch.bincount(flat, minlength=classes + 1)
        if self._data.truth is not None:
            confusion, true = self._against_truth(index, array)
            self._confusion += confusion
            self._true += true
        if index in self._shown and confidence is not None:
            grey = (confidence.float().clamp(0, 1) * 255).round().to("cpu", torch.uint8).numpy()
            write_bytes(self._folder / "confidence" / f"{index:06d}.png", encode_picture(".png", grey))

    def _against_truth(self, index: int, label: LabelMap) -> tuple[Tensor, Tensor]:
        """Confusion [K, K] by truth and label of the labelled pixels; pixels [K] of each class in the truth."""
        assert self._data.truth is not None
        height, width = label.shape
        stored = self._if_readable(partial(self._data.truth.label, index))
        if stored is None:
            return torch.zeros_like(self._confusion), torch.zeros_like(self._true)
        truth = resize_label(stored, (height, width)).reshape(-1).astype(np.int64)
        guess = label.reshape(-1).astype(np.int64)
        valid = (truth != IGNORE) & (guess != IGNORE)
        classes = len(self.space)
        counts = np.bincount(truth[valid] * classes + guess[valid], minlength=classes**2)
        true = np.bincount(np.minimum(truth, classes), minlength=classes + 1)[:-1]
        return torch.from_numpy(counts.reshape(classes, classes)), torch.from_numpy(true)

    def pseudo_labelled(self) -> Dataset:
        """The target set with this round's labels."""
        items = tuple(replace(item, label=self._label_file(i)) for i, item in enumerate(self.target.items))
        return replace(self.target, items=items, read_label=read_index)

    def report(self, values: Mapping[str, Any]) -> None:
        """Numbers about this round's labels."""
        self._reported.update(values)

    # ---- life of a round ----

    @property
    def _done_file(self) -> Path:
        return self._folder / "labels.json"

    def finish_prepare(self, stage: str, round_index: int) -> dict[str, Any] | None:
        """Close the pass: drop scores nobody needs, write the summary. None if no label was kept."""
        self._runtime.barrier()
        left_out = torch.tensor(len(self._left_out))
        counts = [part.to(self._runtime.device) for part in (self._selected, self._confusion, self._true, left_out)]
        self._runtime.sum(counts)
        selected, confusion, true, left_out = (part.cpu() for part in counts)
        if int(left_out):
            self._record.warn(f"{int(left_out)} of {len(self.target)} target images cannot be read and got no label")
        if self._runtime.main:
            folder = self.kept_scores.folder
            if folder.exists() and not (folder / "keep").exists():
                shutil.rmtree(folder)
        if int(selected.sum()) == 0:
            return None
        known = (confusion, true) if self._data.truth is not None else None
        summary = self._summary(stage, round_index, selected, known)
        if self._runtime.main:
            write_json(self._done_file, summary)
        self._runtime.barrier()
        return summary

    def prepared(self) -> dict[str, Any] | None:
        """The summary of an earlier, finished preparation of this round."""
        value = read_json(self._done_file)
        return dict(value) if value else None

    def discard_labels(self) -> None:
        """Remove what an interrupted preparation left."""
        if self._runtime.main and self._folder.exists():
            shutil.rmtree(self._folder)
        self._runtime.barrier()

    def _summary(
        self, stage: str, round_index: int, selected: Tensor, known: tuple[Tensor, Tensor] | None
    ) -> dict[str, Any]:
        """``known``: what :meth:`_against_truth` counted, where the truth is measured."""
        confusion, true = known or (None, None)
        found = None if confusion is None else confusion.sum(0)
        pixels = int(selected.sum())
        kept = selected[:-1]
        thresholds = self._reported.get("thresholds", torch.ones(len(self.space))).tolist()
        predicted = self._reported.get("predicted", kept).tolist()
        classes = []
        for c, name in enumerate(self.space.names):
            right = None
            if confusion is not None and found is not None and int(found[c]) > 0:
                right = float(confusion[c, c]) / float(found[c])
            classes.append(
                {
                    "name": name,
                    "threshold": thresholds[c],
                    "predicted": int(predicted[c]),
                    "selected": int(kept[c]),
                    "share_selected": float(kept[c]) / predicted[c] if predicted[c] else 0.0,
                    "density": float(kept[c]) / pixels,
                    "accuracy": right,
                    # Among the labels of pixels whose truth is known, and in the truth.
                    "label_share": _share(found, c),
                    "truth_share": _share(true, c),
                }
            )
        accuracy = None
        if confusion is not None and int(confusion.sum()) > 0:
            accuracy = float(confusion.diagonal().sum()) / float(confusion.sum())
        return {
            "stage": stage,
            "round": round_index,
            "portion": self._reported.get("portion"),
            "density": float(kept.sum()) / pixels,
            "accuracy": accuracy,
            "classes": classes,
            "shown": sorted(self._shown),
        }


class TargetPass:
    """The compact scores of a pass; iterating gives full-size probabilities, one image at a time."""

    def __init__(self, kept: KeptScores, sizes: Mapping[int, Size], device: torch.device, align: bool):
        self._kept, self._sizes, self._device, self._align = kept, sizes, device, align

    def __iter__(self) -> Iterator[Prediction]:
        for index, size in self._sizes.items():
            compact = torch.from_numpy(self._kept(index))[None].to(self._device)
            yield Prediction(index, probabilities_from_scores(compact, size, align_corners=self._align)[0])


def _share(counts: Tensor | None, place: int) -> float | None:
    """One of the counts divided by their sum; None where nothing was counted."""
    return None if counts is None or not int(counts.sum()) else float(counts[place]) / float(counts.sum())
