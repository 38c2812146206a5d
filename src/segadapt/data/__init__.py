"""Data sets in their official layouts, folders of pictures, data in memory, and augmentation.

Example:
    >>> from segadapt.data import Augmentation, Part, Stream, open_dataset
    >>> source = open_dataset("gta5", "/data/gta5")  # doctest: +SKIP
    >>> stream = Stream((Part(source, 0, augmentation=Augmentation(crop=(512, 512))),), batch_size=2)  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from segadapt.core.exports import on_demand

if TYPE_CHECKING:
    from segadapt.data.augmentations import register_augmentation
    from segadapt.data.convert import convert_labels
    from segadapt.data.dataset import Dataset, Item
    from segadapt.data.folder import open_folder
    from segadapt.data.loader import Feeder, Samples
    from segadapt.data.memory import in_memory
    from segadapt.data.readers import open_dataset, register_reader
    from segadapt.data.streams import Augmentation, Part, Stream

__all__ = [
    "Augmentation",
    "Dataset",
    "Feeder",
    "Item",
    "Part",
    "Samples",
    "Stream",
    "convert_labels",
    "in_memory",
    "open_dataset",
    "open_folder",
    "register_augmentation",
    "register_reader",
]

_MODULES = {
    "Augmentation": "streams",
    "Dataset": "dataset",
    "Feeder": "loader",
    "Item": "dataset",
    "Part": "streams",
    "Samples": "loader",
    "Stream": "streams",
    "convert_labels": "convert",
    "in_memory": "memory",
    "open_dataset": "readers",
    "open_folder": "folder",
    "register_augmentation": "augmentations",
    "register_reader": "readers",
}

if not TYPE_CHECKING:  # hidden from type checkers, so that they report a misspelt name
    __getattr__, __dir__ = on_demand(__name__, _MODULES)
