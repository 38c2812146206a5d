"""Re-labelling a data set into another label space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from segadapt.data.dataset import Dataset
from segadapt.data.masks.labelling import Relabelled
from segadapt.errors import RequestError
from segadapt.labels import LabelSpace


def to_space(dataset: Dataset, space: LabelSpace, merge: Mapping[str, str] | None = None) -> Dataset:
    """Return the data set in another label space; labels are looked up as they are read.

    Args:
        dataset: any data set, with labels or without.
        space: the space wanted; classes are matched by name, and a class without counterpart is ignored.
        merge: class name of the data set -> differently named class of ``space``.

    Raises:
        RequestError: the two spaces share no class.
    """
    table = dataset.space.mapping_to(space, merge)
    if not (table < len(space)).any():
        raise RequestError(
            f"{dataset.name}: label spaces '{dataset.space.name}' and '{space.name}' share no class name; "
            "name the classes alike, or say which to merge"
        )
    if dataset.space.same_classes(space) and not merge:
        return replace(dataset, space=space)
    return replace(dataset, space=space, read_label=Relabelled(dataset.read_label, tuple(table.tolist())))
