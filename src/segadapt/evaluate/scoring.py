"""Scores of a model on a data set, with labels and without."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from segadapt.data.dataset import Dataset, Picture
from segadapt.data.resize import Resize, resize_image
from segadapt.errors import RequestError
from segadapt.evaluate.metrics import ConfusionMatrix, Scores
from segadapt.labels import LabelSpace
from segadapt.models.inference import InferenceConfig, predict_labels, scores
from segadapt.models.segmenter import Segmenter
from segadapt.pieces.precision import wide

Progress = Callable[[int, int], None]
"""Called after every image with (done, total)."""
Reduce = Callable[[Sequence[Tensor]], None]
"""Adds the tensors of all processes, in place."""
Autocast = Callable[[], AbstractContextManager[Any]]

T = TypeVar("T")
R = TypeVar("R")


def evaluate(
    model: Segmenter,
    dataset: Dataset,
    config: InferenceConfig,
    device: torch.device | str,
    *,
    space: LabelSpace | None = None,
    size: Resize = None,
    reduce: Reduce | None = None,
    autocast: Autocast = nullcontext,
    progress: Progress | None = None,
    limit: int | None = None,
) -> Scores:
    """Scores on a labelled data set, at the size of its label maps.

    Args:
        model: the network; moved to ``device``.
        dataset: labelled images; in a run of several processes, this process's share.
        config: how images are predicted.
        device: where to compute.
        space: the classes of the model, compared by name with those of the data set. Without it
            only their number can be compared.
        size: working size to which images are brought first; predictions are still enlarged to
            the size of the label map.
        reduce: in a run of several processes, adds up their counts, so that all return the scores
            of the whole data set.
        autocast: precision of the forward passes.
        progress: see :data:`Progress`.
        limit: use only so many images, evenly spread over the data set.

    Raises:
        RequestError: the data set has no labels, or other classes than the model.
        DamagedFile: an image or label cannot be read; a score over fewer images is not a score.
    """
    _require_classes(model, dataset, space)
    if len(dataset) and not dataset.labelled:
        raise RequestError(f"{dataset.name}: scores need labels, and not every image has one")
    model.to(device)
    matrix = ConfusionMatrix(model.classes, device)
    indices = spread(len(dataset), limit)

    def read(index: int) -> tuple[Picture, Tensor, str]:
        label = torch.from_numpy(np.ascontiguousarray(dataset.label(index)))
        return working_image(dataset.image(index), size, config), label, dataset.items[index].id

    for done, (image, label, name) in enumerate(ahead(read, indices), start=1):
        with autocast():
            prediction, _ = predict_labels(model, as_batch(image, device), (label.shape[0], label.shape[1]), config)
        try:
            matrix.update(prediction[0], label)
        except RequestError as problem:
            raise RequestError(f"{dataset.name}: '{name}': {problem}") from None
        if progress is not None:
            progress(done, len(indices))
    if reduce is not None:
        reduce([matrix.counts])
    return matrix.scores(dataset.space)


@dataclass(frozen=True)
class UnlabelledDescription:
    """What a model's predictions say about themselves, without any label.

    For choosing among checkpoints when the target has no labels at all: low entropy alone also
    describes a model that calls everything road, so look at ``information`` too.

    Attributes:
        images: number of images.
        entropy: mean entropy of a pixel's prediction, as a share of the largest possible (0 to 1).
        confidence: mean probability of the predicted class (0 to 1).
        diversity: entropy of the mean prediction, as a share of the largest possible (0 to 1).
        information: ``diversity - entropy``: the mutual information between pixel and predicted
            class. Larger is better: sure about every pixel, yet using all classes.
        shares: share of the pixels predicted as each class.
        class_confidence: mean confidence of the pixels predicted as each class; None if there is none.
    """

    images: int
    entropy: float
    confidence: float
    diversity: float
    information: float
    shares: tuple[float, ...]
    class_confidence: tuple[float | None, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "shares": list(self.shares), "class_confidence": list(self.class_confidence)}


def describe_unlabelled(
    model: Segmenter,
    dataset: Dataset,
    config: InferenceConfig,
    device: torch.device | str,
    *,
    size: Resize = None,
    reduce: Reduce | None = None,
    autocast: Autocast = nullcontext,
    progress: Progress | None = None,
    limit: int | None = None,
) -> UnlabelledDescription:
    """Label-free indicators over a data set; labels are never opened.

    Taken on the network's own grid, every cell with the same weight: enlarging would add only
    interpolated values. Arguments as in :func:`evaluate`.
    """
    model.to(device)
    sums = _PredictionSums(model.classes, device)
    indices = spread(len(dataset), limit)

    def read(index: int) -> Picture:
        return working_image(dataset.image(index), size, config)

    for done, image in enumerate(ahead(read, indices), start=1):
        with autocast():
            compact = scores(model, as_batch(image, device), config)
        sums.add(compact)
        if progress is not None:
            progress(done, len(indices))
    if reduce is not None:
        reduce(sums.tensors())
    return sums.description(dataset.name)


class _PredictionSums:
    """Sums over pixels of compact scores, on the device; in its widest type, so any number of images can be added."""

    def __init__(self, classes: int, device: torch.device | str):
        kind = wide(torch.device(device))
        self.images = torch.zeros((), dtype=kind, device=device)
        self.entropy = torch.zeros((), dtype=kind, device=device)
        self.probability = torch.zeros(classes, dtype=kind, device=device)
        self.confidence = torch.zeros(classes, dtype=kind, device=device)
        self.predicted = torch.zeros(classes, dtype=kind, device=device)

    def tensors(self) -> list[Tensor]:
        return [self.images, self.entropy, self.probability, self.confidence, self.predicted]

    def add(self, compact: Tensor) -> None:
        """Add the log probabilities [B, K, h, w]."""
        probability = compact.exp()
        confidence, label = (x.flatten() for x in probability.max(1))
        kind = self.entropy.dtype
        self.images += len(compact)
        self.entropy += torch.special.entr(probability).sum(dtype=kind)
        self.probability += probability.sum((0, 2, 3), dtype=kind)
        self.confidence.index_add_(0, label, confidence.to(kind))
        self.predicted.index_add_(0, label, torch.ones_like(confidence, dtype=kind))

    def description(self, name: str) -> UnlabelledDescription:
        images, entropy, probability, confidence, predicted = (t.cpu().double() for t in self.tensors())
        pixels = float(predicted.sum())
        if not pixels:
            raise RequestError(f"{name}: there is no image to predict")
        # A single class has no uncertainty; its entropies are all zero.
        most = math.log(max(2, len(predicted)))
        mean_entropy = float(entropy) / pixels / most
        diversity = float(torch.special.entr(probability / pixels).sum()) / most
        return UnlabelledDescription(
            images=int(images),
            entropy=mean_entropy,
            confidence=float(confidence.sum()) / pixels,
            diversity=diversity,
            information=diversity - mean_entropy,
            shares=tuple((predicted / pixels).tolist()),
            class_confidence=tuple(
                c / n if n else None for c, n in zip(confidence.tolist(), predicted.tolist(), strict=True)
            ),
        )


# ---- shared with prediction on files ----


def working_image(image: Picture, size: Resize, config: InferenceConfig) -> Picture:
    """The image at working size, resized as in training; ``size`` goes before the configuration's."""
    return resize_image(image, size if size is not None else config.size)


def as_batch(image: Picture, device: torch.device | str) -> Tensor:
    """RGB [H, W, 3] uint8 to a batch [1, 3, H, W] float32 in [0, 1]; the bytes travel, not the floats."""
    pixels = torch.from_numpy(np.ascontiguousarray(image)).to(device, non_blocking=True)
    return pixels.permute(2, 0, 1)[None].float() / 255


def spread(count: int, limit: int | None) -> list[int]:
    """At most ``limit`` of ``count`` indices, evenly spread, first and last included."""
    if limit is not None and limit < 1:
        raise RequestError(f"limit is {limit}; it must be at least 1")
    if limit is None or limit >= count:
        return list(range(count))
    return [int(i) for i in np.linspace(0, count - 1, limit).round()]


def ahead(read: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """``map(read, items)`` with the next item read in a thread while the caller works on this one."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        pending = None
        for item in items:
            following = pool.submit(read, item)
            if pending is not None:
                yield pending.result()
            pending = following
        if pending is not None:
            yield pending.result()


def _require_classes(model: Segmenter, dataset: Dataset, space: LabelSpace | None) -> None:
    mine = f"{model.classes} classes" if space is None else f"'{space.name}'"
    if len(dataset.space) != model.classes or (space is not None and not space.same_classes(dataset.space)):
        raise RequestError(
            f"{dataset.name}: its labels are in '{dataset.space.name}' ({len(dataset.space)} classes), the model "
            f"predicts {mine} ({model.classes} classes); open the data set in the model's label space"
        )
