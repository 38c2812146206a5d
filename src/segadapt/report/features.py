"""The features that a run kept, laid out in the plane by t-SNE for the report.

The layout takes seconds, so it is kept beside the features. Nothing here fails for what is
missing or damaged: that stage has no picture then.
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

PERPLEXITY = 30.0
FEWEST = 8
"""Pixels below which there is nothing to lay out."""
MARGIN = 0.02
_UNREADABLE = (OSError, ValueError, KeyError, EOFError, BadZipFile)

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FeaturePicture:
    """A stage's features in the plane: points [N, 2] in [0, 1], and how well classes are told apart (>= 0)."""

    stage: str
    points: Numbers
    separation: float | None


@dataclass(frozen=True)
class FeatureAlbum:
    """The same N pixels in every picture.

    Attributes:
        label: [N] train ids.
        by: ``truth``, or the stage whose predictions ``label`` holds.
        images: number of images that the pixels are from.
        pictures: in the order of the run; empty when scikit-learn is needed and not installed.
    """

    label: npt.NDArray[np.uint8]
    by: str
    images: int
    pictures: Sequence[FeaturePicture]


def read_features(folder: Path, stages: Sequence[str]) -> FeatureAlbum | None:
    """Pictures of the features of ``stages`` below ``folder``; None when there are none to be had."""
    places = _arrays(folder / "places.npz")
    kept = {stage: found for stage in stages if (found := _arrays(folder / "stages" / f"{stage}.npz"))}
    try:
        label, by = places["label"], str(places["by"])
        images = len(np.unique(places["image"]))
        usable = {stage: found for stage, found in kept.items() if _usable(found["features"], len(label))}
    except KeyError:
        return None
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
    """Points [N, 2] about their centre, turned and mirrored to lie as near to ``like`` as they can.

    t-SNE leaves the orientation open; equal ones make panels comparable by eye (orthogonal
    Procrustes problem).
    """
    points, like = points - points.mean(0), like - like.mean(0)
    left, _, right = np.linalg.svd(points.T @ like)
    return np.asarray(points @ (left @ right))


def into_square(points: Numbers) -> Numbers:
    """Points [N, 2] moved and scaled, alike in both directions, to fill the unit square but for a margin."""
    low, high = points.min(0), points.max(0)
    scale = (1 - 2 * MARGIN) / max(float((high - low).max()), 1e-12)
    return np.asarray(0.5 + (points - (low + high) / 2) * scale)


def _usable(features: npt.NDArray[Any], count: int) -> bool:
    """Whether they are those of ``count`` pixels and can be laid out: enough of them, finite and not all equal."""
    if features.ndim != 2 or not len(features) == count >= FEWEST or features.shape[1] < 2:
        return False
    return bool(np.isfinite(features).all() and (features != features[0]).any())


def _layout(features: npt.NDArray[np.float16], cache: Path) -> Numbers | None:
    """Points [N, 2] by t-SNE, kept in ``cache``; None without scikit-learn."""
    key = hashlib.sha256(np.ascontiguousarray(features).tobytes()).hexdigest()[:16]
    known = _arrays(cache)
    if str(known.get("key")) == key and "points" in known:
        return known["points"].astype(np.float64)
    try:
        from sklearn.manifold import TSNE
    except ImportError:
        return None
    # Neighbourhoods of a third of few pixels: t-SNE needs fewer neighbours than there are points.
    perplexity = min(PERPLEXITY, (len(features) - 1) / 3)
    embedding = TSNE(n_components=2, perplexity=perplexity, init="pca", learning_rate="auto", random_state=0)
    points = embedding.fit_transform(features.astype(np.float32))
    with contextlib.suppress(OSError):  # a folder that cannot be written costs the time again, no more
        replace_file(cache, lambda file: np.savez_compressed(file, key=key, points=points))
    return np.asarray(points, np.float64)


def _arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a file, empty when there is none or it is damaged. Pickled objects are not read."""
    try:
        with np.load(path) as file:
            return {name: file[name] for name in file.files}
    except _UNREADABLE:
        return {}
