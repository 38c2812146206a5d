"""Which images of a folder have labels already."""

from __future__ import annotations

from pathlib import Path

from segadapt.data.annotations.drawn import open_annotated
from segadapt.data.annotations.find import annotations_at
from segadapt.data.dataset import Dataset
from segadapt.data.folders.pair_pattern import PairPattern, pictures_below
from segadapt.data.folders.pairing import having_masks, require_folder


def labelled_among(dataset: Dataset, folder: Path, labels: Path, pair: str | None = None) -> set[str]:
    """Return the names of the images that have a mask or an annotation; none where nothing lies in the folder.

    Args:
        dataset: the images.
        folder: that they lie in.
        labels: folder of the masks; or a file or folder of annotations.
        pair: pattern of the names of images and masks.

    Raises:
        RequestError: the folder is missing, or what lies in it belongs to none of the images.
    """
    ids = {item.image: item.id for item in dataset.items if isinstance(item.image, Path)}
    annotations = annotations_at(labels, folder)
    if annotations:
        found = open_annotated("labelled", folder, list(ids), ids, annotations, labels, partly=True)
        return {item.id for item in found.items}
    require_folder(labels, "mask", "labelled")
    if not pictures_below(labels):
        return set()
    pattern = PairPattern(pair) if pair else None
    return {ids[image] for image in having_masks(folder, list(ids), labels, "labelled", pattern)}
