"""The readers of files that somebody else may have made, each with valid files and the damage that suits them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from segadapt.bench.fuzz import seeds
from segadapt.bench.fuzz.mutation import Mutation, damaged_bytes, damaged_json, damaged_model, damaged_text


@dataclass(frozen=True)
class Reader:
    """One reader and its input.

    Attributes:
        files: valid files by name.
        damage: by suffix, with ``""`` for all others.
        read: reads a file in a folder where nothing else of this reader lies; RequestError where it is refused.
        share: of all inputs, compared with other readers.
    """

    files: Callable[[], seeds.Files]
    damage: dict[str, Mutation]
    read: Callable[[Path], object]
    share: float = 1.0


def _image(path: Path) -> None:
    from segadapt.data.decode import picture_size, read_picture
    from segadapt.data.files.stored import stored
    from segadapt.data.masks.mask_storage import storage_of
    from segadapt.data.masks.stamp import read_stamp
    from segadapt.errors import RequestError

    for told in (stored, storage_of, read_stamp):  # None for damaged files
        told(path)
    try:
        size = picture_size(path)
    except RequestError:
        size = None
    picture = read_picture(path)
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[:2] != size:
        raise AssertionError(f"a picture {picture.shape} of {picture.dtype}, the header says {size}")


def _folder(path: Path) -> Path:
    """Return a folder beside a file with the one image to which it belongs."""
    folder = path.parent / "images"
    seeds.put(folder, {"a.png": seeds.images()["rgb.png"]})
    return folder


def _mask(path: Path) -> None:
    from segadapt.data.folder import open_folder

    images = _folder(path)
    masks = path.parent / "masks"
    masks.mkdir()
    path.rename(masks / f"a{path.suffix}")
    label = open_folder(images, masks).label(0)
    if label.dtype != np.uint8 or label.ndim != 2:
        raise AssertionError(f"a label map {label.shape} of {label.dtype}")


def _classes(path: Path) -> None:
    from segadapt.data.masks.classes_file import read_classes, space_of

    space_of("own", read_classes(path, "source"))


def _annotations(path: Path) -> None:
    from segadapt.data.folder import open_folder

    open_folder(_folder(path), path).label(0)


def _recipe(path: Path) -> None:
    from segadapt.recipes import stages_of
    from segadapt.runs.config import resolve

    stages_of(path)
    resolve(str(path))


def _split(path: Path) -> None:
    from segadapt.data.folder import open_folder
    from segadapt.errors import RequestError
    from segadapt.evaluation.inputs import listed

    with suppress(RequestError):
        listed(path)
    open_folder(_folder(path), list_file=path)


def _model(path: Path) -> None:
    from segadapt.data.bands import reader_of
    from segadapt.models.store import load_model, model_head

    model_head(path)
    loaded = load_model(path)
    reader_of(loaded.input)
    if loaded.working_size is not None:
        str(loaded.working_size)


def _checkpoint(path: Path) -> None:
    from segadapt.errors import RequestError
    from segadapt.models.importing import import_checkpoint
    from segadapt.models.unpacking import unpack

    unpack(path)
    with suppress(RequestError):  # the tensors are those of no network
        import_checkpoint(path)


def _run_file(path: Path) -> None:
    from segadapt.report.reading import read_run
    from segadapt.runs.results import find_model

    run = path.parent.parent if path.parent.name == "pictures" else path.parent
    seeds.put(run, {name: content for name, content in seeds.run_files().items() if not (run / name).exists()})
    _report(run)
    read_run(run)
    find_model(run)


def _report(run: Path) -> None:
    from segadapt.report.pictures import picture_index, read_album

    picture_index(run / "pictures")
    read_album(run / "pictures")


def _run_checkpoint(path: Path) -> None:
    from segadapt.engine.checkpoint import load_checkpoint, newest_checkpoint

    folder = path.parent
    seeds.put(folder, {n: content for n, content in seeds.run_checkpoints().items() if not (folder / n).exists()})
    newest_checkpoint(folder)
    load_checkpoint(folder, warn=lambda line: None)


def _video(path: Path) -> None:
    from segadapt.evaluation.video import read_frames, video_facts

    video_facts(path)
    for _ in islice(read_frames(path), 6):
        pass


READERS: dict[str, Reader] = {
    "images": Reader(seeds.images, {"": damaged_bytes}, _image, 2.0),
    "masks": Reader(seeds.masks, {"": damaged_bytes}, _mask),
    "classes files": Reader(seeds.classes, {".json": damaged_json, "": damaged_text}, _classes, 2.0),
    "annotations": Reader(seeds.annotated, {".json": damaged_json, "": damaged_text}, _annotations),
    "recipes": Reader(seeds.recipes, {"": damaged_text}, _recipe),
    "lists": Reader(seeds.lists, {"": damaged_text}, _split, 0.5),
    "model files": Reader(seeds.models, {"": damaged_model}, _model),
    "checkpoints": Reader(seeds.checkpoints, {".safetensors": damaged_model, "": damaged_bytes}, _checkpoint),
    "run folders": Reader(seeds.run_files, {".json": damaged_json, "": damaged_text}, _run_file),
    "checkpoints of runs": Reader(
        seeds.run_checkpoints, {".json": damaged_json, "": damaged_bytes}, _run_checkpoint, 0.5
    ),
    "videos": Reader(seeds.videos, {"": damaged_bytes}, _video, 0.5),
}
"""Readers by their name in the table."""
