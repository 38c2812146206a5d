"""Class statistics of labelled data sets, computed on first use and kept by content.

A kept result is found again when the data set has the same items by name, the same label files (by
:mod:`segadapt.core.content`) and reads them alike, wherever the data lie; the images do not matter. The processes of a
run count a part each.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from segadapt.core.content import content_keys
from segadapt.core.files import replace_file
from segadapt.data.bands import reader_in
from segadapt.data.dataset import DamagedFile, Dataset, Drawn, Held
from segadapt.data.masks.labelling import label_key
from segadapt.data.sharing import add_up, exchanged, own_items
from segadapt.data.streaming import ordered_map
from segadapt.errors import RequestError, RunError
from segadapt.labels import LabelMap

_VERSION = 2
Progress = Callable[[int, int], None]
"""Called with (done, total) after each image."""
Skip = Callable[[DamagedFile], None]
"""Called with every label that cannot be read; it then counts as without labelled pixels."""
R = TypeVar("R")


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


def labels_key(dataset: Dataset, **settings: Any) -> str | None:
    """Return a hash of all that the statistics of a data set depend on.

    None where nothing tells whether a label map is still the same: labels in memory, or read by an unknown function.

    It covers the class names, how label files are read, and for each item its id and the content of its label file, or
    what its label is drawn from; not the place of the files, nor the images, unless labels are ignored where images
    have no data.
    """
    reading = label_key(dataset.read_label)
    if reading is None:
        return None
    head = [_VERSION, dataset.space.names, reading, sorted(settings.items())]
    reader = reader_in(dataset)
    if reader is not None:
        head += [reader.key, [dataset.file_fingerprint(index) for index in range(len(dataset))]]
    digest = hashlib.sha256(json.dumps(head).encode())
    keys = iter(content_keys(item.label for item in dataset.items if isinstance(item.label, Path)))
    for item in dataset.items:
        if item.label is None:
            raise RequestError(f"{dataset.name}: '{item.id}' has no label, so there are no class statistics")
        if isinstance(item.label, Held):
            return None
        digest.update(f"{item.id}\0{item.label.digest if isinstance(item.label, Drawn) else next(keys)}\n".encode())
    return digest.hexdigest()[:32]


def class_statistics(
    dataset: Dataset,
    cache: Path | None = None,
    progress: Progress | None = None,
    threads: int | None = None,
    damaged: Skip | None = None,
) -> ClassStatistics:
    """Count the pixels of every class in every image, at the size of the label files.

    Args:
        dataset: labelled.
        cache: folder for results; None computes every time and writes nothing.
        progress: told after each image.
        threads: decoding threads.
        damaged: see :data:`Skip`; not called for a result from the cache. None raises DamagedFile.
    """
    file = _cache_file(dataset, cache, "classes", damaged)
    ids = tuple(item.id for item in dataset.items)
    kept = _kept(file, (len(dataset), len(dataset.space)))
    if kept is not None:
        return ClassStatistics(dataset.space.names, ids, kept["counts"], kept["pixels"])
    classes = len(dataset.space)
    counts = np.zeros((len(dataset), classes), np.int64)
    pixels = np.zeros(len(dataset), np.int64)

    def count(label: LabelMap) -> tuple[npt.NDArray[np.int64], int]:
        return count_classes(label, classes), label.size

    for index, (row, size) in _each_label(dataset, count, progress, threads, damaged):
        counts[index], pixels[index] = row, size
    table = np.column_stack([counts, pixels])
    add_up(table)
    counts, pixels = table[:, :-1], table[:, -1]
    _save(file, counts=counts, pixels=pixels)
    return ClassStatistics(dataset.space.names, ids, counts, pixels)


def count_classes(label: LabelMap, classes: int) -> npt.NDArray[np.int64]:
    """Count the pixels [K] of each class in a label map."""
    return np.bincount(label.ravel(), minlength=classes)[:classes].astype(np.int64)


def spatial_frequencies(
    dataset: Dataset,
    height: int,
    width: int,
    cache: Path | None = None,
    progress: Progress | None = None,
    threads: int | None = None,
    damaged: Skip | None = None,
) -> npt.NDArray[np.float32]:
    """Count how often each class lies at each place of the image.

    Labels are brought to ``height`` x ``width`` (nearest) and counted pixel by pixel; the counts
    are divided by the number of images. Smoothing is left to
    :func:`segadapt.pieces.priors.spatial_prior`.

    Args:
        dataset: labelled.
        height, width: size of the maps in pixels.
        cache, progress, threads, damaged: as for :func:`class_statistics`.

    Returns:
        [K, height, width] float32 shares in 0 .. 1.
    """
    file = _cache_file(dataset, cache, "places", damaged, height=height, width=width)
    classes = len(dataset.space)
    kept = _kept(file, (classes, height, width))
    if kept is not None:
        counts = kept["counts"]
    else:
        counts = _count_places(dataset, height, width, progress, threads, damaged)
        _save(file, counts=counts)
    return np.asarray(counts.astype(np.float32) / max(len(dataset), 1), np.float32)


def _count_places(
    dataset: Dataset, height: int, width: int, progress: Progress | None, threads: int | None, damaged: Skip | None
) -> npt.NDArray[np.uint32]:
    classes = len(dataset.space)
    counts = np.zeros((classes, height * width), np.uint32)
    places = np.arange(height * width)

    def resized(label: LabelMap) -> LabelMap:
        return np.asarray(cv2.resize(label, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8).ravel()

    for _, label in _each_label(dataset, resized, progress, threads, damaged):
        known = label < classes
        counts[label[known], places[known]] += 1
    add_up(counts)
    return counts.reshape(classes, height, width)


def _each_label(
    dataset: Dataset,
    work: Callable[[LabelMap], R],
    progress: Progress | None,
    threads: int | None,
    damaged: Skip | None,
) -> Iterator[tuple[int, R]]:
    """Yield the index and ``work`` of every label of this process's part, in order.

    ``damaged`` is told of the labels of all parts that cannot be read. Other problems, and these where nobody is told,
    are raised in all processes.
    """
    part, problems = own_items(len(dataset)), list[RequestError]()

    def done(index: int) -> R | RequestError:
        try:
            return work(dataset.label(index))
        except RequestError as problem:
            return problem

    def fatal(problem: RequestError) -> bool:
        return damaged is None or not isinstance(problem, DamagedFile)

    for number, (index, result) in enumerate(zip(part, ordered_map(done, part, threads), strict=False)):
        if not isinstance(result, RequestError):
            yield index, result
        else:
            problems.append(result)
            if fatal(result):
                break
        if progress:
            progress(number + 1, len(part))
    for problem in exchanged(problems):
        if damaged is None or not isinstance(problem, DamagedFile):
            raise problem
        damaged(problem)


def _cache_file(dataset: Dataset, cache: Path | None, kind: str, damaged: Skip | None, **settings: Any) -> Path | None:
    """Return the file of a result; results that may lack damaged labels have files of their own."""
    key = labels_key(dataset, kind=kind, **settings, **({} if damaged is None else {"skip_damaged": True}))
    return None if cache is None or key is None else cache / f"{kind}_{key}.npz"


def _kept(file: Path | None, shape: tuple[int, ...]) -> dict[str, npt.NDArray[Any]] | None:
    """Return a kept result with counts of a shape; None unless all processes have it, so that all do the same."""
    found = _load(file)
    there = found is not None and "counts" in found and found["counts"].shape == shape
    return found if all(exchanged([there])) else None


def _load(file: Path | None) -> dict[str, npt.NDArray[Any]] | None:
    """Return the arrays of a cache file; None when it is missing or damaged (the result is then computed again)."""
    if file is None or not file.is_file():
        return None
    with (
        suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile),
        np.load(file, allow_pickle=False) as arrays,
    ):
        return {name: arrays[name] for name in arrays.files}
    return None
    return None


def _save(file: Path | None, **arrays: Any) -> None:
    """Keep a result, if it can be kept; several processes may compute and write the same file."""
    if file is None:
        return
    with suppress(RunError):  # it can be computed again
        replace_file(file, lambda out: np.savez(out, **arrays))
