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
from segadapt.engine.together import Together
from segadapt.errors import RequestError
from segadapt.evaluation.inputs import Given, find_inputs
from segadapt.evaluation.mosaic import plan_mosaics, predict_mosaics, with_rasters, without_place
from segadapt.evaluation.placing import IMAGE_KINDS, VIDEO_KINDS, Places, require_free, require_kinds, result_places
from segadapt.evaluation.predict_video import Film, predict_videos, with_path
from segadapt.evaluation.predictor import Predicted, Predictor, predict_each
from segadapt.evaluation.results import Look, Prediction
from segadapt.evaluation.scoring import Progress
from segadapt.evaluation.tiling import View
from segadapt.evaluation.video import video_facts
from segadapt.labels import LabelSpace
from segadapt.models.inference import InferenceConfig
from segadapt.models.segmenter import Segmenter


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
    predictor = Predictor.of(model, config, device, size)
    return predictor.predicted(predictor.prepared(image), (image.shape[0], image.shape[1])).fetched()


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
    together: Together | None = None,
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
        together: processes that share the images and videos; the files and the summary are those of one process, and
            ``progress`` counts the share of each.

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

    together = together or Together()
    together.meet()  # nothing is written before all have looked for what is in the way
    predictor = Predictor.of(model, config, device, size)
    mine = {path: mosaics[path] for path in together.share([*mosaics])}
    images, videos = together.share(plain), together.share(inputs.videos)
    steps = _Steps(len(images) + sum(mosaic.tiles for mosaic in mine.values()), videos, every, progress, together)
    failed = predict_mosaics(mine, places, look, steps.advance)
    failed |= _predict_images(images, predictor, places, reader or read_picture, look, steps.advance)
    films, unreadable = predict_videos(
        videos, places, video_kinds, predictor, look, every=every, progress=steps.advance
    )
    failed, films = together.merged(failed | unreadable), together.merged(films)
    skipped = [*damaged.values(), *(failed[str(p)] for p in (*mosaics, *plain, *inputs.videos) if str(p) in failed)]
    if len(skipped) == len(inputs):
        raise RequestError(f"none of the {len(inputs)} files can be read; the first: {skipped[0]}")
    if together.main:
        write_legend(output, legend, overwrite)
    together.meet()
    made = [Film(*films[str(path)]) for path in inputs.videos if str(path) in films]
    return PredictionSummary(
        count=len(inputs.images) - len(skipped) + len(inputs.videos) - len(made),
        videos=len(made),
        frames=sum(film.frames for film in made),
        skipped=tuple(skipped),
        mosaics=tuple(map(str, mosaics.values())),
        cut=tuple(film.cut for film in made if film.cut),
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
    predictor: Predictor,
    places: Places,
    read: Callable[[Path], Picture],
    look: Look,
    progress: Callable[[], None],
) -> dict[str, str]:
    """Predict images that fit into memory, and write their results; return a line for each that cannot be read."""
    unreadable = {}

    def write(path: Path, image: Picture, made: Predicted) -> None:
        prediction = made.fetched()
        for kind, file in places[path].items():
            write_bytes(file, look.encoded(kind, image, prediction))

    def damaged(path: Path, problem: DamagedFile) -> None:
        unreadable[str(path)] = with_path(problem, path)

    predict_each(predictor, paths, read, write, damaged, progress)
    return unreadable


class _Steps:
    """Counts images, tiles and frames; the number of frames of a video is an estimate, or unknown.

    After each of them this process looks whether the others go on.
    """

    def __init__(
        self, known: int, videos: Sequence[Path], every: int, progress: Progress | None, together: Together
    ) -> None:
        self._done, self._total = 0, known
        self._progress, self._together = progress, together
        for path in videos if progress is not None else ():
            with contextlib.suppress(DamagedFile):  # said when it is predicted
                self._total += -(-(video_facts(path).frames or 0) // every)

    def advance(self) -> None:
        self._together.look()
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, max(self._done, self._total))
