"""Seeing without labels what adapting changed: predictions on target images before and after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from segadapt.core.documents import write_document
from segadapt.core.settings import checked
from segadapt.core.spacing import evenly_spaced
from segadapt.data.dataset import DamagedFile, Dataset
from segadapt.engine.run_files import RESULTS
from segadapt.evaluation.predict import predict_array
from segadapt.labels import LabelMap
from segadapt.models.inference import InferenceConfig
from segadapt.models.store import LoadedModel
from segadapt.runs.results import model_file

IMAGES = 20
"""Most target images that are predicted, evenly spaced."""
LEAST_SHARE = 0.005
"""Share of the pixels from which on a class counts as one that was predicted before."""
VANISHED = 0.1
"""Part of its share below which a class has vanished."""
CHANGED = 0.5
"""Share of the pixels from which on most of the prediction has changed."""


class Change(NamedTuple):
    """Predictions of two models on the same images.

    Attributes:
        names: the K class names.
        before, after: [K] share of each class in the pixels.
        disagreement: share of the pixels with different classes.
        images: number of images.
    """

    names: tuple[str, ...]
    before: tuple[float, ...]
    after: tuple[float, ...]
    disagreement: float
    images: int


def change_of(names: Sequence[str], pairs: Sequence[tuple[LabelMap, LabelMap]]) -> Change:
    """Count the classes of label maps [H, W] before and after, and where they differ."""
    counts = np.zeros((2, len(names)))
    differing = pixels = 0
    for maps in pairs:
        for row, label in zip(counts, maps, strict=True):
            row += np.bincount(label.ravel(), minlength=len(names))[: len(names)]
        differing += int((maps[0] != maps[1]).sum())
        pixels += maps[0].size
    before, after = (counts / max(pixels, 1)).tolist()
    return Change(tuple(names), tuple(before), tuple(after), differing / max(pixels, 1), len(pairs))


def warnings_of(change: Change, source: Path) -> list[str]:
    """Return what is suspicious about a change, one line each.

    Args:
        change: of the source model's predictions.
        source: file of the source model, which may be the better one.
    """
    shares = zip(change.names, change.before, change.after, strict=True)
    vanished = [name for name, before, after in shares if before >= LEAST_SHARE and after < VANISHED * before]
    found = []
    if vanished:
        found.append(f"adapting made classes vanish from the target's predictions: {', '.join(vanished)}")
    if change.disagreement > CHANGED:
        found.append(f"adapting changed {100 * change.disagreement:.0f} % of the predicted pixels of the target")
    return [f"{text}; look at the report, and compare with the model before it, {source}" for text in found]


def compare(
    out: Path, results: Mapping[str, Any], models: Mapping[str, LoadedModel], target: Dataset
) -> tuple[dict[str, Any], list[str]]:
    """Compare the result of a run with its source model, and add that to results.json as ``change``.

    Args:
        out: folder of the run.
        results: as in results.json.
        models: by stage, first that of the source model, then that of the result.
        target: target images of the run; their labels are not needed.

    Returns:
        The results with ``change``, and the warnings.
    """
    (source, before), (result, after) = models.items()
    pairs = []
    for place in evenly_spaced(len(target), IMAGES):
        try:
            image = target.image(place)
        except DamagedFile:  # training has named it
            continue
        pairs.append((_predicted(before, image), _predicted(after, image)))
    change = change_of(after.space.names, pairs)
    facts = {"before": list(change.before), "after": list(change.after), "names": list(change.names)}
    whole = {**results, "change": {**change._asdict(), **facts, "source": source, "result": result}}
    write_document(out / RESULTS, whole)
    return whole, warnings_of(change, model_file(out, source))


def _predicted(loaded: LoadedModel, image: Any) -> LabelMap:
    inference = checked(InferenceConfig, loaded.inference, "inference of the model file")
    return predict_array(loaded.model, image, inference, size=loaded.working_size)[0]
