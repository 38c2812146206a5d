"""Class statistics of labelled data sets, computed on first use and kept by content.

A kept result is found again when the data set has the same images, the same label files (size and
time of change) and labels them alike, wherever the data lie. Anything else computes anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from segadapt.data.dataset import Dataset
from segadapt.data.labelling import label_key
from segadapt.data.streaming import ordered_map
from segadapt.errors import RequestError
from segadapt.labels import LabelMap

_VERSION = 1
Progress = Callable[[int, int], None]
"""Called with the number of images done and of all."""


@dataclass(frozen=True)
class ClassStatistics:
    """How often classes occur in a data set of N images and K classes.

    Attributes:
        names: the K class names.
        ids: the N item ids.
        counts: [N, K] pixels of each class in each image.
        pixels: [N] pixels of each image, ignored ones included.
    """

    names: tuple[str, ...]
    ids: tuple[str, ...]
    counts: npt.NDArray[np.int64]
    pixels: npt.NDArray[np.int64]

    @property
    def fractions(self) -> npt.NDArray[np.float64]:
        """[N, K] share of each class in the pixels of each image; ignored pixels make rows sum to less than 1."""
        return np.asarray(self.counts / np.maximum(self.pixels, 1)[:, None], np.float64)

    @property
    def frequencies(self) -> npt.NDArray[np.float64]:
        """[K] share of each class in all labelled pixels (0 where nothing is labelled)."""
        total = self.counts.sum(0)
        return np.asarray(total / max(int(total.sum()), 1), np.float64)

    @property
    def images_per_class(self) -> npt.NDArray[np.int64]:
        """[K] number of images in which a class occurs."""
        return np.asarray(np.count_nonzero(self.counts, axis=0), np.int64)

    def images_with(self, train_id: int, more_than: int = 0) -> npt.NDArray[np.int64]:
        """Indices of the images with more than ``more_than`` pixels of a class."""
        return np.flatnonzero(self.counts[:, train_id] > more_than)


def content_key(dataset: Dataset, **settings: Any) -> str | None:
    """A hash of what the statistics of a data set depend on; None when its labelling cannot be told apart.

    It covers the class names, how label files are read, and for each item its id and the size and
    time of change of its label file; not the place of the files, nor the images.
    """
    reading = label_key(dataset.read_label)
    if reading is None:
        return None
    head = [_VERSION, dataset.space.names, reading, sorted(settings.items())]
    digest = hashlib.sha256(json.dumps(head).encode())
    for item in dataset.items:
        if item.label is None:
            raise RequestError(f"{dataset.name}: '{item.id}' has no label, so there are no class statistics")
        try:
            stat = item.label.stat()
        except OSError as problem:
            raise RequestError(f"{dataset.name}: label {item.label} cannot be read: {problem.strerror}") from None
        digest.update(f"{item.id}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:32]


def class_statistics(
    dataset: Dataset, cache: Path | None = None, progress: Progress | None = None, threads: int | None = None
) -> ClassStatistics:
    """Pixel counts of every class in every image, at the size of the label files.

    Args:
        dataset: labelled.
        cache: folder for results; None computes every time and writes nothing.
        progress: told after each image.
        threads: decoding threads.
    """
    file = _cache_file(dataset, cache, "classes")
    ids = tuple(item.id for item in dataset.items)
    kept = _load(file)
    if kept is not None and kept["counts"].shape == (len(dataset), len(dataset.space)):
        return ClassStatistics(dataset.space.names, ids, kept["counts"], kept["pixels"])
    classes = len(dataset.space)
    counts = np.zeros((len(dataset), classes), np.int64)
    pixels = np.zeros(len(dataset), np.int64)

    def count(index: int) -> tuple[npt.NDArray[np.int64], int]:
        label = dataset.label(index)
        return count_classes(label, classes), label.size

    for index, (row, size) in enumerate(ordered_map(count, range(len(dataset)), threads)):
        counts[index], pixels[index] = row, size
        if progress:
            progress(index + 1, len(dataset))
    _save(file, counts=counts, pixels=pixels)
    return ClassStatistics(dataset.space.names, ids, counts, pixels)


def count_classes(label: LabelMap, classes: int) -> npt.NDArray[np.int64]:
    """[K] pixels of each class in a label map."""
    return np.bincount(label.ravel(), minlength=classes)[:classes].astype(np.int64)


def spatial_frequencies(
    dataset: Dataset,
    height: int,
    width: int,
    cache: Path | None = None,
    progress: Progress | None = None,
    threads: int | None = None,
) -> npt.NDArray[np.float32]:
    """How often each class lies at each place of the image.

    Labels are brought to ``height`` x ``width`` (nearest) and counted pixel by pixel; the counts
    are divided by the number of images. Smoothing is left to
    :func:`segadapt.pieces.spatial_prior.spatial_prior`.

    Args:
        dataset: labelled.
        height, width: size of the maps in pixels.
        cache, progress, threads: as for :func:`class_statistics`.

    Returns:
        [K, height, width] float32 shares in 0 .. 1.
    """
    file = _cache_file(dataset, cache, "places", height=height, width=width)
    kept = _load(file)
    classes = len(dataset.space)
    if kept is not None and kept["counts"].shape == (classes, height, width):
        counts = kept["counts"]
    else:
        counts = _count_places(dataset, height, width, progress, threads)
        _save(file, counts=counts)
    return np.asarray(counts.astype(np.float32) / max(len(dataset), 1), np.float32)


def _count_places(
    dataset: Dataset, height: int, width: int, progress: Progress | None, threads: int | None
) -> npt.NDArray[np.uint32]:
    classes = len(dataset.space)
    counts = np.zeros((classes, height * width), np.uint32)
    places = np.arange(height * width)

    def resized(index: int) -> LabelMap:
        label = dataset.label(index)
        return np.asarray(cv2.resize(label, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8).ravel()

    for index, label in enumerate(ordered_map(resized, range(len(dataset)), threads)):
        known = label < classes
        counts[label[known], places[known]] += 1
        if progress:
            progress(index + 1, len(dataset))
    return counts.reshape(classes, height, width)


def _cache_file(dataset: Dataset, cache: Path | None, kind: str, **settings: Any) -> Path | None:
    key = content_key(dataset, kind=kind, **settings)
    return None if cache is None or key is None else cache / f"{kind}_{key}.npz"


def _load(file: Path | None) -> dict[str, npt.NDArray[Any]] | None:
    """Arrays of a cache file; None when there is none or it is damaged (it is then computed anew)."""
    if file is None or not file.is_file():
        return None
    with (
        suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile),
        np.load(file, allow_pickle=False) as arrays,
    ):
        return {name: arrays[name] for name in arrays.files}
    return None


def _save(file: Path | None, **arrays: Any) -> None:
    """Write atomically; several processes may compute and write the same file."""
    if file is None:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f"{file.stem}.{os.getpid()}.partial")
    with partial.open("wb") as out:
        np.savez(out, **arrays)
    partial.replace(file)
