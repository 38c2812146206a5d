"""Predictions of images and videos on the disk."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from segadapt.core.files import write_bytes
from segadapt.data.bands import BandReader
from segadapt.data.dataset import DamagedFile, Picture
from segadapt.data.decode import read_picture
from segadapt.data.masks.mask_format import mask_format, require_legend_place, write_legend
from segadapt.data.resize import Resize
from segadapt.data.streaming import ordered_map
from segadapt.errors import RequestError
from segadapt.evaluation.inputs import Given, Inputs, find_inputs
from segadapt.evaluation.mosaic import plan_mosaics, predict_mosaics, with_rasters, without_place
from segadapt.evaluation.placing import IMAGE_KINDS, VIDEO_KINDS, Places, require_free, require_kinds, result_places
from segadapt.evaluation.predict_video import predict_videos, with_path
from segadapt.evaluation.results import Look, Prediction
from segadapt.evaluation.scoring import Progress, working_image
from segadapt.evaluation.tiling import View
from segadapt.evaluation.video import video_facts
from segadapt.labels import LabelSpace
from segadapt.models.inference import InferenceConfig, predict_labels
from segadapt.models.segmenter import Segmenter
from segadapt.pieces.images import to_batch


@dataclass(frozen=True)
class PredictionSummary:
    """The result of a prediction run.

    Attributes:
        count: images predicted.
        videos: videos predicted, and ``frames`` of them.
        skipped: one line for each image or video that could not be read, with its path and the reason.
        mosaics: one line for each image that was predicted in tiles, with their scale and its reason.
        cut: one line for each video that ended before the length that it claims.
        left_out: one line for each kind of thing in folders and patterns that was not taken.
        seconds: wall time.
        output: folder of the results.
    """

    count: int
    videos: int
    frames: int
    skipped: tuple[str, ...]
    mosaics: tuple[str, ...]
    cut: tuple[str, ...]
    left_out: tuple[str, ...]
    seconds: float
    output: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def predict_array(
    model: Segmenter,
    image: npt.NDArray[np.uint8],
    config: InferenceConfig | None = None,
    device: torch.device | str | None = None,
    *,
    size: Resize = None,
) -> Prediction:
    """Predict the labels and the confidence of one image.

    Args:
        model: the network; moved to ``device`` if one is given.
        image: [H, W, C] uint8 of any size, RGB or the bands of the network; the result has its size.
        config: how to predict; the whole image once if None.
        device: where to compute; where the model is if None.
        size: working size to which the image is brought first.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != model.bands or not image.size:
        what = "an RGB" if model.bands == 3 else "an"
        raise RequestError(
            f"an image must be {what} array [height, width, {model.bands}] of uint8, not {list(image.shape)} of "
            f"{image.dtype}"
        )
    config = config or InferenceConfig()
    if device is None:
        device = next(model.parameters()).device
    model.to(device)
    batch = to_batch(working_image(image, size, config), device)
    label, confidence = predict_labels(model, batch, (image.shape[0], image.shape[1]), config)
    return Prediction(label[0].cpu().numpy(), confidence[0].cpu().numpy())


def predict_path(
    model: Segmenter,
    space: LabelSpace,
    given: Given | Iterable[Given],
    output: Path,
    config: InferenceConfig | None = None,
    device: torch.device | str | None = None,
    *,
    size: Resize = None,
    reader: BandReader | None = None,
    ids: str = "train",
    overwrite: bool = False,
    kinds: Sequence[str] | None = None,
    unpainted: Sequence[str] = (),
    every: int = 1,
    made_by: Mapping[str, Any] | None = None,
    view: View | None = None,
    progress: Progress | None = None,
) -> PredictionSummary:
    """Predict images and videos: files, folders with their sub-folders, and patterns.

    ``a/b.jpg`` in the input folder gives, in ``output``, for each of ``kinds``:

    - index: ``a/b.png``, pixel value = class; see :mod:`segadapt.data.masks.mask_format`;
    - color: ``a/b_color.png``, the classes' colours as RGB;
    - overlay: ``a/b_overlay.jpg``, image and colours mixed;
    - confidence: ``a/b_confidence.png``, grey, 255 times the probability of the predicted class.

    All have the size of the image. A video ``a/b.mov`` gives the overlay as a video ``a/b_overlay.mp4`` of the same
    length, without sound, and other kinds as a picture for every frame in the folder ``a/b``, called by its number:
    ``a/b/000000.png``. Where two inputs would share a result (``b.jpg`` and ``b.png``), their results keep the input's
    suffix in the name (``b.jpg.png``, ``b.png.png``). ``legend.json`` says which class each value is; the index and
    colour files say so, too, for those who read them as masks.

    GeoTIFF and images of more than 134 million pixels are predicted in tiles, see :mod:`segadapt.evaluation.mosaic`.
    Where others give PNG files, they give ``.tif``, with the place on Earth of the image; their overlay is small.

    Args:
        model: the network; moved to ``device`` if one is given.
        space: its label space.
        given: what to predict, see :func:`segadapt.evaluation.inputs.find_inputs`. Results have the places of their
            inputs below the folder that holds all of them.
        output: folder for the results, made if needed. What lies in it is not predicted.
        config, device, size: see :func:`predict_array`.
        reader: reads image files, as :func:`segadapt.data.bands.reader_of` gives it for the model's ``input``; None
            for ordinary images.
        ids: ``train``; ``own`` for the ids or colours of the user's masks; or ``cityscapes`` for label ids as the
            Cityscapes server wants them.
        overwrite: replace results that exist; otherwise their presence is an error.
        kinds: kinds of results; None: index, overlay and confidence of images, the overlay of videos.
        unpainted: names of classes that overlays show without colour.
        every: of a video, predict each n-th frame only.
        made_by: provenance of the model, for the legend.
        view: how images that are predicted in tiles are shown; None brings them to ``size``, like any other.
        progress: called after every image, tile and frame with (done, total); the total of frames may be an estimate.

    Raises:
        RequestError: nothing to predict, results in the way, or not a single input readable.
        RunError: a result cannot be written.
    """
    started = time.monotonic()
    if kinds is not None:
        require_kinds(kinds)
    if len(space) != model.classes:
        raise RequestError(f"the model has {model.classes} classes, label space '{space.name}' has {len(space)}")
    look = Look(mask_format(space, ids), class_ids(space, unpainted))
    legend = look.masks.legend(made_by)
    inputs = find_inputs(given, output)
    _require_films(inputs.videos, model, every)
    image_kinds, video_kinds = kinds or IMAGE_KINDS, kinds or VIDEO_KINDS
    mosaics, damaged, plain = plan_mosaics(inputs.images, model, config, view, size, reader)
    places = with_rasters(result_places(inputs, output, image_kinds, video_kinds), mosaics)
    require_free((file for files in places.values() for file in files.values()), places, overwrite)
    require_legend_place(output, legend, overwrite)

    def predicted(image: Picture) -> Prediction:
        return predict_array(model, image, config, device, size=size)

    steps = _Steps(inputs, every, progress, sum(mosaic.tiles - 1 for mosaic in mosaics.values()))
    skipped = [*damaged.values(), *predict_mosaics(mosaics, places, look, steps.advance)]
    skipped += _predict_images(plain, places, reader or read_picture, predicted, look, steps.advance)
    count = len(inputs.images) - len(skipped)
    films, unreadable = predict_videos(
        inputs.videos, places, video_kinds, predicted, look, every=every, progress=steps.advance
    )
    skipped += unreadable
    if len(skipped) == len(inputs):
        raise RequestError(f"none of the {len(inputs)} files can be read; the first: {skipped[0]}")
    write_legend(output, legend, overwrite)
    return PredictionSummary(
        count=count,
        videos=len(films),
        frames=sum(film.frames for film in films),
        skipped=tuple(skipped),
        mosaics=tuple(map(str, mosaics.values())),
        cut=tuple(film.cut for film in films if film.cut),
        left_out=(*inputs.left_out, *without_place(plain)),
        seconds=round(time.monotonic() - started, 3),
        output=str(output),
    )


def class_ids(space: LabelSpace, named: Sequence[str]) -> frozenset[int]:
    """Return the train ids of classes; an entry is a name, an id of the user's masks, or several with commas between.

    Raises:
        RequestError: there is no such class.
    """
    found = set()
    for entry in named:
        for name in [entry] if entry in space.names else filter(None, map(str.strip, entry.split(","))):
            own = int(name) if name.isdecimal() and name not in space.names else None
            found.add(space.ids.index(own) if own in space.ids and own is not None else space.index(name))
    return frozenset(found)


def _require_films(videos: Sequence[Path], model: Segmenter, every: int) -> None:
    if every < 1:
        raise RequestError(f"of a video every n-th frame can be predicted, n from 1, not {every}")
    if videos and model.bands != 3:
        raise RequestError(f"'{videos[0]}' is a video, in red, green and blue; this model takes {model.bands} bands")


def _predict_images(
    paths: Sequence[Path],
    places: Places,
    read: Callable[[Path], Picture],
    predict: Callable[[Picture], Prediction],
    look: Look,
    progress: Callable[[], None],
) -> list[str]:
    """Predict images that fit into memory, and write their results; return a line for each that cannot be read."""

    def read_or_problem(path: Path) -> tuple[Path, Picture | DamagedFile]:
        try:
            return path, read(path)
        except DamagedFile as problem:
            return path, problem

    skipped = []
    for path, image in ordered_map(read_or_problem, paths, threads=1, ahead=1):
        if isinstance(image, DamagedFile):
            skipped.append(with_path(image, path))
        else:
            prediction = predict(image)
            for kind, file in places[path].items():
                write_bytes(file, look.encoded(kind, image, prediction))
        progress()
    return skipped


class _Steps:
    """Counts images and frames; the number of frames of a video is an estimate, or unknown."""

    def __init__(self, inputs: Inputs, every: int, progress: Progress | None, tiles: int):
        self._done, self._progress = 0, progress
        self._total = len(inputs.images) + tiles
        for path in inputs.videos if progress is not None else ():
            with contextlib.suppress(DamagedFile):  # said when it is predicted
                self._total += -(-(video_facts(path).frames or 0) // every)

    def advance(self) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, max(self._done, self._total))
