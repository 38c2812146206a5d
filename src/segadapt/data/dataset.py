"""A data set: a list of images, with or without labels, in one label space.

Reading goes through two functions only, :meth:`Dataset.image` and :meth:`Dataset.label`. A data set without labels has
no paths to label files at all, so nothing downstream can open one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from segadapt.core.content import content_key
from segadapt.errors import RequestError
from segadapt.labels import IGNORE, LabelMap, LabelSpace

Picture = npt.NDArray[np.uint8]
"""Image [H, W, C], uint8: RGB, or the C bands of its data set."""


class DamagedFile(RequestError):
    """A file that cannot be decoded, or whose content does not fit its partner."""


@dataclass(frozen=True)
class Held:
    """The place of an image or label in memory, where other data sets have a path; see :mod:`segadapt.data.memory`.

    Args:
        name: of the collection that holds it, for messages.
        index: of the element.
        collection: number of the collection; no two collections of a process share one.
    """

    name: str
    index: int
    collection: int = 0

    def __str__(self) -> str:
        return f"{self.name}[{self.index}]"


@dataclass(frozen=True)
class Drawn:
    """The place of a label that is drawn from annotations, where other data sets have a file.

    Args:
        image: file of the image, whose size the label has.
        file: the annotation file, for messages.
        digest: of what the file says about this image.
    """

    image: Path
    file: Path
    digest: str

    def __str__(self) -> str:
        return f"{self.file} (annotations of {self.image.name})"


@dataclass(frozen=True)
class Item:
    """One image and, where known, its label. ``id`` is unique within the data set."""

    id: str
    image: Path | Held
    label: Path | Held | Drawn | None = None

    @property
    def files(self) -> list[Path]:
        """The image file and the label file, as far as they are files and known."""
        return [place for place in (self.image, self.label) if isinstance(place, Path)]


class Notice(NamedTuple):
    """Tells a person something about a data set beside its images.

    Attributes:
        text: one line, e.g. what lies in its folder and is not read.
        dubious: whether it may well not be meant; then a run asks before it goes on.
    """

    text: str
    dubious: bool = False


@dataclass(frozen=True)
class Dataset:
    """Images [H, W, C] uint8, RGB unless it says otherwise, with label maps [H, W] uint8 in train ids of ``space``.

    Args:
        name: for messages and reports, e.g. ``gta5``.
        space: the label space of ``read_label``.
        items: sorted by id, so equal seeds give equal sequences on every disk.
        read_image: decodes the image at ``Item.image``; raises DamagedFile.
        read_label: decodes the label at ``Item.label`` to train ids and IGNORE; raises DamagedFile.
        notices: what somebody who uses the data set should be told, e.g. what opening it left out.
        bands: number C of bands of every image.
        read_valid: reads where the image at ``Item.image`` has data, [H, W] bool, or None for everywhere; labels are
            IGNORE elsewhere. None where all images have data everywhere.
    """

    name: str
    space: LabelSpace
    items: tuple[Item, ...]
    read_image: Callable[[Any], Picture]
    read_label: Callable[[Any], LabelMap]
    notices: tuple[Notice, ...] = ()
    bands: int = 3
    read_valid: Callable[[Any], npt.NDArray[np.bool_] | None] | None = None

    def __len__(self) -> int:
        return len(self.items)

    @property
    def labelled(self) -> bool:
        """Whether every item has a label."""
        return bool(self.items) and all(item.label is not None for item in self.items)

    def image(self, index: int) -> Picture:
        """Decode the image of one item."""
        return self.read_image(self.items[index].image)

    def label(self, index: int) -> LabelMap:
        """Decode the label of one item, IGNORE where its image has no data; RequestError when it has none."""
        place = self.items[index].label
        if place is None:
            raise RequestError(f"{self.name}: '{self.items[index].id}' has no label")
        label = self.read_label(place)
        valid = self.read_valid(self.items[index].image) if self.read_valid is not None else None
        if valid is None or valid.all():
            return label
        if valid.shape != label.shape:  # of a pseudo label, which has the working size
            small = cv2.resize(valid.astype(np.uint8), label.shape[::-1], interpolation=cv2.INTER_NEAREST)
            valid = np.asarray(small, bool)
        return np.where(valid, label, IGNORE).astype(np.uint8)

    def file_fingerprint(self, index: int) -> list[str | int]:
        """Return the id of one item with a key of the content of its files, or a hash of its pixels in memory.

        A label that is drawn counts by what it is drawn from.
        """
        item = self.items[index]
        if not isinstance(item.image, Held):
            drawn = [item.label.digest] if isinstance(item.label, Drawn) else []
            return [item.id, *(content_key(path, times=False) for path in item.files), *drawn]
        digest = hashlib.sha256()
        for array in (self.image(index), *(() if item.label is None else (self.label(index),))):
            digest.update(f"{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return [item.id, digest.hexdigest()[:16]]

    def fingerprints(self) -> list[list[str | int]]:
        """Return :meth:`file_fingerprint` of all items; files are read in threads."""
        if any(isinstance(item.image, Held) for item in self.items):
            return [self.file_fingerprint(index) for index in range(len(self))]
        with ThreadPoolExecutor(8) as pool:  # the time goes into waiting for the disk
            return list(pool.map(self.file_fingerprint, range(len(self))))

    def unlabelled(self) -> Dataset:
        """Return the same images without any label."""
        return replace(self, items=tuple(replace(item, label=None) for item in self.items))

    def subset(self, indices: Sequence[int]) -> Dataset:
        """Return the items at ``indices``, in that order."""
        return replace(self, items=tuple(self.items[i] for i in indices))
