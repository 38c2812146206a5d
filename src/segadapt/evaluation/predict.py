"""Predictions on image files: index PNG, colours, overlay and confidence."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
import torch

from segadapt.core.files import write_bytes
from segadapt.data.dataset import DamagedFile, Picture
from segadapt.data.decode import read_picture
from segadapt.data.gathering import Gathered, gather, what_else
from segadapt.data.listing import IMAGE_SUFFIXES
from segadapt.data.mask_format import MaskFormat, mask_format, require_legend_place, write_legend
from segadapt.data.overlay import blend
from segadapt.data.resize import Resize
from segadapt.data.streaming import ordered_map
from segadapt.data.writing import encode_index_png, encode_picture
from segadapt.errors import RequestError, nearest
from segadapt.evaluation.scoring import Progress, working_image
from segadapt.labels import IGNORE, LabelMap, LabelSpace
from segadapt.models.inference import InferenceConfig, predict_labels
from segadapt.models.segmenter import Segmenter
from segadapt.pieces.images import to_batch

Kind = Literal["index", "color", "overlay", "confidence"]
ENDINGS: dict[str, str] = {
    "index": ".png",
    "color": "_color.png",
    "overlay": "_overlay.jpg",
    "confidence": "_confidence.png",
}
JPEG_QUALITY = 90


@dataclass(frozen=True)
class PredictionSummary:
    """The result of a prediction run.

    Attributes:
        count: images predicted.
        skipped: one line for each image that could not be read, with its path and the reason.
        seconds: wall time.
        output: folder of the results.
        left_out: one line for each kind of file in the folder that was not taken for an image.
    """

    count: int
    skipped: tuple[str, ...]
    seconds: float
    output: str
    left_out: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**asdict(self), "skipped": list(self.skipped), "left_out": list(self.left_out)}


def predict_array(
    model: Segmenter,
    image: npt.NDArray[np.uint8],
    config: InferenceConfig | None = None,
    device: torch.device | str | None = None,
    *,
    size: Resize = None,
) -> tuple[LabelMap, npt.NDArray[np.float32]]:
    """Predict the label map [H, W] uint8 of train ids and the confidence [H, W] float32 in (0, 1] of one image.

    Args:
        model: the network; moved to ``device`` if one is given.
        image: RGB [H, W, 3] uint8 of any size; the result has its size.
        config: how to predict; the whole image once if None.
        device: where to compute; where the model is if None.
        size: working size to which the image is brought first.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise RequestError(
            f"an image must be an RGB array [height, width, 3] of uint8, not {list(image.shape)} of {image.dtype}"
        )
    config = config or InferenceConfig()
    if device is None:
        device = next(model.parameters()).device
    model.to(device)
    batch = to_batch(working_image(image, size, config), device)
    label, confidence = predict_labels(model, batch, (image.shape[0], image.shape[1]), config)
    return label[0].cpu().numpy(), confidence[0].cpu().numpy()


def predict_path(
    model: Segmenter,
    space: LabelSpace,
    given: Path,
    output: Path,
    config: InferenceConfig | None = None,
    device: torch.device | str | None = None,
    *,
    size: Resize = None,
    ids: str = "train",
    overwrite: bool = False,
    kinds: Sequence[str] = ("index", "overlay", "confidence"),
    made_by: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> PredictionSummary:
    """Predict an image file, or all images in a folder and its sub-folders.

    ``a/b.jpg`` in the input folder gives, in ``output``, for each of ``kinds``:

    - index: ``a/b.png``, pixel value = class; see :mod:`segadapt.data.mask_format`;
    - color: ``a/b_color.png``, the classes' colours as RGB;
    - overlay: ``a/b_overlay.jpg``, image and colours mixed;
    - confidence: ``a/b_confidence.png``, grey, 255 times the probability of the predicted class.

    Where two images would share a result (``b.jpg`` and ``b.png``), their results keep the image's suffix
    in the name (``b.jpg.png``, ``b.png.png``). All results have the size of the image. ``legend.json`` says which
    class each value is; the index and colour files say so, too, for those who read them as masks.

    Args:
        model: the network; moved to ``device`` if one is given.
        space: its label space.
        given: an image or a folder.
        output: folder for the results, made if needed. If it lies inside ``given``, its images
            are not predicted.
        config, device, size: see :func:`predict_array`.
        ids: ``train``; ``own`` for the ids or colours of the user's masks; or ``cityscapes`` for label ids as the
            Cityscapes server wants them.
        overwrite: replace results that exist; otherwise their presence is an error.
        kinds: kinds of results.
        made_by: provenance of the model, for the legend.
        progress: called after every image with (done, total).

    Raises:
        RequestError: nothing to predict, results in the way, or not a single image readable.
        RunError: a result cannot be written.
    """
    started = time.monotonic()
    _require_kinds(kinds)
    if len(space) != model.classes:
        raise RequestError(f"the model has {model.classes} classes, label space '{space.name}' has {len(space)}")
    masks = mask_format(space, ids)
    legend = masks.legend(made_by)
    images, notices = find_images(given, output)
    root = given.resolve() if given.is_dir() else images[0].parent
    targets = _result_files(images, root, output, kinds)
    require_free((file for files in targets.values() for file in files.values()), images, overwrite)
    require_legend_place(output, legend, overwrite)

    skipped: list[str] = []
    for done, (path, image) in enumerate(ordered_map(_read_or_problem, images, threads=1, ahead=1), start=1):
        if isinstance(image, DamagedFile):
            skipped.append(str(image) if str(path) in str(image) else f"{path}: {image}")
        else:
            label, confidence = predict_array(model, image, config, device, size=size)
            for kind, file in targets[path].items():
                write_bytes(file, _encoded(kind, image=image, label=label, confidence=confidence, masks=masks))
        if progress is not None:
            progress(done, len(images))
    if len(skipped) == len(images):
        raise RequestError(f"none of the {len(images)} images in '{given}' can be read; the first: {skipped[0]}")
    write_legend(output, legend, overwrite)
    return PredictionSummary(
        len(images) - len(skipped),
        tuple(skipped),
        round(time.monotonic() - started, 3),
        str(output),
        tuple(notice.text for notice in notices),
    )


def find_images(given: Path, output: Path | None = None) -> Gathered:
    """Find the image itself, or all images below a folder, sorted; without hidden files and without ``output``."""
    if given.is_file():
        if given.suffix.lower() not in IMAGE_SUFFIXES:
            raise RequestError(f"'{given}' is not an image file; known are {', '.join(IMAGE_SUFFIXES)}")
        return Gathered([given.resolve()], ())
    if not given.is_dir():
        raise RequestError(f"no image or folder '{given}'")
    if output is not None and output.resolve() == given.resolve():
        raise RequestError(f"results cannot go into the folder of the images '{given}'; name another output folder")
    found = gather(given.resolve(), leave_out=output.resolve() if output is not None else None)
    if not found.images:
        raise RequestError(
            f"no images in '{given}'; known suffixes are {', '.join(IMAGE_SUFFIXES)}{what_else(found.notices)}"
        )
    return found


def _result_files(
    images: Sequence[Path], root: Path, output: Path, kinds: Sequence[str]
) -> dict[Path, dict[str, Path]]:
    """Name the results of every image by kind; no two images share a file, also where case does not count."""

    def named(image: Path, base: str) -> dict[str, Path]:
        folder = output / image.parent.relative_to(root)
        return {kind: folder / (base + ENDINGS[kind]) for kind in dict.fromkeys(kinds)}

    plain = {image: named(image, image.stem) for image in images}
    uses = _uses(plain)
    results = {
        image: files if all(uses[_key(f)] == 1 for f in files.values()) else named(image, image.name)
        for image, files in plain.items()
    }
    shared = [name for name, count in _uses(results).items() if count > 1]
    if shared:
        raise RequestError(f"two images would both be predicted into '{shared[0]}'; rename one of them")
    return results


def _key(file: Path) -> str:
    return str(file).casefold()


def _uses(results: dict[Path, dict[str, Path]]) -> Counter[str]:
    return Counter(_key(file) for files in results.values() for file in files.values())


def _require_kinds(kinds: Sequence[str]) -> None:
    for kind in kinds:
        if kind not in ENDINGS:
            raise RequestError(f"unknown result '{kind}'{nearest(kind, ENDINGS)}; there are: {', '.join(ENDINGS)}")
    if not kinds:
        raise RequestError(f"no result asked for; there are: {', '.join(ENDINGS)}")


def require_free(results: Iterable[Path], images: Iterable[Path], overwrite: bool) -> None:
    """Raise RequestError if a result would replace an image, or an earlier result unless ``overwrite`` allows that."""
    sources = {image.resolve() for image in images}
    for file in results:
        if file.resolve() in sources:
            raise RequestError(f"the result '{file}' would replace an image; name another output folder")
        if file.exists() and not overwrite:
            raise RequestError(f"'{file}' exists; name another output folder, or allow overwriting (--overwrite)")


def _read_or_problem(path: Path) -> tuple[Path, Picture | DamagedFile]:
    try:
        return path, read_picture(path)
    except DamagedFile as problem:
        return path, problem


def _encoded(
    kind: str,
    *,
    image: Picture,
    label: LabelMap,
    confidence: npt.NDArray[np.float32],
    masks: MaskFormat,
) -> bytes:
    """Return the content of one result file."""
    if kind == "index":
        return masks.encode(label)
    if kind == "confidence":
        return encode_index_png(np.rint(np.clip(confidence, 0, 1) * IGNORE).astype(np.uint8))
    if kind == "color":
        return masks.encode_colors(label)
    return encode_picture(".jpg", blend(image, label, masks.space), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
