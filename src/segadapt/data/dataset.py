"""A data set: a list of images, with or without labels, in one label space.

Reading goes through two functions only, :meth:`Dataset.image` and :meth:`Dataset.label`. A data
set without labels has no paths to label files at all, so nothing downstream can open one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from segadapt.errors import RequestError
from segadapt.labels import LabelMap, LabelSpace

Picture = npt.NDArray[np.uint8]
"""RGB image [H, W, 3], uint8."""


class DamagedFile(RequestError):
    """A file that cannot be decoded, or whose content does not fit its partner."""


@dataclass(frozen=True)
class Item:
    """One image and, where known, its label. ``id`` is unique within the data set."""

    id: str
    image: Path
    label: Path | None = None


@dataclass(frozen=True)
class Dataset:
    """Images [H, W, 3] uint8 RGB with label maps [H, W] uint8 in train ids of ``space``.

    Args:
        name: for messages and reports, e.g. ``gta5``.
        space: the label space of ``read_label``.
        items: sorted by id, so equal seeds give equal sequences on every disk.
        read_image: decodes an image file; raises DamagedFile.
        read_label: decodes a label file to train ids and IGNORE; raises DamagedFile.
    """

    name: str
    space: LabelSpace
    items: tuple[Item, ...]
    read_image: Callable[[Path], Picture]
    read_label: Callable[[Path], LabelMap]

    def __len__(self) -> int:
        return len(self.items)

    @property
    def labelled(self) -> bool:
        """Whether every item has a label file."""
        return bool(self.items) and all(item.label is not None for item in self.items)

    def image(self, index: int) -> Picture:
        """Decoded image of one item."""
        return self.read_image(self.items[index].image)

    def label(self, index: int) -> LabelMap:
        """Decoded label of one item; RequestError when the data set has no labels."""
        path = self.items[index].label
        if path is None:
            raise RequestError(f"{self.name}: '{self.items[index].id}' has no label")
        return self.read_label(path)

    def file_fingerprint(self, index: int) -> list[str | int]:
        """Return the id of one item and the sizes of its files in bytes."""
        item = self.items[index]
        return [item.id, *(path.stat().st_size for path in (item.image, item.label) if path is not None)]

    def unlabelled(self) -> Dataset:
        """The same images with every path to a label removed."""
        return replace(self, items=tuple(replace(item, label=None) for item in self.items))

    def subset(self, indices: Sequence[int]) -> Dataset:
        """The items at ``indices``, in that order."""
        return replace(self, items=tuple(self.items[i] for i in indices))
