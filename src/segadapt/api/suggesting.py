"""Which images to label next: :func:`suggest`."""

from __future__ import annotations

from pathlib import Path

from segadapt.api.using import Model, load
from segadapt.core.settings import checked
from segadapt.data.bands import in_bands, reader_of
from segadapt.data.folder import open_folder
from segadapt.data.labelled_among import labelled_among
from segadapt.engine.runtime import device_named
from segadapt.evaluation.scoring import Progress
from segadapt.evaluation.suggesting import Suggestion, suggest_images, write_suggestions
from segadapt.models.inference import InferenceConfig
from segadapt.models.store import LoadedModel
from segadapt.runs.own_data import PathLike


def suggest(
    model: Model,
    images: PathLike,
    count: int = 5,
    *,
    labelled: PathLike | None = None,
    pair: str | None = None,
    out: PathLike | None = None,
    inference: InferenceConfig | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> list[Suggestion]:
    """Suggest which images of a folder to label next: those of which a model is unsure, and unlike each other.

    The same model, images and labels give the same suggestions. See :mod:`segadapt.pieces.next_labels` for the rule.

    Args:
        model: a loaded model, or the path of one: of the source, or adapted to these images.
        images: folder of the target images.
        count: number of images to suggest.
        labelled: folder of the masks, or annotations, that there are already; their images are not suggested, nor what
            is like them.
        pair: names of images and masks, ``IMAGE=MASK`` with ``{}`` for what both share.
        out: file to write the names into, one a line; with the numbers where it ends in ``.csv``.
        inference: how to predict instead of as the run did.
        device: where to compute.
        progress: called after every image with (done, total).

    Returns:
        The images with their numbers, the best ones to label first.

    Raises:
        RequestError: there are fewer images without labels, or a file cannot be read.

    >>> [one.name for one in segadapt.suggest("run", "B/images", 5, labelled="B/masks")]  # doctest: +SKIP
    """
    loaded = model if isinstance(model, LoadedModel) else load(model, device)
    folder = Path(images)
    dataset = in_bands(open_folder(folder, name="images", pair=pair), None, reader_of(loaded.input))
    have = labelled_among(dataset, folder, Path(labelled), pair) if labelled is not None else set()
    config = inference or checked(InferenceConfig, loaded.inference, "inference of the model file")
    found = suggest_images(
        loaded.model,
        dataset,
        count,
        config,
        device_named(device),
        labelled=have,
        size=loaded.working_size,
        progress=progress,
    )
    if out is not None:
        write_suggestions(found, Path(out))
    return found
