"""GTA5 and SYNTHIA-RAND-CITYSCAPES, as downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from segadapt.data.dataset import Dataset
from segadapt.data.decode import read_first_channel
from segadapt.data.folders.listing import build, by_id, files_in, folder_in
from segadapt.data.ids import CITYSCAPES_LABEL_IDS, CITYSCAPES_TRAIN_ID, SYNTHIA_CLASSES, synthia_ids, with_ignored
from segadapt.data.masks.labelling import IndexLabels
from segadapt.data.readers.space import to_space
from segadapt.errors import RequestError
from segadapt.labels import CITYSCAPES, label_space

GTA5_BAD_PAIRS = ("15188", "17705")
"""Pairs of the release whose image and label show different scenes."""


def gta5(root: Path, split: str, labelled: bool = True, *, skip_bad_pairs: bool = True) -> Dataset:
    """Open GTA5 (Richter et al., 2016): ``images/00001.png`` and ``labels/00001.png``, 24 966 pairs.

    Labels are palette files whose indices are Cityscapes label ids. Sizes vary; a label of another
    size than its image is resized to it.

    Args:
        root: folder with ``images`` and ``labels``.
        split: ``all``.
        labelled: whether labels are wanted; otherwise ``labels`` is not touched.
        skip_bad_pairs: leave out the two pairs of the release that do not belong together.
    """
    hint = "unpack all image and label archives of GTA5 there"
    images = by_id(files_in(folder_in(root, "images", who="gta5", hint=hint), [".png"], "gta5"), "gta5")
    if skip_bad_pairs:
        images = {i: path for i, path in images.items() if i not in GTA5_BAD_PAIRS}
    labels = folder_in(root, "labels", who="gta5", hint=hint) if labelled else None
    ids = with_ignored(CITYSCAPES_TRAIN_ID, CITYSCAPES_LABEL_IDS)
    return build(
        "gta5",
        CITYSCAPES,
        images,
        (lambda i, _: labels / f"{i}.png") if labels else None,
        IndexLabels(ids, "Cityscapes label ids"),
        resize_labels=True,
    )


def synthia(
    root: Path,
    split: str,
    labelled: bool = True,
    *,
    lane_marking: Literal["ignore", "road"] = "ignore",
    space: str = CITYSCAPES.name,
) -> Dataset:
    """Open SYNTHIA-RAND-CITYSCAPES (Ros et al., 2016): ``RGB`` and ``GT/LABELS``, 9400 pairs.

    Labels are 16-bit colour files with the class in the red channel and an instance number in the
    green one.

    Args:
        root: the folder ``RAND_CITYSCAPES`` of the release.
        split: ``all``.
        labelled: whether labels are wanted; otherwise ``GT`` is not touched.
        lane_marking: lane markings are ignored (DAFormer, ProDA) or count as road (CRST).
        space: ``cityscapes19``, in which three classes never occur, or ``synthia16``.
    """
    if lane_marking not in ("ignore", "road"):
        raise RequestError(f"synthia: lane_marking is 'ignore' or 'road', not '{lane_marking}'")
    hint = "the package RAND_CITYSCAPES is needed, not the video sequences"
    files = files_in(folder_in(root, "RGB", who="synthia", hint=hint), [".png"], "synthia")
    labels = folder_in(root, "GT", "LABELS", who="synthia", hint=hint) if labelled else None
    ids = with_ignored(synthia_ids(lane_marking == "road"), SYNTHIA_CLASSES)
    dataset = build(
        "synthia",
        CITYSCAPES,
        by_id(files, "synthia"),
        (lambda i, _: labels / f"{i}.png") if labels else None,
        IndexLabels(ids, "SYNTHIA classes (0 to 22)", read_first_channel),
    )
    return to_space(dataset, label_space(space))
