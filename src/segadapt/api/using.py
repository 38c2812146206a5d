"""Uses of a model: :func:`load`, :func:`predict`, :func:`evaluate`, :func:`label`, :func:`export`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import nn

from segadapt.core.settings import checked
from segadapt.data.dataset import Dataset
from segadapt.data.folder import open_folder
from segadapt.data.memory import in_memory
from segadapt.engine.runtime import Runtime, device_named
from segadapt.errors import RequestError
from segadapt.evaluation.export import ExportReport, export_onnx
from segadapt.evaluation.metrics import Scores
from segadapt.evaluation.predict import predict_array
from segadapt.evaluation.scoring import evaluate as score
from segadapt.models.inference import InferenceConfig
from segadapt.models.plain import give_network
from segadapt.models.segmenter import IMAGENET, Preprocessing
from segadapt.models.store import LoadedModel, by_prototypes, load_model
from segadapt.runs.labelling import label_images
from segadapt.runs.opening import in_space
from segadapt.runs.own_data import PathLike
from segadapt.runs.results import find_model

Model = LoadedModel | PathLike


def load(
    path: PathLike,
    device: str = "cpu",
    prototypes: bool = False,
    *,
    network: nn.Module | None = None,
    head: str | None = None,
    preprocessing: Preprocessing = IMAGENET,
) -> LoadedModel:
    """Open a model file, or the result of a run's folder, in evaluation mode.

    Args:
        path: the file or folder.
        device: where to put it.
        prototypes: predict by the prototypes of its stage (MPCL) instead of its classifier.
        network: for a model that was trained with ``adapt(network=...)``: a module of the same class and shape; the
            weights come from the file.
        head, preprocessing: of a file that does not hold them; otherwise they are as :func:`adapt` got them.

    Raises:
        RequestError: there is no such file, it is damaged, or its network is unknown here.

    >>> model = segadapt.load("run")  # doctest: +SKIP
    """
    file = find_model(path)
    device = device_named(device)
    if network is not None:
        give_network(network, preprocessing=preprocessing, head=head)
    loaded = load_model(file, device)
    return by_prototypes(loaded, file) if prototypes else loaded


def predict(
    model: Model, image: npt.NDArray[np.uint8] | Image.Image, inference: InferenceConfig | None = None
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """Predict one image, at the working size and with the inference of the run that made the model.

    Args:
        model: a loaded model, or the path of one.
        image: RGB [H, W, 3] uint8, or a PIL image.
        inference: how to predict instead.

    Returns:
        Label map [H, W] uint8 of train ids, and confidence [H, W] float32 in (0, 1].

    >>> labels, confidence = segadapt.predict("run", image)  # doctest: +SKIP
    """
    loaded = _opened(model)
    if isinstance(image, Image.Image):
        image = np.array(image.convert("RGB"))
    if not isinstance(image, np.ndarray):
        raise RequestError(f"an image must be an RGB array [height, width, 3] of uint8, not a {type(image).__name__}")
    return predict_array(loaded.model, image, _inference(loaded, inference), size=loaded.working_size)


def evaluate(
    model: Model,
    dataset: Any = None,
    *,
    images: PathLike | None = None,
    labels: PathLike | None = None,
    classes: PathLike | None = None,
    ignore_ids: Sequence[int] = (255,),
    pair: str | None = None,
    inference: InferenceConfig | None = None,
    device: str = "cpu",
) -> Scores:
    """Score a model on labelled images, at the size of their label maps.

    Args:
        model: a loaded model, or the path of one.
        dataset: a :class:`segadapt.data.Dataset`, or a torch Dataset or list of (image, label) pairs in the train ids
            of the model.
        images, labels: instead, folders of images and of masks, or of annotations.
        classes: classes file of the masks; without one they are read as the model's classes.
        ignore_ids: mask values that belong to no class.
        pair: names of images and masks, ``IMAGE=MASK`` with ``{}`` for what both share.
        inference: how to predict instead of as the run did.
        device: where to compute.

    Raises:
        RequestError: no data, or labels that do not fit the classes of the model.

    >>> scores = segadapt.evaluate("run", images="B/test", labels="B/masks")  # doctest: +SKIP
    >>> scores.miou, dict(zip(scores.names, scores.iou))  # doctest: +SKIP
    """
    loaded = _opened(model)
    if dataset is not None and (images is not None or labels is not None):
        raise RequestError("give dataset, or images and labels, not both")
    if dataset is None:
        if images is None or labels is None:
            raise RequestError("nothing to score on: give dataset, or images and labels")
        file = Path(classes) if classes is not None else None
        options: dict[str, Any] = {"name": "labels", "like": loaded.space.names, "part": "test", "pair": pair}
        dataset = open_folder(Path(images), Path(labels), file, tuple(ignore_ids), **options)
    elif not isinstance(dataset, Dataset):
        dataset = in_memory("labels", dataset, loaded.space)
    if not dataset.labelled:
        raise RequestError("nothing to score on: the data set is empty or has no labels")
    dataset = in_space(dataset, loaded.space, "labels")
    return score(loaded.model, dataset, _inference(loaded, inference), device_named(device), size=loaded.working_size)


def label(
    model: Model,
    images: PathLike,
    out: PathLike,
    *,
    portion: float = 0.2,
    policy: str = "class_balanced",
    labels: PathLike | None = None,
    classes: PathLike | None = None,
    pair: str | None = None,
    inference: InferenceConfig | None = None,
    accelerator: str = "auto",
    quiet: bool = True,
) -> dict[str, Any]:
    """Write pseudo labels for a folder of images; see :func:`segadapt.runs.labelling.label_images`.

    Args:
        model: a loaded model, or the path of one.
        images: folder of unlabelled images.
        out: folder of ``labels/ID.png`` and ``labels.json``.
        portion: share of the pixels to label, in (0, 1].
        policy: ``class_balanced`` (CBST) or ``global`` (ST).
        labels, classes: true masks and their classes file, only to report accuracy.
        pair: names of images and masks, ``IMAGE=MASK`` with ``{}`` for what both share.
        inference: how to predict instead of as the run did.
        accelerator: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        quiet: print warnings only.

    Returns:
        The summary as in ``labels.json``: density, accuracy, and per class threshold, pixels, share and accuracy.

    >>> summary = segadapt.label("run", "B/images", "pseudo_labels", portion=0.5)  # doctest: +SKIP
    """
    runtime = Runtime(accelerator)
    loaded = load(model, str(runtime.device)) if not isinstance(model, LoadedModel) else model
    return label_images(
        loaded,
        Path(images),
        Path(out),
        portion=portion,
        policy=policy,
        labels=Path(labels) if labels is not None else None,
        classes=Path(classes) if classes is not None else None,
        pair=pair,
        size=loaded.working_size,
        inference=_inference(loaded, inference),
        runtime=runtime,
        quiet=quiet,
    )


def export(
    model: Model,
    out: PathLike = "model.onnx",
    height: int = 512,
    width: int = 1024,
    *,
    dynamic: bool = True,
    inference: InferenceConfig | None = None,
) -> ExportReport:
    """Export a model to ONNX and compare it with torch; see :func:`segadapt.evaluation.export.export_onnx`.

    Args:
        model: a loaded model, or the path of one.
        out: the ONNX file.
        height, width: size of the images in pixels.
        dynamic: let batch, height and width vary.
        inference: how the model predicts instead of as in its run.

    >>> segadapt.export("run", "model.onnx", 512, 1024).max_error < 1e-3  # doctest: +SKIP
    True
    """
    loaded = _opened(model)
    return export_onnx(loaded.model, Path(out), height, width, dynamic, _inference(loaded, inference))


# ---- parts ----


def _opened(model: Model) -> LoadedModel:
    return model if isinstance(model, LoadedModel) else load(model)


def _inference(loaded: LoadedModel, instead: InferenceConfig | None) -> InferenceConfig:
    return instead or checked(InferenceConfig, loaded.inference, "inference of the model file")
