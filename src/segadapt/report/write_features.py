"""Features of the same pixels after every stage of a run, kept small, for the report's pictures of them.

    pictures/features/places.npz          which pixels, and their classes; chosen once a run
    pictures/features/stages/STAGE.npz    what the network of a stage makes of them

ProDA (CVPR 2021) shows such a picture in its Figure 5: target features of every class, before and
after adaptation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

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

IMAGES = 24
"""Evenly spaced images that pixels are taken from, at most."""
PER_CLASS = 150
MOST = 2000
DIMENSIONS = 50
"""Features with more values are kept as so many principal components."""

Numbers = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
Classes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Places:
    """Pixels whose features are compared between the stages of a run.

    Attributes:
        image: [N] number of the image in its data set.
        y, x: [N] position as share of the image's height and width, in (0, 1).
        label: [N] train ids.
        by: ``truth``, or the name of the stage whose predictions ``label`` holds.
    """

    image: Indices
    y: Numbers
    x: Numbers
    label: Classes
    by: str


def show_features(
    folder: Path, stage: str, model: Segmenter, dataset: Dataset, inference: InferenceConfig, size: Resize
) -> None:
    """Keep the features of a few pixels of every class after a stage.

    The pixels are the same for every stage of the run. Where ``dataset`` has labels they are chosen
    by the truth, otherwise by the predictions of the first stage that is shown. A network without
    usable features (not finite, or all equal) leaves no file.

    Args:
        folder: for pictures of the run.
        stage: its name.
        model: the network after the stage.
        dataset: target images, with labels where there are any.
        inference: how the run predicts.
        size: working size of the images.
    """
    home = folder / "features"
    places = read_places(home / "places.npz")
    if places is None:
        places = choose_places(model, stage, dataset, inference, size)
        _write(home / "places.npz", **vars(places))
    if not len(places.label):
        return
    features = features_at(model, places, dataset, inference, size)
    small = compressed(features)
    if small is not None:
        found = separation(features, places.label)
        _write(home / "stages" / f"{stage}.npz", features=small, separation=np.nan if found is None else found)


# ---- which pixels ----


def choose_places(model: Segmenter, stage: str, dataset: Dataset, inference: InferenceConfig, size: Resize) -> Places:
    """Pixels of a few evenly spaced images, evenly over the classes; the centres of cells of the network's stride."""
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
            continue  # whoever must read this image says so; for a picture the others do
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
        by="truth" if dataset.labelled else stage,
    )


def balanced(label: Classes, classes: int, each: int = PER_CLASS, most: int = MOST) -> Indices:
    """Positions in ``label`` [n] of up to ``each`` pixels of every class and ``most`` in all, ascending.

    Every class gets the same number, evenly spaced, or all that it has. Ids from ``classes`` on
    (ignored pixels) are not taken.
    """
    where = [np.flatnonzero(label == c) for c in range(classes)]
    counts = np.array([len(w) for w in where])
    quota = next((q for q in range(each, 0, -1) if np.minimum(counts, q).sum() <= most), 0)
    taken = [w[np.linspace(0, len(w) - 1, min(quota, len(w))).round().astype(int)] for w in where]
    return np.sort(np.concatenate(taken)).astype(np.int64)


def read_places(path: Path) -> Places | None:
    """The pixels chosen before; None when there are none or the file is damaged."""
    try:
        with np.load(path) as file:
            return Places(file["image"], file["y"], file["x"], file["label"], str(file["by"]))
    except (OSError, ValueError, KeyError, BadZipFile):
        return None


# ---- their features ----


def features_at(
    model: Segmenter, places: Places, dataset: Dataset, inference: InferenceConfig, size: Resize
) -> Numbers:
    """Features [N, D] of the cells of the network's feature map in which the places lie; whole images at scale 1."""
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
    """How well the classes are told apart by features [N, D]: scatter between classes over scatter within.

    ``mean_c |m_c - m|^2 / mean_c mean_i |x_ci - m_c|^2`` with the mean ``m_c`` of the features of
    class ``c`` and the mean ``m`` of these means: the trace form of Fisher's criterion with every
    class counted alike. At least 0, higher is better, independent of the features' scale. Classes
    with a single pixel have no scatter and are left out. None where fewer than two classes remain
    or nothing scatters.
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
    """Features [N, D] centred, as at most :data:`DIMENSIONS` principal components, scaled to fit into half precision.

    None when they are not finite or all equal. Distances keep their ratios but for the components
    left out.
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
    """One image [1, 3, H, W] in [0, 1] at its working size, on the model's device."""
    return to_batch(resize_image(dataset.image(number), size), next(model.parameters()).device)


def _by_image(places: Places) -> Iterator[tuple[int, Indices]]:
    """Every image with the positions of its places; together they are in the order of the places."""
    for number in np.unique(places.image).tolist():
        yield number, np.flatnonzero(places.image == number)


def _taken(parts: Sequence[npt.NDArray[np.generic]], chosen: Indices) -> npt.NDArray[np.generic]:
    return np.concatenate(parts)[chosen] if parts else np.zeros(0)


def _write(path: Path, **arrays: object) -> None:
    replace_file(path, lambda file: np.savez_compressed(file, **arrays))  # type: ignore[arg-type]
