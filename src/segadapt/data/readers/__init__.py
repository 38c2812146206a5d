"""The papers' data sets, read from their archives as downloaded."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from segadapt.core.registry import Registry
from segadapt.data.dataset import Dataset
from segadapt.data.readers.aerial import loveda, potsdam, vaihingen
from segadapt.data.readers.camvid import camvid
from segadapt.data.readers.real import acdc, bdd100k, cityscapes, dark_zurich, idd_lite, nthu
from segadapt.data.readers.space import to_space
from segadapt.data.readers.synthetic import gta5, synthia
from segadapt.errors import RequestError, nearest
from segadapt.labels import CAMVID, CITYSCAPES, IDD_LITE, ISPRS, LOVEDA, NTHU, LabelSpace

__all__ = ["READERS", "ReaderInfo", "open_dataset", "reader_info", "register_reader", "to_space"]

R = TypeVar("R", bound=Callable[..., Dataset])


@dataclass(frozen=True)
class ReaderInfo:
    """A reader and the data set that it reads.

    Attributes:
        read: ``read(root, split, labelled, **options) -> Dataset``.
        splits: split names; the first one is the default.
        space: label space of the labels.
        summary: one line for a list of readers.
        list_files: whether a list file ``<split>.txt`` in the root names further splits.
        published: images of each split as published, without the images that the reader leaves out.
    """

    read: Callable[..., Dataset]
    splits: tuple[str, ...]
    space: LabelSpace
    summary: str
    list_files: bool = False
    published: Mapping[str, int] = field(default_factory=dict)

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the reader's own options."""
        parameters = inspect.signature(self.read).parameters.values()
        return tuple(p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY)


_OWN: dict[str, ReaderInfo] = {
    "gta5": ReaderInfo(
        gta5, ("all",), CITYSCAPES, "GTA5, synthetic streets: images/, labels/", published={"all": 24964}
    ),
    "synthia": ReaderInfo(
        synthia, ("all",), CITYSCAPES, "SYNTHIA-RAND-CITYSCAPES: RGB/, GT/LABELS/", published={"all": 9400}
    ),
    "cityscapes": ReaderInfo(
        cityscapes,
        ("train", "val", "test"),
        CITYSCAPES,
        "Cityscapes, German streets by day: leftImg8bit/, gtFine/",
        published={"train": 2975, "val": 500, "test": 1525},
    ),
    "camvid": ReaderInfo(
        camvid, ("all", "train", "val", "test"), CAMVID, "CamVid, video of Cambridge: original or SegNet release", True
    ),
    "nthu": ReaderInfo(
        nthu,
        ("train", "test"),
        NTHU,
        "NTHU cross-city, streets of four cities: <City>/Images/, Labels/",
        published={"train": 3200, "test": 100},
    ),
    "bdd100k": ReaderInfo(
        bdd100k,
        ("train", "val", "test"),
        CITYSCAPES,
        "BDD100K, American streets: images/10k/, labels/sem_seg/masks/",
        published={"train": 7000, "val": 1000, "test": 2000},
    ),
    "dark_zurich": ReaderInfo(
        dark_zurich,
        ("train", "train_twilight", "train_day", "val", "test"),
        CITYSCAPES,
        "Dark Zurich, streets at night: rgb_anon/, gt/",
        published={"train": 2416, "train_twilight": 2920, "train_day": 3041, "val": 50, "test": 151},
    ),
    "acdc": ReaderInfo(
        acdc,
        ("train", "val", "test"),
        CITYSCAPES,
        "ACDC, fog, night, rain and snow: rgb_anon/, gt/",
        published={"train": 1600, "val": 406, "test": 2000},
    ),
    "idd_lite": ReaderInfo(
        idd_lite,
        ("train", "val"),
        IDD_LITE,
        "IDD-Lite, Indian streets, 7 classes: leftImg8bit/, gtFine/",
        published={"train": 1403, "val": 204},
    ),
    "loveda": ReaderInfo(
        loveda,
        ("train", "val", "test"),
        LOVEDA,
        "LoveDA, Chinese towns and land from the air: Train/Urban/images_png/, masks_png/",
        published={"train": 2522, "val": 1669, "test": 1796},
    ),
    "potsdam": ReaderInfo(
        potsdam,
        ("train", "test", "all"),
        ISPRS,
        "ISPRS Potsdam, a German town from the air: 2_Ortho_RGB/, 5_Labels_all/",
        published={"train": 24, "test": 14, "all": 38},
    ),
    "vaihingen": ReaderInfo(
        vaihingen,
        ("train", "test", "all"),
        ISPRS,
        "ISPRS Vaihingen, a German town from the air, infrared, red and green: top/, labels",
        published={"train": 16, "test": 17, "all": 33},
    ),
}


def _of_entry_point(name: str, found: Any) -> ReaderInfo:
    raise RequestError(
        f"reader '{name}': {found!r} did not register itself; decorate the function with "
        f"segadapt.data.register_reader('{name}', ...)"
    )


READERS: Registry[ReaderInfo] = Registry("reader", _OWN, "segadapt.readers", _of_entry_point)
"""All readers by name."""


def register_reader(
    name: str,
    *,
    space: LabelSpace,
    splits: tuple[str, ...] = ("all",),
    summary: str = "",
    published: Mapping[str, int] | None = None,
) -> Callable[[R], R]:
    """Make a function a reader that recipes know by ``name``.

    Args:
        name: as ``reader:`` in a recipe's data names it.
        space: label space of the labels.
        splits: names of the splits; the first one is the default.
        summary: one line for a list of readers.
        published: number of images of each split, to tell whether a download is complete.

    The function is called as ``read(root: Path, split: str, labelled: bool, **options)`` and returns a
    :class:`~segadapt.data.dataset.Dataset`. Its keyword-only parameters are the ``options`` of a recipe. Without
    ``labelled`` it must not form paths to labels.

    Raises:
        RequestError: the name is one of the library's own.

    Example:
        >>> from segadapt.labels import CITYSCAPES
        >>> @register_reader("mydata", space=CITYSCAPES, splits=("train", "val"))
        ... def read(root, split, labelled):
        ...     ...
        >>> READERS["mydata"].splits
        ('train', 'val')
    """

    def registered(function: R) -> R:
        info = ReaderInfo(function, splits, space, summary, published=dict(published or {}))
        READERS.register(name, info, function.__module__)
        return function

    return registered


def reader_info(reader: str) -> ReaderInfo:
    """Return a reader by name; RequestError naming the nearest one."""
    return READERS.find(reader, "; 'folder' reads plain folders")


def open_dataset(reader: str, root: Path, split: str = "", labelled: bool = True, **options: Any) -> Dataset:
    """Open a data set in its official layout.

    Args:
        reader: a key of :data:`READERS`.
        root: folder of the data set.
        split: one of the reader's splits; its first one if empty.
        labelled: whether labels are wanted. Without, nothing of the labels is looked for or
            opened, and their folders need not exist.
        options: of the reader, e.g. ``lane_marking="road"`` for SYNTHIA.

    Raises:
        RequestError: unknown reader, split or option; missing folder; no image; image without label.
    """
    info = reader_info(reader)
    split = split or info.splits[0]
    if split not in info.splits and not info.list_files:
        raise RequestError(
            f"{reader}: no split '{split}'{nearest(split, info.splits)}; there are: {', '.join(info.splits)}"
        )
    for option in options:
        if option not in info.options:
            known = f"it has: {', '.join(info.options)}" if info.options else "it has none"
            raise RequestError(f"{reader}: no option '{option}'{nearest(option, info.options)}; {known}")
    return info.read(Path(root).expanduser(), split, labelled, **options)
