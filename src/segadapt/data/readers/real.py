"""Cityscapes, NTHU cross-city, BDD100K, Dark Zurich, ACDC and IDD-Lite, as downloaded."""

from __future__ import annotations

from pathlib import Path

from segadapt.data.dataset import Dataset
from segadapt.data.folders.listing import build, by_id, files_in, folder_in
from segadapt.data.ids import CITYSCAPES_LABEL_IDS, CITYSCAPES_TRAIN_ID, NTHU_TRAIN_ID, train_ids, with_ignored
from segadapt.data.masks.labelling import IndexLabels
from segadapt.errors import RequestError, nearest
from segadapt.labels import CITYSCAPES, IDD_LITE, NTHU

_LABEL_IDS = IndexLabels(with_ignored(CITYSCAPES_TRAIN_ID, CITYSCAPES_LABEL_IDS), "Cityscapes label ids")
_TRAIN_IDS = IndexLabels(with_ignored(train_ids(CITYSCAPES)), "Cityscapes train ids")
_NTHU_IDS = IndexLabels(with_ignored(NTHU_TRAIN_ID, CITYSCAPES_LABEL_IDS), "Cityscapes label ids")
_IDD_LITE_IDS = IndexLabels(with_ignored(train_ids(IDD_LITE)), "IDD-Lite classes (0 to 6, 255 for none)")
_ANON = "_rgb_anon.png"
_WEATHERS = ("fog", "night", "rain", "snow")


def cityscapes(root: Path, split: str, labelled: bool = True) -> Dataset:
    """Open Cityscapes (Cordts et al., 2016): ``leftImg8bit/<split>/<city>`` and ``gtFine/<split>/<city>``.

    Labels are the ``_labelIds`` files of the release, or ``_labelTrainIds`` files where a folder
    has no others.

    Args:
        root: folder with ``leftImg8bit`` (and ``gtFine``).
        split: ``train`` (2975), ``val`` (500) or ``test`` (1525, no labels).
        labelled: whether labels are wanted; otherwise ``gtFine`` is not touched.
    """
    _no_test_labels("cityscapes", split, labelled)
    ending = "_leftImg8bit.png"
    folder = folder_in(root, "leftImg8bit", split, who="cityscapes", hint="unpack leftImg8bit_trainvaltest there")
    images = by_id(files_in(folder, [ending], "cityscapes"), "cityscapes", ending)
    if not labelled:
        return build("cityscapes", CITYSCAPES, images, None, _LABEL_IDS)
    labels = folder_in(root, "gtFine", split, who="cityscapes", hint="unpack gtFine_trainvaltest there")

    def label_of(name: str, image: Path, kind: str = "labelIds") -> Path:
        return labels / image.parent.relative_to(folder) / f"{name}_gtFine_{kind}.png"

    first = min(images)
    only_train_ids = (
        not label_of(first, images[first]).is_file() and label_of(first, images[first], "labelTrainIds").is_file()
    )
    if only_train_ids:
        return build("cityscapes", CITYSCAPES, images, lambda i, p: label_of(i, p, "labelTrainIds"), _TRAIN_IDS)
    return build("cityscapes", CITYSCAPES, images, label_of, _LABEL_IDS)


def nthu(root: Path, split: str, labelled: bool = True, *, city: str = "") -> Dataset:
    """Open NTHU cross-city (Chen et al., 2017): ``<City>/Images/{Train,Test}`` and ``<City>/Labels/Test``.

    Args:
        root: folder of the four cities, or of one city.
        split: ``train`` (3200, no labels) or ``test`` (100).
        labelled: whether labels are wanted; otherwise ``Labels`` is not touched.
        city: Rome, Rio, Tokyo or Taipei; may be left out when ``root`` is the folder of a city.
    """
    if labelled and split == "train":
        raise RequestError("nthu: the train split has no labels; use split 'test', or open it without labels")
    if not city and not (root / "Images").is_dir():
        cities = sorted(p.parent.name for p in root.glob("*/Images")) if root.is_dir() else []
        raise RequestError(f"nthu: the option 'city' is needed; {root} has: {', '.join(cities) or 'no city'}")
    home, part = root / city if city else root, "Train" if split == "train" else "Test"
    folder = folder_in(home, "Images", part, who="nthu")
    images = by_id(files_in(folder, [".png", ".jpg"], "nthu"), "nthu")
    if not labelled:
        return build("nthu", NTHU, images, None, _NTHU_IDS)
    labels = folder_in(home, "Labels", part, who="nthu")
    return build("nthu", NTHU, images, lambda i, _: labels / f"{i}_eval.png", _NTHU_IDS)


def bdd100k(root: Path, split: str, labelled: bool = True) -> Dataset:
    """Open BDD100K semantic segmentation (Yu et al., 2020): 7000, 1000 and 2000 images.

    ``images/10k/<split>`` with ``labels/sem_seg/masks/<split>``, or ``seg/images/<split>`` with
    ``seg/labels/<split>/*_train_id.png`` of the first release. Labels are train ids.

    Args:
        root: folder with ``images`` or ``seg``.
        split: ``train``, ``val`` or ``test`` (no labels).
        labelled: whether labels are wanted; otherwise no label folder is touched.
    """
    _no_test_labels("bdd100k", split, labelled)
    old = (root / "seg" / "images").is_dir()
    folder = folder_in(root, *(("seg", "images") if old else ("images", "10k")), split, who="bdd100k")
    images = by_id(files_in(folder, [".jpg"], "bdd100k"), "bdd100k")
    if not labelled:
        return build("bdd100k", CITYSCAPES, images, None, _TRAIN_IDS)
    labels = folder_in(root, *(("seg", "labels") if old else ("labels", "sem_seg", "masks")), split, who="bdd100k")
    ending = "_train_id.png" if old else ".png"
    return build("bdd100k", CITYSCAPES, images, lambda i, _: labels / f"{i}{ending}", _TRAIN_IDS)


def dark_zurich(root: Path, split: str, labelled: bool = True) -> Dataset:
    """Open Dark Zurich (Sakaridis et al., 2019): ``rgb_anon/<split>/<time>`` and ``gt/val/night``.

    Args:
        root: folder with ``rgb_anon`` (and ``gt``).
        split: ``train`` (2416 night images), ``train_twilight``, ``train_day``, ``val`` (50, the
            only labelled one) or ``test`` (151).
        labelled: whether labels are wanted; otherwise ``gt`` is not touched.
    """
    if labelled and split != "val":
        raise RequestError(f"dark_zurich: the split '{split}' has no labels; use 'val', or open it without labels")
    part, _, time = split.partition("_")
    folder = folder_in(root, "rgb_anon", part, time or "night", who="dark_zurich")
    images = by_id(files_in(folder, [_ANON], "dark_zurich"), "dark_zurich", _ANON)
    labels = folder_in(root, "gt", part, time or "night", who="dark_zurich") if labelled else None
    return _anonymised("dark_zurich", images, {folder: labels} if labels else None)


def acdc(root: Path, split: str, labelled: bool = True, *, condition: str = "all") -> Dataset:
    """Open ACDC (Sakaridis et al., 2021): ``rgb_anon/<condition>/<split>`` and ``gt/<condition>/<split>``.

    The reference images of the release (``*_ref``) are not part of any split.

    Args:
        root: folder with ``rgb_anon`` (and ``gt``).
        split: ``train`` (1600), ``val`` (406) or ``test`` (2000, no labels).
        labelled: whether labels are wanted; otherwise ``gt`` is not touched.
        condition: ``fog``, ``night``, ``rain``, ``snow``, or ``all`` of them.
    """
    _no_test_labels("acdc", split, labelled)
    if condition not in (*_WEATHERS, "all"):
        raise RequestError(
            f"acdc: no condition '{condition}'{nearest(condition, _WEATHERS)}; there are: all, {', '.join(_WEATHERS)}"
        )
    chosen = _WEATHERS if condition == "all" else (condition,)
    folders = [folder_in(root, "rgb_anon", weather, split, who="acdc") for weather in chosen]
    images = by_id([path for folder in folders for path in files_in(folder, [_ANON], "acdc")], "acdc", _ANON)
    if not labelled:
        return _anonymised("acdc", images, None)
    truth = [folder_in(root, "gt", weather, split, who="acdc") for weather in chosen]
    return _anonymised("acdc", images, dict(zip(folders, truth, strict=True)))


def _anonymised(name: str, images: dict[str, Path], truth: dict[Path, Path] | None) -> Dataset:
    """Build a data set of images ``<id>_rgb_anon.png`` in sequence folders, labels ``<id>_gt_labelTrainIds.png``."""
    if truth is None:
        return build(name, CITYSCAPES, images, None, _TRAIN_IDS)

    def label_of(item: str, image: Path) -> Path:
        folder = next(f for f in truth if f in image.parents)
        return truth[folder] / image.parent.relative_to(folder) / f"{item}_gt_labelTrainIds.png"

    return build(name, CITYSCAPES, images, label_of, _TRAIN_IDS)


def idd_lite(root: Path, split: str, labelled: bool = True) -> Dataset:
    """Open IDD-Lite (Varma et al., 2019): ``leftImg8bit/<split>/<folder>`` and ``gtFine/<split>/<folder>``, 7 classes.

    Labels ``<name>_label.png`` hold train ids. An item is called ``<folder>/<name>``, as names repeat in the folders.

    Args:
        root: folder with ``leftImg8bit`` (and ``gtFine``).
        split: ``train`` (1403) or ``val`` (204).
        labelled: whether labels are wanted; otherwise ``gtFine`` is not touched.
    """
    ending = "_image.jpg"
    folder = folder_in(root, "leftImg8bit", split, who="idd_lite")
    files = files_in(folder, [ending], "idd_lite")
    images = {path.relative_to(folder).as_posix().removesuffix(ending): path for path in files}
    labels = folder_in(root, "gtFine", split, who="idd_lite") if labelled else None
    return build(
        "idd_lite",
        IDD_LITE,
        images,
        (lambda i, _: labels / f"{i}_label.png") if labels else None,
        _IDD_LITE_IDS,
    )


def _no_test_labels(name: str, split: str, labelled: bool) -> None:
    if labelled and split == "test":
        raise RequestError(f"{name}: labels of the test split are withheld; use 'val', or open it without labels")
