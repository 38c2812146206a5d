"""The models that the page shows: that of the source and the adapted one of a run, or a single model."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segadapt.api.using import load
from segadapt.core.settings import checked
from segadapt.data.bands import BandReader, reader_of
from segadapt.data.dataset import Picture
from segadapt.data.decode import read_index, read_picture
from segadapt.data.masks.mask_format import MaskFormat, mask_format
from segadapt.engine.run_files import read_results
from segadapt.errors import RequestError
from segadapt.evaluation.mosaic import Mosaic, is_mosaic
from segadapt.evaluation.predictor import Predictor
from segadapt.evaluation.results import Look, Prediction
from segadapt.evaluation.tiling import view_of
from segadapt.labels import LabelSpace
from segadapt.models.inference import InferenceConfig
from segadapt.models.store import LoadedModel
from segadapt.runs.results import find_model, result_stage


@dataclass(frozen=True)
class Choice:
    """One of the models.

    Attributes:
        key: ``source``, ``adapted``, ``oracle``, ``other`` or ``model``: its name in addresses and archives.
        title: its name for people.
        loaded: the model.
        predictor: predicts with it as in its run.
        reader: reads image files for it; None for ordinary images.
    """

    key: str
    title: str
    loaded: LoadedModel
    predictor: Predictor
    reader: BandReader | None

    @classmethod
    def of(cls, key: str, title: str, loaded: LoadedModel) -> Choice:
        """Prepare a model that was opened."""
        inference = checked(InferenceConfig, loaded.inference, "inference of the model file")
        predictor = Predictor.of(loaded.model, inference, None, loaded.working_size)
        return cls(key, title, loaded, predictor, reader_of(loaded.input))

    def read(self, path: Path) -> Picture:
        """Decode an image file [H, W, C] as the network is to see it; RequestError names what is wrong with it."""
        return (self.reader or read_picture)(path)

    def predict(self, image: Picture, path: Path) -> Prediction:
        """Predict an image that was read, as ``segadapt predict`` does: what lies on Earth in tiles of its scale."""
        if is_mosaic(path):
            return self._in_tiles(path)
        height, width = image.shape[:2]
        return self.predictor.predicted(self.predictor.prepared(image), (height, width)).fetched()

    def _in_tiles(self, path: Path) -> Prediction:
        config, windows = self.predictor.config, self.reader.window if self.reader is not None else None
        mosaic = Mosaic(path, self.loaded.model, config, view_of(self.loaded, config.window), None, windows)
        files = {kind: path.with_name(f"{path.name}-{kind}.tif") for kind in ("index", "confidence")}
        try:
            mosaic.predict(files, Look(mask_format(self.loaded.space, "train")))
            labels, confidence = (read_index(file) for file in files.values())
        finally:
            for file in files.values():
                file.unlink(missing_ok=True)
        return Prediction(labels, np.float32(1 / 255) * confidence)


@dataclass(frozen=True)
class Served:
    """All that the page knows of a run.

    Attributes:
        title: of the run, or the name of the model file.
        models: one or two, the source model first.
        recommended: key of the model that the run recommends; empty where it does not say.
        why: the reason for that, in a line; may be empty.
        masks: values of the masks that are handed out.
    """

    title: str
    models: tuple[Choice, ...]
    recommended: str
    why: str
    masks: MaskFormat

    @property
    def space(self) -> LabelSpace:
        """The classes of all models."""
        return self.models[0].loaded.space

    def predict(self, path: Path) -> tuple[Picture, list[Prediction]]:
        """Read an image file and predict it with each model.

        Raises:
            RequestError: it cannot be read, or does not fit a network.
            RunError: the memory is not enough.
        """
        image = self.models[0].read(path)
        predictions = []
        for model in self.models:
            alike = model.loaded.input == self.models[0].loaded.input
            predictions.append(model.predict(image if alike else model.read(path), path))
        return image, predictions


def served_models(
    path: str | os.PathLike[str], stage: str | None = None, device: str = "cpu", ids: str | None = None
) -> Served:
    """Open the models to show.

    Args:
        path: folder of a run, for its source model and its adapted one; or a model file, for that alone.
        stage: of a run, the stage to show beside the source model, instead of the adapted one.
        device: where to compute.
        ids: values of the masks that are handed out, see :mod:`segadapt.data.masks.mask_format`; None for the ``own``
            ids of the user's masks where the model knows them, otherwise ``train``.

    Raises:
        RequestError: there is no such model or stage, it is damaged, or its classes have no such ids.

    >>> served_models("run").recommended  # doctest: +SKIP
    'adapted'
    """
    results = read_results(Path(path)) if Path(path).is_dir() else None
    if results:
        opened, title = _of_run(Path(path), results, stage, device), str(results.get("title", Path(path).name))
    else:
        opened, title = {"": Choice.of("model", Path(path).name, load(path, device, stage=stage))}, Path(path).name
    models = tuple(opened.values())
    space = models[0].loaded.space
    if not all(model.loaded.space.same_classes(space) for model in models):
        raise RequestError(f"the models of '{path}' have different classes; give the model file of one of them")
    judged = (results or {}).get("guard")
    best = opened.get(judged["recommended"]) if judged else None
    undecided = "this run has no verdict on which model is the better one" if len(models) > 1 else ""
    return Served(
        title, models, best.key if best else "", str(judged["line"]) if judged else undecided, _masks(space, ids)
    )


def _of_run(run: Path, results: dict[str, Any], stage: str | None, device: str) -> dict[str, Choice]:
    """Open the source model of a run, if it has one, and the one that is compared with it; by their stages."""
    find_model(run, stage)  # refuses stages that are not there, and runs that have not adapted yet
    rows = {row["stage"]: row for row in results["rows"]}
    shown = stage or results.get("guard", {}).get("adapted") or result_stage(results)
    source = next((name for name, row in rows.items() if row.get("role") == "source"), shown)
    opened = {name: load(run, device, stage=name) for name in dict.fromkeys((source, shown))}
    roles = {name: str(rows[name].get("role", "model")) for name in opened}
    if source != shown and roles[source] == roles[shown]:
        roles[shown] = "other"
    return {name: Choice.of(roles[name], rows[name].get("title", name), loaded) for name, loaded in opened.items()}


def _masks(space: LabelSpace, ids: str | None) -> MaskFormat:
    if ids is not None:
        return mask_format(space, ids)
    try:
        return mask_format(space, "own")
    except RequestError:
        return mask_format(space, "train")
