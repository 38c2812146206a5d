"""Write pictures of a run for its report: predictions on test images, pseudo labels on target images.

All pictures are listed in the file :data:`~segadapt.report.pictures.INDEX`, which
:func:`~segadapt.report.pictures.read_album` reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from segadapt.core.files import write_bytes, write_json
from segadapt.data.bands import as_rgb
from segadapt.data.dataset import DamagedFile, Dataset, Picture
from segadapt.data.decode import read_index
from segadapt.data.files.writing import encode_picture
from segadapt.data.resize import Resize, resize_image, resize_label
from segadapt.labels import LabelSpace
from segadapt.models.inference import InferenceConfig, predict_labels
from segadapt.models.segmenter import Segmenter
from segadapt.pieces.images import to_batch
from segadapt.report.maps import confidence_map
from segadapt.report.pictures import INDEX, WIDEST, fitting, picture_index

COUNT = 8
"""Number of images shown of a data set, at most."""


def show_predictions(
    folder: Path,
    stage: str,
    model: Segmenter,
    dataset: Dataset,
    inference: InferenceConfig,
    size: Resize,
    space: LabelSpace,
) -> None:
    """Write image, truth and this stage's prediction and confidence for a few evenly spaced images.

    Args:
        folder: folder for pictures of the run.
        stage: name of the stage.
        model: the network after the stage.
        dataset: test images, with or without labels.
        inference: how the run predicts.
        size: working size of the images.
        space: classes and their colours.

    Raises:
        RunError: a file cannot be written.
    """
    index = picture_index(folder)
    known: dict[str, dict[str, Any]] = {entry["id"]: entry for entry in index["test"]}
    device = next(model.parameters()).device
    for number, image in shown_images(dataset, size):
        item = dataset.items[number]
        shown = fitting(image.shape[0], image.shape[1], WIDEST)
        name = f"test/{number:06d}"
        entry = known.setdefault(item.id, {"id": item.id, "image": f"{name}_image.jpg", "truth": None, "stages": {}})
        write_picture(folder / entry["image"], resize_image(image, shown))
        if item.label is not None and entry["truth"] is None:
            truth = entry["truth"] = f"{name}_truth.png"
            write_picture(folder / truth, space.colorize(resize_label(dataset.label(number), shown)))
        label, confidence = predict_labels(model, to_batch(image, device), shown, inference)
        paths = {"label": f"{name}_{stage}.png", "confidence": f"{name}_{stage}_confidence.jpg"}
        write_picture(folder / paths["label"], space.colorize(label[0].cpu().numpy()))
        write_picture(folder / paths["confidence"], confidence_map(confidence[0].float().cpu().numpy()))
        entry["stages"][stage] = paths
    index["test"] = list(known.values())
    write_json(folder / INDEX, index)


def show_labels(
    folder: Path,
    stage: str,
    stage_folder: Path,
    rounds: Sequence[Mapping[str, Any]],
    target: Dataset,
    space: LabelSpace,
) -> list[str]:
    """Write the stored pseudo labels of a few target images with their confidence, for every round.

    Args:
        folder: folder for pictures of the run.
        stage: name of the stage.
        stage_folder: folder of the stage, with its label maps and confidences per round.
        rounds: summary of every round: ``round`` is its number, ``shown`` the numbers of the images.
        target: the target images.
        space: classes and their colours.

    Returns:
        What is wrong with label files that cannot be read, e.g. after a power cut; they are left out.

    Raises:
        RunError: a file cannot be written.
    """
    index, damaged = picture_index(folder), list[str]()
    index["pseudo"] = [e for e in index["pseudo"] if e["stage"] != stage]
    for summary in rounds:
        for number in summary["shown"]:
            item = target.items[number]
            source = stage_folder / f"round{summary['round']}"
            kept = source / "confidence" / f"{number:06d}.png"
            if not kept.is_file():  # a stage that another run made keeps its model alone
                continue
            try:
                confidence = read_index(kept)
                label = read_index(source / "labels" / f"{item.id}.png")
            except DamagedFile as problem:  # the stage is finished, and its model whole
                damaged.append(str(problem))
                continue
            shown = fitting(label.shape[0], label.shape[1], WIDEST)
            name = f"pseudo/{stage}_{summary['round']}_{number:06d}"
            write_picture(folder / f"{name}_image.jpg", resize_image(target.image(number), shown))
            write_picture(folder / f"{name}_label.png", space.colorize(resize_label(label, shown)))
            write_picture(
                folder / f"{name}_confidence.jpg",
                confidence_map(resize_image(confidence, shown).astype(np.float32) / 255),
            )
            index["pseudo"].append(
                {
                    "id": item.id,
                    "stage": stage,
                    "round": summary["round"],
                    "image": f"{name}_image.jpg",
                    "label": f"{name}_label.png",
                    "confidence": f"{name}_confidence.jpg",
                    "density": float((label < len(space)).mean()),
                }
            )
    write_json(folder / INDEX, index)
    return damaged


def evenly_spaced(dataset: Dataset) -> list[int]:
    """Return the numbers of the few images of a data set that are shown."""
    return [int(n) for n in np.linspace(0, len(dataset) - 1, min(COUNT, len(dataset))).astype(int)]


def shown_images(dataset: Dataset, size: Resize) -> Iterator[tuple[int, Picture]]:
    """Yield number and picture of the images shown, at working size; damaged ones are skipped."""
    for number in evenly_spaced(dataset):
        try:
            image = resize_image(dataset.image(number), size)
        except DamagedFile:
            continue  # a damaged file is reported where the image is needed; skip it here
        yield number, image


def write_picture(path: Path, picture: npt.NDArray[np.uint8]) -> None:
    """Write a picture [H, W, C], or grey [H, W], in the format of its suffix; RunError if that fails."""
    picture = as_rgb(picture) if picture.ndim == 3 else picture
    settings = [cv2.IMWRITE_JPEG_QUALITY, 88] if path.suffix == ".jpg" else []
    write_bytes(path, encode_picture(path.suffix, picture, settings))
