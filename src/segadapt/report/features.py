"""Read the features that a run kept, and lay them out in the plane by t-SNE.

    FEATURES/places.npz            chosen pixels and their classes, once per run: :class:`Places`
    FEATURES/stages/STAGE.npz      features of the network of a stage at these pixels, and their separation
    FEATURES/layout/STAGE.npz      points in the plane, kept because computing them takes seconds

:mod:`segadapt.report.write_features` writes the first two. A missing or damaged file is not an error: the
report then has no picture of that stage.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from segadapt.core.files import replace_file

FEATURES = "features"
"""Folder of all these files, below the pictures of a run."""
PLACES = "places.npz"
TRUTH = "truth"
"""``Places.by`` of labels from the ground truth."""

PERPLEXITY = 30.0
FEWEST = 8
"""Fewest pixels that can be laid out."""
MARGIN = 0.02
"""Empty border of a picture, as share of its side."""
_UNREADABLE = (OSError, ValueError, KeyError, EOFError, BadZipFile)

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Places:
    """Pixels whose features are compared between the stages of a run.

    Attributes:
        image: [N] number of the image in its data set.
        y, x: [N] position as share of the image's height and width, in (0, 1).
        label: [N] train ids.
        by: :data:`TRUTH`, or the name of the stage whose predictions ``label`` holds.
    """

    image: npt.NDArray[np.int64]
    y: npt.NDArray[np.float32]
    x: npt.NDArray[np.float32]
    label: npt.NDArray[np.uint8]
    by: str


@dataclass(frozen=True)
class FeaturePicture:
    """The features of one stage in the plane.

    Attributes:
        stage: name of the stage.
        points: [N, 2] in [0, 1].
        separation: how far apart the classes are, at least 0, see
            :func:`segadapt.report.write_features.separation`; None if unknown.
    """

    stage: str
    points: Numbers
    separation: float | None


@dataclass(frozen=True)
class FeatureAlbum:
    """The same N pixels in every picture.

    Attributes:
        label: [N] train ids.
        by: :data:`TRUTH`, or the name of the stage whose predictions ``label`` holds.
        images: number of images that the pixels come from.
        pictures: in the order of the run; empty if scikit-learn is needed and not installed.
    """

    label: npt.NDArray[np.uint8]
    by: str
    images: int
    pictures: Sequence[FeaturePicture]


def stage_file(folder: Path, stage: str) -> Path:
    """Return the file with the features of a stage below ``folder``."""
    return folder / "stages" / f"{stage}.npz"


def read_places(path: Path) -> Places | None:
    """Read the chosen pixels, or return None if the file is missing or damaged."""
    arrays = _arrays(path)
    try:
        return Places(arrays["image"], arrays["y"], arrays["x"], arrays["label"], str(arrays["by"]))
    except KeyError:
        return None


def read_features(folder: Path, stages: Sequence[str]) -> FeatureAlbum | None:
    """Read the features of ``stages`` below ``folder`` and lay them out; None if there are no usable ones."""
    places = read_places(folder / PLACES)
    if places is None:
        return None
    label, by, images = places.label, places.by, len(np.unique(places.image))
    kept = {stage: found for stage in stages if (found := _arrays(stage_file(folder, stage)))}
    usable = {s: found for s, found in kept.items() if "features" in found and _usable(found["features"], len(label))}
    if not usable:
        return None
    pictures: list[FeaturePicture] = []
    for stage, found in usable.items():
        points = _layout(found["features"], folder / "layout" / f"{stage}.npz")
        if points is None:
            return FeatureAlbum(label, by, images, [])
        points = into_square(turned(points, pictures[0].points) if pictures else points)
        value = float(found.get("separation", np.nan))
        pictures.append(FeaturePicture(stage, points, value if math.isfinite(value) else None))
    return FeatureAlbum(label, by, images, pictures)


def turned(points: Numbers, like: Numbers) -> Numbers:
    """Centre points [N, 2], and rotate and mirror them to lie as near to ``like`` [N, 2] as possible.

    t-SNE does not fix the orientation; the same orientation makes panels comparable by eye (orthogonal
    Procrustes problem).
    """
    points, like = points - points.mean(0), like - like.mean(0)
    left, _, right = np.linalg.svd(points.T @ like)
    return np.asarray(points @ (left @ right))


def into_square(points: Numbers) -> Numbers:
    """Move and scale points [N, 2], equally in both directions, to fill the unit square except for a margin."""
    low, high = points.min(0), points.max(0)
    scale = (1 - 2 * MARGIN) / max(float((high - low).max()), 1e-12)
    return np.asarray(0.5 + (points - (low + high) / 2) * scale)


def _usable(features: npt.NDArray[Any], count: int) -> bool:
    """Return whether features [count, D] can be laid out: enough of them, finite and not all equal."""
    if features.ndim != 2 or not len(features) == count >= FEWEST or features.shape[1] < 2:
        return False
    return bool(np.isfinite(features).all() and (features != features[0]).any())


def _layout(features: npt.NDArray[np.float16], cache: Path) -> Numbers | None:
    """Compute points [N, 2] by t-SNE, or read them from ``cache``; None without scikit-learn."""
    key = hashlib.sha256(np.ascontiguousarray(features).tobytes()).hexdigest()[:16]
    known = _arrays(cache)
    if str(known.get("key")) == key and "points" in known:
        return known["points"].astype(np.float64)
    try:
        from sklearn.manifold import TSNE
    except ImportError:
        return None
    # t-SNE needs fewer neighbours than points: few pixels get neighbourhoods of a third of them.
    perplexity = min(PERPLEXITY, (len(features) - 1) / 3)
    embedding = TSNE(n_components=2, perplexity=perplexity, init="pca", learning_rate="auto", random_state=0)
    points = embedding.fit_transform(features.astype(np.float32))
    with contextlib.suppress(OSError):  # if the folder cannot be written, the next report computes the points again
        replace_file(cache, lambda file: np.savez_compressed(file, key=key, points=points))
    return np.asarray(points, np.float64)


def _arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read the arrays of a file; empty if it is missing or damaged. Pickled objects are not read."""
    try:
        with np.load(path) as file:
            return {name: file[name] for name in file.files}
    except _UNREADABLE:
        return {}
