"""The three calls an engineer needs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segadapt.errors import RequestError
from segadapt.evaluate.predict import predict_array
from segadapt.models.inference import InferenceConfig
from segadapt.models.store import LoadedModel, by_prototypes, load_model
from segadapt.report import write_report
from segadapt.runs.config import RunConfig, folder_config, load_config
from segadapt.runs.run import Run, find_model

PathLike = str | os.PathLike[str]


def adapt(
    recipe: str | RunConfig | None = None,
    overrides: Sequence[str] = (),
    *,
    source_images: PathLike | None = None,
    source_labels: PathLike | None = None,
    target_images: PathLike | None = None,
    classes: PathLike | None = None,
    ignore_ids: Sequence[int] = (255,),
    method: str = "cbst",
    out: PathLike = "run",
    roots: Mapping[str, str] | None = None,
    quiet: bool = True,
) -> dict[str, Any]:
    """Adapt a model by a recipe, or from two folders; what is finished in ``out`` is not done again.

    Args:
        recipe: name or file of a recipe, or a configuration; None for two folders.
        overrides: settings to change, e.g. ``["adapt.rounds=2", "seed=1"]``.
        source_images, source_labels: labelled images and their masks.
        target_images: images without labels.
        classes: classes file of the masks; inferred from them if None.
        ignore_ids: mask values that belong to no class.
        method: for two folders.
        out: folder of the run; the report lies in it.
        roots: folders of named data sets.
        quiet: print warnings only.

    Returns:
        The results as written to ``out/results.json``.

    Raises:
        RequestError: the request was wrong; the message says how to mend it.
        RunError: training failed or was stopped; calling again resumes it.
    """
    if isinstance(recipe, RunConfig):
        config = recipe
    elif recipe is not None:
        config = load_config(recipe, overrides)
    else:
        if source_images is None or source_labels is None or target_images is None:
            raise RequestError("give a recipe, or source_images, source_labels and target_images")
        config = folder_config(
            method,
            Path(source_images),
            Path(source_labels),
            Path(target_images),
            classes=Path(classes) if classes is not None else None,
            ignore_ids=ignore_ids,
            overrides=overrides,
        )
    run = Run(config, Path(out), roots or {}, quiet)
    results = run.execute()
    if run.runtime.main:
        write_report(run.out)
    return results


def load(path: PathLike, device: str = "cpu", prototypes: bool = False) -> LoadedModel:
    """A model from a model file, or the adapted model of a run's folder.

    With ``prototypes`` it predicts by those of its stage (MPCL) instead of its classifier.
    """
    file = find_model(Path(path))
    loaded = load_model(file, device)
    return by_prototypes(loaded, file) if prototypes else loaded


def predict(
    loaded: LoadedModel, image: npt.NDArray[np.uint8], inference: InferenceConfig | None = None
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """Labels [H, W] uint8 train ids and confidence [H, W] in (0, 1] of an RGB image [H, W, 3] uint8.

    As ``segadapt predict`` does, at the working size and with the inference of the run that made the model, unless
    ``inference`` is given.
    """
    how = inference or InferenceConfig(**loaded.inference)
    return predict_array(loaded.model, image, how, size=loaded.working_size)
