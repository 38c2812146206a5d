"""Keep the features of the same pixels after every stage of a run, in small files, for the report.

:mod:`segadapt.report.features` describes and reads the files. ProDA (CVPR 2021) shows such a picture in
its Figure 5: target features of every class, before and after adaptation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from segadapt.core.files import replace_file
from segadapt.data.dataset import DamagedFile, Dataset
from segadapt.data.resize import Resize, resize_image
from segadapt.models.inference import InferenceConfig, evaluation_mode, predict_labels, resize_images
from segadapt.models.segmenter import Segmenter
from segadapt.pieces.images import to_batch
from segadapt.report.features import FEATURES, PLACES, TRUTH, Places, read_places, stage_file

IMAGES = 24
"""Largest number of evenly spaced images that pixels are taken from."""
PER_CLASS = 150
"""Largest number of pixels per class."""
MOST = 2000
"""Largest number of pixels in all."""
DIMENSIONS = 50
"""Features with more channels are kept as this many principal components."""

Numbers = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
Classes = npt.NDArray[np.uint8]


def show_features(
    folder: Path, stage: str, model: Segmenter, dataset: Dataset, inference: InferenceConfig, size: Resize
) -> None:
    """Keep the features of a few pixels of every class after a stage.

    The pixels are the same for every stage of the run. They are chosen by the truth if ``dataset`` has
    labels, and otherwise by the predictions of the first stage that is shown. If the features of a
    network are not finite or all equal, no file is written.

    Args:
        folder: folder for pictures of the run.
        stage: name of the stage.
        model: the network after the stage.
        dataset: target images, with or without labels.
        inference: how the run predicts.
        size: working size of the images.

    Raises:
        RunError: a file cannot be written.
    """
    home = folder / FEATURES
    places = read_places(home / PLACES)
    if places is None:
        places = choose_places(model, stage, dataset, inference, size)
        _write(home / PLACES, **vars(places))
    if not len(places.label):
        return
    features = features_at(model, places, dataset, inference, size)
    small = compressed(features)
    if small is not None:
        found = separation(features, places.label)
        _write(stage_file(home, stage), features=small, separation=np.nan if found is None else found)


# ---- choosing pixels ----


def choose_places(model: Segmenter, stage: str, dataset: Dataset, inference: InferenceConfig, size: Resize) -> Places:
    """Choose pixels of a few evenly spaced images, evenly over the classes; all are centres of the network's cells."""
    numbers, ys, xs, labels = [], [], [], []
    for number in np.linspace(0, len(dataset) - 1, min(IMAGES, len(dataset))).astype(int).tolist():
        try:
            height, width = resize_image(dataset.image(number), size).shape[:2]
            rows, columns = max(1, height // model.stride), max(1, width // model.stride)
            y, x = (np.arange(rows) + 0.5) / rows, (np.arange(columns) + 0.5) / columns
            if dataset.labelled:
                truth = dataset.label(number)
                label = truth[np.ix_((y * truth.shape[0]).astype(int), (x * truth.shape[1]).astype(int))]
            else:
                image = _image(model, dataset, number, size)
                label = predict_labels(model, image, (rows, columns), inference)[0][0].cpu().numpy()
        except DamagedFile:
            continue  # a damaged file is reported where the image is needed; skip it here
        numbers.append(np.full(label.size, number))
        ys.append(np.repeat(y, columns))
        xs.append(np.tile(x, rows))
        labels.append(label.reshape(-1))
    label = np.concatenate(labels) if labels else np.zeros(0, np.uint8)
    chosen = balanced(label, model.classes)
    return Places(
        image=_taken(numbers, chosen).astype(np.int64),
        y=_taken(ys, chosen).astype(np.float32),
        x=_taken(xs, chosen).astype(np.float32),
        label=label[chosen].astype(np.uint8),
        by=TRUTH if dataset.labelled else stage,
    )


def balanced(label: Classes, classes: int, each: int = PER_CLASS, most: int = MOST) -> Indices:
    """Choose positions in ``label`` [n]: up to ``each`` pixels per class and ``most`` in all, ascending.

    Every class gets the same number of pixels, evenly spaced, or all that it has. Ids from ``classes`` on
    (ignored pixels) are not chosen.
    """
    where = [np.flatnonzero(label == c) for c in range(classes)]
    counts = np.array([len(w) for w in where])
    quota = next((q for q in range(each, 0, -1) if np.minimum(counts, q).sum() <= most), 0)
    taken = [w[np.linspace(0, len(w) - 1, min(quota, len(w))).round().astype(int)] for w in where]
    return np.sort(np.concatenate(taken)).astype(np.int64)


# ---- features at these pixels ----


def features_at(
    model: Segmenter, places: Places, dataset: Dataset, inference: InferenceConfig, size: Resize
) -> Numbers:
    """Compute features [N, D] of the cells in which the places lie, from whole images at scale 1."""
    found: list[Tensor] = []
    with evaluation_mode(model), torch.inference_mode():
        for number, mine in _by_image(places):
            image = _image(model, dataset, number, size)
            if inference.size is not None:
                image = resize_images(image, inference.size)
            features = model(image).features[0]
            rows, columns = (
                torch.from_numpy((share[mine] * cells).astype(np.int64)).to(features.device)
                for share, cells in zip((places.y, places.x), features.shape[-2:], strict=True)
            )
            found.append(features[:, rows, columns].T.float().cpu())
    return torch.cat(found).numpy()


def separation(features: Numbers, label: Classes) -> float | None:
    """Measure how far apart classes are in features [N, D]: scatter between classes over scatter within.

    ``mean_c |m_c - m|^2 / mean_c mean_i |x_ci - m_c|^2`` with the mean ``m_c`` of the features of
    class ``c`` and the mean ``m`` of these means: the trace form of Fisher's criterion, in which every
    class has the same weight. The scale of the features does not matter.

    Args:
        features: [N, D].
        label: [N] train ids. Classes with a single pixel have no scatter and are left out.

    Returns:
        A ratio of at least 0, higher is better; None if fewer than two classes remain or no class scatters.
    """
    groups = [features[label == c].astype(np.float64) for c in np.unique(label)]
    groups = [g for g in groups if len(g) > 1]
    if len(groups) < 2:
        return None
    centres = np.stack([g.mean(0) for g in groups])
    within = float(np.mean([((g - g.mean(0)) ** 2).sum(1).mean() for g in groups]))
    between = float(((centres - centres.mean(0)) ** 2).sum(1).mean())
    return between / within if within > 0 else None


def compressed(features: Numbers) -> npt.NDArray[np.float16] | None:
    """Reduce features [N, D] to at most :data:`DIMENSIONS` principal components, centred, in half precision.

    Their scale is changed to fit into half precision. Ratios of distances stay, except for the
    components left out. None if the features are not finite or all equal.
    """
    if not np.isfinite(features).all():
        return None
    centred = features.astype(np.float64) - features.mean(0, dtype=np.float64)
    if centred.shape[1] > DIMENSIONS:
        _, directions = np.linalg.eigh(centred.T @ centred)
        centred = centred @ directions[:, : -DIMENSIONS - 1 : -1]
    spread = float(np.sqrt((centred**2).sum(1).mean()))
    return (centred / spread).astype(np.float16) if spread > 0 else None


def _image(model: Segmenter, dataset: Dataset, number: int, size: Resize) -> Tensor:
    """Read one image [1, 3, H, W] in [0, 1] at its working size, on the model's device."""
    return to_batch(resize_image(dataset.image(number), size), next(model.parameters()).device)


def _by_image(places: Places) -> Iterator[tuple[int, Indices]]:
    """Yield every image with the positions of its places, which are sorted by image."""
    for number in np.unique(places.image).tolist():
        yield number, np.flatnonzero(places.image == number)


def _taken(parts: Sequence[npt.NDArray[np.generic]], chosen: Indices) -> npt.NDArray[np.generic]:
    return np.concatenate(parts)[chosen] if parts else np.zeros(0)


def _write(path: Path, **arrays: object) -> None:
    replace_file(path, lambda file: np.savez_compressed(file, **arrays))  # type: ignore[arg-type]
