"""The data part of a configuration from data of one's own: folders, or data sets of a script."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from segadapt.data.dataset import Dataset
from segadapt.data.memory import in_memory
from segadapt.errors import RequestError, nearest
from segadapt.labels import LabelSpace, distinct_colors
from segadapt.runs.opening import PYTHON

PathLike = str | os.PathLike[str]
Classes = PathLike | Sequence[str] | LabelSpace


def own_data(
    datasets: Mapping[str, Any],
    folders: Mapping[str, tuple[PathLike | None, PathLike | None]],
    classes: Classes | None,
    ignore_ids: Sequence[int],
    pair: str | Mapping[str, str] | None = None,
    known: LabelSpace | None = None,
) -> tuple[dict[str, Dataset], dict[str, dict[str, Any]]]:
    """Return data sets that a script gives, and the settings of all data sets, by part of the run.

    Args:
        datasets: data sets, by part: ``source``, ``target``, ``test``.
        folders: folder of images and folder of masks, by the same parts.
        classes: classes file of the masks, or class names or a label space of the data sets.
        ignore_ids: mask values in folders that belong to no class.
        pair: pattern of the names of images and masks, of source and test or by part of the run.
        known: classes of a model that the run starts from; then it needs no source.

    Raises:
        RequestError: a part or the classes of a data set are missing.
    """
    given: dict[str, Dataset] = {}
    data: dict[str, dict[str, Any]] = {}
    space = (_space(classes) or known) if datasets else None
    optional = ("test",) if known is None else ("source", "test")
    pairs = _pairs(pair, folders)
    for part, (images, labels) in folders.items():
        needs_labels = part != "target"
        if part in datasets:
            if images is not None or labels is not None:
                raise RequestError(f"{part} is given twice, as a data set and as folders; leave out one of them")
            value = datasets[part]
            if not isinstance(value, Dataset):
                if space is None:
                    raise RequestError(f"{part}: give classes, the names of its classes in order of their train ids")
                value = in_memory(part, value, space, labelled=needs_labels)
            given[part], data[part] = value, {"reader": PYTHON}
            continue
        if images is None and labels is None and part in optional:
            continue
        lacking = "images" if images is None else "labels" if needs_labels and labels is None else None
        if lacking is not None:
            raise RequestError(
                f"{part}_{lacking} is missing: give a recipe, or source_images, source_labels and target_images, or "
                "data sets as source and target; a model file with target_images needs no source"
            )
        data[part] = {"images": os.fspath(images)} if images is not None else {}
        if part in pairs:
            data[part]["pair"] = pairs[part]
        if labels is not None:
            file = classes if isinstance(classes, (str, os.PathLike)) else None
            if part == "source" and classes is not None and file is None:
                raise RequestError(
                    "classes must be a classes file, as the source is a folder of masks; see docs/classes.md"
                )
            masks = {
                "labels": os.fspath(labels),
                "classes": os.fspath(file) if file is not None else None,
                "ignore_ids": list(ignore_ids),
            }
            if part == "target":  # the target itself has no paths to labels
                data["oracle"] = {**data[part], **masks}
            else:
                data[part] |= masks
    return given, data


def _pairs(pair: str | Mapping[str, str] | None, folders: Mapping[str, Any]) -> dict[str, str]:
    """Return the pattern of each part; one for all counts where masks are."""
    if pair is None:
        return {}
    if isinstance(pair, str):
        return {part: pair for part, (_, labels) in folders.items() if part != "target" or labels is not None}
    for part in pair:
        if part not in folders:
            raise RequestError(f"no part '{part}'{nearest(part, folders)} to pair; parts: {', '.join(folders)}")
    return dict(pair)


def _space(classes: Classes | None) -> LabelSpace | None:
    if classes is None or isinstance(classes, LabelSpace):
        return classes
    if isinstance(classes, (str, os.PathLike)):
        raise RequestError(
            "classes is a file; for data sets give a list of the class names in order of their train ids"
        )
    names = tuple(str(name) for name in classes)
    return LabelSpace(PYTHON, names, distinct_colors(len(names)))
