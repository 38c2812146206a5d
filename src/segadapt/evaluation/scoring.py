"""Scores of a model on a labelled data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from segadapt.data.dataset import Dataset, Picture
from segadapt.data.resize import Resize, resize_image
from segadapt.data.streaming import HELD, ordered_map
from segadapt.errors import RequestError
from segadapt.evaluation.metrics import ConfusionMatrix, Scores
from segadapt.models.inference import InferenceConfig, predict_labels
from segadapt.models.segmenter import Segmenter
from segadapt.pieces.confusion import require_classes
from segadapt.pieces.images import for_device, to_batch

Progress = Callable[[int, int], None]
"""Called after every image with (done, total)."""
Reduce = Callable[[Sequence[Tensor]], None]
"""Adds the tensors of all processes, in place."""
Autocast = Callable[[], AbstractContextManager[Any]]


def evaluate(
    model: Segmenter,
    dataset: Dataset,
    config: InferenceConfig,
    device: torch.device | str,
    *,
    size: Resize = None,
    merge: Mapping[str, str] | None = None,
    reduce: Reduce | None = None,
    autocast: Autocast = nullcontext,
    progress: Progress | None = None,
) -> Scores:
    """Score a model on a labelled data set, at the size of its label maps.

    Args:
        model: the network; moved to ``device``.
        dataset: labelled images; in a run of several processes, this process's share.
        config: how images are predicted.
        device: where to compute.
        size: working size to which images are brought first; predictions are still enlarged to
            the size of the label map.
        merge: class that is predicted -> class that it counts as, or ``ignore``; for data sets that label fewer.
        reduce: in a run of several processes, adds up their counts, so that all return the scores
            of the whole data set.
        autocast: precision of the forward passes.
        progress: see :data:`Progress`.

    Raises:
        RequestError: the data set has no labels, or another number of classes than the model.
        DamagedFile: an image or label cannot be read; a score over fewer images is not a score.
    """
    _require_classes(model, dataset)
    if len(dataset) and not dataset.labelled:
        raise RequestError(f"{dataset.name}: scores need labels, and not every image has one")
    model.to(device)
    matrix = ConfusionMatrix(model.classes, device)

    def read(index: int) -> tuple[Tensor, Tensor]:
        label = for_device(dataset.label(index), device)
        try:
            require_classes(label, model.classes)
        except RequestError as problem:
            raise RequestError(f"{dataset.name}: '{dataset.items[index].id}': {problem}") from None
        return for_device(working_image(dataset.image(index), size, config), device), label

    for done, (image, label) in enumerate(ordered_map(read, range(len(dataset)), memory=HELD), start=1):
        with autocast():
            prediction, _ = predict_labels(model, to_batch(image, device), (label.shape[0], label.shape[1]), config)
        matrix.update(prediction[0], label, check=False)
        if progress is not None:
            progress(done, len(dataset))
    if reduce is not None:
        reduce([matrix.counts])
    return matrix.scores(dataset.space, merge)


# ---- shared with prediction on files ----


def working_image(image: Picture, size: Resize, config: InferenceConfig) -> Picture:
    """Return the image at working size, resized as in training; ``size`` goes before the size of the configuration."""
    return resize_image(image, size if size is not None else config.size)


def _require_classes(model: Segmenter, dataset: Dataset) -> None:
    if len(dataset.space) != model.classes:
        raise RequestError(
            f"{dataset.name}: its labels are in '{dataset.space.name}' ({len(dataset.space)} classes), the model "
            f"predicts {model.classes} classes; open the data set in the model's label space"
        )
