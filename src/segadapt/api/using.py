"""Uses of a model: :func:`load`, :func:`predict`, :func:`evaluate`, :func:`label`, :func:`export`."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor, nn

from segadapt.core.settings import checked
from segadapt.data.bands import in_bands, reader_of
from segadapt.data.dataset import Dataset, Picture
from segadapt.data.decode import read_picture
from segadapt.data.files.raster import Bands
from segadapt.data.folder import open_folder
from segadapt.data.given import as_picture
from segadapt.data.memory import in_memory
from segadapt.engine.runtime import Runtime, device_named
from segadapt.errors import RequestError
from segadapt.evaluation.export import ExportReport, export_onnx
from segadapt.evaluation.metrics import Scores
from segadapt.evaluation.onnx_metadata import onnx_metadata
from segadapt.evaluation.predict import predict_array
from segadapt.evaluation.results import Prediction
from segadapt.evaluation.scoring import evaluate as score
from segadapt.evaluation.video import VIDEO_SUFFIXES
from segadapt.models.inference import InferenceConfig
from segadapt.models.plain import give_network
from segadapt.models.segmenter import IMAGENET, Preprocessing
from segadapt.models.store import LoadedModel, by_prototypes, load_model
from segadapt.runs.labelling import label_images
from segadapt.runs.merged_predictions import merges_of, require_merges
from segadapt.runs.model_card import write_exported_card
from segadapt.runs.own_data import PathLike
from segadapt.runs.results import find_model
from segadapt.runs.spaces import in_space

Model = LoadedModel | PathLike
OneImage = PathLike | Image.Image | npt.NDArray[Any] | Tensor


def load(
    path: PathLike,
    device: str = "cpu",
    prototypes: bool = False,
    *,
    stage: str | None = None,
    network: nn.Module | None = None,
    head: str | None = None,
    preprocessing: Preprocessing = IMAGENET,
) -> LoadedModel:
    """Open a model file, or the result of a run's folder, in evaluation mode.

    Args:
        path: the file or folder.
        device: where to put it.
        prototypes: predict by the prototypes of its stage (MPCL) instead of its classifier.
        stage: of a run, the stage whose model is wanted; None takes the one that the run recommends.
        network: for a model that was trained with ``adapt(network=...)``: a module of the same class and shape; the
            weights come from the file.
        head, preprocessing: of a file that does not hold them; otherwise they are as :func:`adapt` got them.

    Raises:
        RequestError: there is no such file, it is damaged, or its network is unknown here.

    >>> model = segadapt.load("run")  # doctest: +SKIP
    """
    file = find_model(path, stage)
    device = device_named(device)
    if network is not None:
        give_network(network, preprocessing=preprocessing, head=head)
    loaded = load_model(file, device)
    return by_prototypes(loaded, file) if prototypes else loaded


@overload
def predict(  # type: ignore[overload-overlap]  # a text and an array can be gone through, too; both are one image
    model: Model, image: OneImage, inference: InferenceConfig | None = None
) -> Prediction: ...


@overload
def predict(model: Model, image: Iterable[OneImage], inference: InferenceConfig | None = None) -> list[Prediction]: ...


def predict(
    model: Model, image: OneImage | Iterable[OneImage], inference: InferenceConfig | None = None
) -> Prediction | list[Prediction]:
    """Predict an image, or several, at the working size and with the inference of the run that made the model.

    Files and videos are predicted into files by :func:`segadapt.evaluation.predict_path`, in constant memory.

    Args:
        model: a loaded model, or the path of one.
        image: the path of an image file; a PIL image of any mode but I; or a NumPy array or torch tensor of grey, RGB
            or RGBA values, [H, W], [H, W, C] or [C, H, W], as uint8, uint16 or floats in [0, 1]. Or a list or other
            iterable of these. Files and PIL images are turned as viewers turn them; transparency is dropped. A model of
            other bands, or of a measured range, takes files as those of its target, arrays [H, W, C] of the same type,
            and arrays of C bands of 8 bits.
        inference: how to predict instead.

    Returns:
        The label map [H, W] uint8 of train ids, and the confidence [H, W] float32 in (0, 1]; a list of these for
        several images.

    Raises:
        RequestError: what was given is not an image, or its file cannot be read.

    >>> labels, confidence = segadapt.predict("run", "photo.jpg")  # doctest: +SKIP
    >>> masks = [made.labels for made in segadapt.predict("run", ["a.jpg", array])]  # doctest: +SKIP
    """
    loaded = _opened(model)
    config = _inference(loaded, inference)

    def one(value: Any, who: str) -> Prediction:
        return predict_array(loaded.model, _picture(value, who, loaded), config, size=loaded.working_size)

    if _is_one(image):
        return one(image, "the image")
    several: Iterable[Any] = image  # type: ignore[assignment]
    return [one(value, f"image {number}") for number, value in enumerate(several)]


def evaluate(
    model: Model,
    dataset: Any = None,
    *,
    images: PathLike | None = None,
    labels: PathLike | None = None,
    classes: PathLike | None = None,
    ignore_ids: Sequence[int] = (255,),
    pair: str | None = None,
    merge: Mapping[str, str] | None = None,
    merge_predictions: Mapping[str, str] | str | None = None,
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
        merge: class name of the masks -> class of the model that it counts as, or ``ignore``.
        merge_predictions: class that is predicted -> class of the model that it counts as, or ``ignore`` for none; or
            the name of a task or recipe that scores so, e.g. ``cityscapes_nthu_rome``. For labels of fewer classes.
        inference: how to predict instead of as the run did.
        device: where to compute.

    Raises:
        RequestError: no data, or labels that do not fit the classes of the model.

    >>> scores = segadapt.evaluate("run", images="B/test", labels="B/masks")  # doctest: +SKIP
    >>> scores.miou, dict(zip(scores.names, scores.iou))  # doctest: +SKIP
    """
    loaded = _opened(model)
    merged = merges_of(merge_predictions) if isinstance(merge_predictions, str) else dict(merge_predictions or {})
    require_merges(merged, loaded.space, "merge_predictions")
    if dataset is not None and (images is not None or labels is not None):
        raise RequestError("give dataset, or images and labels, not both")
    if dataset is None:
        if images is None or labels is None:
            raise RequestError("nothing to score on: give dataset, or images and labels")
        file = Path(classes) if classes is not None else None
        options: dict[str, Any] = {"name": "labels", "like": loaded.space.names, "part": "test", "pair": pair}
        dataset = open_folder(Path(images), Path(labels), file, tuple(ignore_ids), **options)
        dataset = in_bands(dataset, None, reader_of(loaded.input))
    elif not isinstance(dataset, Dataset):
        dataset = in_memory("labels", dataset, loaded.space, bands=loaded.model.bands)
    if not dataset.labelled:
        raise RequestError("nothing to score on: the data set is empty or has no labels")
    dataset = in_space(dataset, loaded.space, "labels", merge)
    for notice in dataset.notices:
        warnings.warn(notice.text, stacklevel=2)
    config, size = _inference(loaded, inference), loaded.working_size
    return score(loaded.model, dataset, config, device_named(device), size=size, merge=merged)


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
    ids: str = "train",
    overwrite: bool = False,
    accelerator: str = "auto",
    quiet: bool = True,
) -> dict[str, Any]:
    """Write pseudo labels for a folder of images; see :func:`segadapt.runs.labelling.label_images`.

    Args:
        model: a loaded model, or the path of one.
        images: folder of unlabelled images.
        out: folder of ``labels/ID.png``, ``legend.json`` and ``labels.json``.
        portion: share of the pixels to label, in (0, 1].
        policy: ``class_balanced`` (CBST) or ``global`` (ST).
        labels, classes: true masks and their classes file, only to report accuracy.
        pair: names of images and masks, ``IMAGE=MASK`` with ``{}`` for what both share.
        inference: how to predict instead of as the run did.
        ids: values of the labels: ``train`` ids, the ``own`` ids of your masks, or ``cityscapes`` ids.
        overwrite: replace the labels of an earlier call.
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
        ids=ids,
        overwrite=overwrite,
        runtime=runtime,
        quiet=quiet,
    )


def export(
    model: Model,
    out: PathLike = "model.onnx",
    height: int | None = None,
    width: int | None = None,
    *,
    dynamic: bool = True,
    inference: InferenceConfig | None = None,
) -> ExportReport:
    """Export a model to ONNX and compare it with torch; see :func:`segadapt.evaluation.export.export_onnx`.

    The file says what it needs: classes, colours, input range, working size, see
    :func:`segadapt.evaluation.onnx_metadata.onnx_metadata`. A model card is written beside it.

    Args:
        model: a loaded model, or the path of one.
        out: the ONNX file.
        height, width: size of the images in pixels; None: the working size of the model, or 512 x 1024 if it has none
            of two numbers.
        dynamic: let batch, height and width vary.
        inference: how the model predicts instead of as in its run.

    >>> segadapt.export("run", "model.onnx", 512, 1024).max_error < 1e-3  # doctest: +SKIP
    True
    """
    loaded = _opened(model)
    config = _inference(loaded, inference)
    usual = loaded.working_size if isinstance(loaded.working_size, tuple) else (None, None)
    high = height if height is not None else usual[0] or 512
    wide = width if width is not None else usual[1] or 1024
    metadata = onnx_metadata(loaded, config, None if dynamic else (high, wide))
    made = export_onnx(loaded.model, Path(out), high, wide, dynamic, config, metadata)
    write_exported_card(loaded, made)
    return made


# ---- parts ----


def _is_one(value: Any) -> bool:
    """Return whether a value stands for one image, be it a wrong one, rather than for several."""
    if isinstance(value, str | bytes | os.PathLike | Image.Image | np.ndarray | Tensor | Mapping):
        return True
    return not (hasattr(value, "__iter__") or hasattr(value, "__getitem__"))


def _picture(value: Any, who: str, loaded: LoadedModel) -> Picture:
    """Return the picture, of the bands of the model, of what :func:`predict` takes as one image."""
    reader = reader_of(loaded.input)
    if not isinstance(value, str | os.PathLike):
        if reader is not None and isinstance(value, np.ndarray) and reader.takes(value):
            return reader.picture(Bands(value, None))
        return as_picture(value, who, loaded.model.bands)
    path = Path(value)
    if path.is_dir():
        raise RequestError(f"'{path}' is a folder; give its images: sorted(Path('{path}').glob('*.jpg'))")
    if path.suffix.lower() in VIDEO_SUFFIXES:
        raise RequestError(f"'{path}' is a video; predict it with segadapt.evaluation.predict_path, or in a terminal")
    return (reader or read_picture)(path)


def _opened(model: Model) -> LoadedModel:
    return model if isinstance(model, LoadedModel) else load(model)


def _inference(loaded: LoadedModel, instead: InferenceConfig | None) -> InferenceConfig:
    return instead or checked(InferenceConfig, loaded.inference, "inference of the model file")
