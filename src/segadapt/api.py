"""The calls of the Python interface; all of them are names of :mod:`segadapt` itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import nn

from segadapt.core.files import require_writable
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
from segadapt.report import write_report
from segadapt.runs.config import RunConfig, folder_config, listed, load_config
from segadapt.runs.labelling import label_images
from segadapt.runs.opening import in_space
from segadapt.runs.own_data import Classes, PathLike, own_data
from segadapt.runs.own_network import with_network
from segadapt.runs.results import RunResult, find_model
from segadapt.runs.run import Run, resumed

Model = LoadedModel | PathLike


def adapt(
    recipe: PathLike | RunConfig | None = None,
    overrides: str | Sequence[str] = (),
    *,
    source_images: PathLike | None = None,
    source_labels: PathLike | None = None,
    target_images: PathLike | None = None,
    test_images: PathLike | None = None,
    test_labels: PathLike | None = None,
    source: Any = None,
    target: Any = None,
    test: Any = None,
    classes: Classes | None = None,
    ignore_ids: Sequence[int] = (255,),
    method: str | None = None,
    network: nn.Module | None = None,
    head: str | None = None,
    preprocessing: Preprocessing = IMAGENET,
    plugins: str | Sequence[str] = (),
    out: PathLike | None = None,
    roots: Mapping[str, str] | None = None,
    seed: int | None = None,
    length: float | None = None,
    steps: int | None = None,
    stage: str | None = None,
    reuse: PathLike | Sequence[PathLike] = (),
    quiet: bool = True,
) -> RunResult:
    """Adapt a model by a recipe, between two folders, or between two data sets of one's own.

    Finished stages in ``out`` are not run again; an interrupted run goes on from its newest checkpoint.

    Args:
        recipe: name or file of a recipe, or a configuration; None for folders or data sets.
        overrides: settings to change, e.g. ``["adapt.rounds=2", "source.steps=400"]``.
        source_images, source_labels: folders of labelled images and of their masks.
        target_images: folder of images without labels.
        test_images, test_labels: labelled target images to score on; nothing trains on them.
        source, target, test: instead of folders, data sets: a :class:`segadapt.data.Dataset`, or any torch Dataset or
            list of (image, label) pairs, for the target of images alone. See :func:`segadapt.data.in_memory` for the
            types; labels hold train ids ``0 .. K - 1`` and 255 for none.
        classes: classes file of the masks; for data sets the class names in order of their train ids, or a label
            space. Folders without one get classes from the values of their masks.
        ignore_ids: mask values in folders that belong to no class.
        method: for folders and data sets; ``cbst`` if None.
        network: a network of one's own instead of ``model.name``: any module that maps images [B, 3, H, W] to class
            scores [B, K, h, w]. Training starts from its weights and leaves the module itself as it is. A recipe on two
            resolutions (``hrda:NAME``) looks through it twice.
        head: name of the submodule of ``network`` that makes the scores; its input becomes the features.
        preprocessing: makes the input of ``network`` from RGB images in [0, 1].
        plugins: packages that register methods, readers or augmentations when they are imported.
        out: folder of the run; ``runs/TITLE/seedN`` if None.
        roots: folders of named data sets.
        seed: seed of everything random; the recipe's seed if None.
        length, steps: share of the published steps, in (0, 1], or about so many steps of all stages together.
        stage: run this stage alone.
        reuse: runs to take finished stages over from, where settings, seed and training data are equal.
        quiet: print warnings only.

    Raises:
        RequestError: the request is wrong; the message says where and how to fix it.
        RunError: training failed or was stopped; calling again resumes it.

    >>> import segadapt  # doctest: +SKIP
    >>> result = segadapt.adapt("toy/cbst", ["adapt.rounds=2"], roots={"toy": "demo/toy"}, out="run")  # doctest: +SKIP
    >>> result.miou, result.model  # doctest: +SKIP
    (47.7, PosixPath('run/stages/adapt/model.safetensors'))
    """
    overrides, plugins, reuse = listed(overrides), listed(plugins), listed(reuse)
    datasets = {p: v for p, v in {"source": source, "target": target, "test": test}.items() if v is not None}
    folders = {
        "source": (source_images, source_labels),
        "target": (target_images, None),
        "test": (test_images, test_labels),
    }
    numbers = {"seed": seed, "length": length}
    changes = [*overrides, *(f"{name}={value}" for name, value in numbers.items() if value is not None)]
    given: dict[str, Dataset] = {}
    if recipe is not None:
        if datasets or any(value is not None for pair in folders.values() for value in pair):
            raise RequestError("a recipe names its own data; leave out the folders and data sets, or the recipe")
        if method is not None or classes is not None or tuple(ignore_ids) != (255,):
            raise RequestError("method, classes and ignored ids are for folders and data sets; a recipe has its own")
        if isinstance(recipe, RunConfig):
            if changes or plugins or steps is not None:
                raise RequestError("a configuration is complete; other settings and plugins are for a recipe's name")
            config = recipe
        else:
            config = load_config(recipe, changes, plugins, steps=steps)
    else:
        given, data = own_data(datasets, folders, classes, ignore_ids)
        config = folder_config(method or "cbst", data, changes, plugins, steps=steps)
    config = with_network(config, network, head, preprocessing, changes)
    where = Path(out) if out is not None else Path("runs") / config.title / f"seed{config.seed}"
    require_writable(where, "folder for the run ('out')")
    return _executed(Run.open(config, where, roots, quiet=quiet, reuse=[Path(r) for r in reuse], given=given), stage)


def resume(
    run: PathLike, *, stage: str | None = None, roots: Mapping[str, str] | None = None, quiet: bool = True
) -> RunResult:
    """Go on with the run in a folder from its newest checkpoint; finished stages are not done again.

    Args:
        run: folder of the run.
        stage: run this stage alone.
        roots: where named data sets lie now; the others lie where they did.
        quiet: print warnings only.

    Raises:
        RequestError: the folder does not hold a run, or it was given data sets or a network by a script, which then
            has to call :func:`adapt` again.
        RunError: training failed or was stopped.

    >>> segadapt.resume("run").miou  # doctest: +SKIP
    47.7
    """
    return _executed(resumed(Path(run), quiet, roots), stage)


def _executed(run: Run, stage: str | None) -> RunResult:
    results = run.execute(stage)
    report = write_report(run.out) if run.runtime.main else None
    return RunResult.of(results, run.out, report)


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
    inference: InferenceConfig | None = None,
    device: str = "cpu",
) -> Scores:
    """Score a model on labelled images, at the size of their label maps.

    Args:
        model: a loaded model, or the path of one.
        dataset: a :class:`segadapt.data.Dataset`, or a torch Dataset or list of (image, label) pairs in the train ids
            of the model.
        images, labels: instead, folders of images and masks.
        classes: classes file of the masks; without one they are read as the model's classes.
        ignore_ids: mask values that belong to no class.
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
        dataset = open_folder(
            Path(images), Path(labels), file, tuple(ignore_ids), name="labels", like=loaded.space.names, part="test"
        )
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
