"""Suggestions which images of a data set to label next, by a model that was adapted to them or not yet."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from segadapt.core.files import write_text
from segadapt.data.dataset import Dataset
from segadapt.data.resize import Resize
from segadapt.errors import RequestError
from segadapt.evaluation.scoring import Progress, working_image
from segadapt.models.inference import InferenceConfig, evaluation_mode, resize_images, scores
from segadapt.models.segmenter import Segmenter
from segadapt.pieces.images import to_batch
from segadapt.pieces.next_labels import class_uncertainty, farthest_first


class Suggestion(NamedTuple):
    """An image to label.

    Attributes:
        name: its name in the data set.
        image: its file; or where it is held in memory, in words.
        uncertainty: how unsure the model is of its classes, in [0, 1].
        distance: to the nearest image that has labels or stands before it, in spreads of the features; None for a first
            image beside which there is none.
    """

    name: str
    image: str
    uncertainty: float
    distance: float | None


def suggest_images(
    model: Segmenter,
    dataset: Dataset,
    count: int,
    config: InferenceConfig,
    device: torch.device | str,
    *,
    labelled: Collection[str] = (),
    size: Resize = None,
    progress: Progress | None = None,
) -> list[Suggestion]:
    """Return which images to label next, the best ones first; the same for the same model and images.

    Args:
        model: the network; moved to ``device``.
        dataset: all images; labels of it are not looked at.
        count: number of images to suggest, at least 1.
        config: how the uncertainty is predicted; features are those of the whole image at scale 1.
        device: where to compute.
        labelled: names of images that have labels: they are not suggested, nor what is like them.
        size: working size of the images.
        progress: called after every image with (done, total).

    Raises:
        RequestError: fewer images have no labels than are wanted.
        DamagedFile: an image cannot be read.
    """
    known = [i for i, item in enumerate(dataset.items) if item.id in labelled]
    free = len(dataset) - len(known)
    if not 1 <= count <= free:
        beside = f", beside {len(known)} that have labels" if known else ""
        raise RequestError(f"{count} images to label are wanted, and there are {free}{beside}; choose 1 to {free}")
    model.to(device)
    unsure, features = [], []
    with evaluation_mode(model), torch.inference_mode():
        for index in range(len(dataset)):
            image = to_batch(working_image(dataset.image(index), size, config), device)
            unsure.append(class_uncertainty(scores(model, image, config).exp())[0].cpu())
            whole = image if config.size is None else resize_images(image, config.size)
            features.append(model(whole).features[0].float().mean((1, 2)).cpu())
            if progress is not None:
                progress(index + 1, len(dataset))
    uncertainty = torch.stack(unsure)
    return [
        Suggestion(dataset.items[i].id, str(dataset.items[i].image), float(uncertainty[i]), distance)
        for i, distance in farthest_first(torch.stack(features), uncertainty, count, known)
    ]


def write_suggestions(found: Sequence[Suggestion], file: Path) -> None:
    """Write suggestions: names one a line, as a list file has them; or a table where the file ends in ``.csv``."""
    if file.suffix.lower() != ".csv":
        write_text(file, "".join(f"{one.name}\n" for one in found))
        return
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(Suggestion._fields)
    table.writerows(one._replace(uncertainty=round(one.uncertainty, 4)) for one in found)
    write_text(file, text.getvalue())
