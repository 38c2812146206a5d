"""The labels of a few target images, to train on: which of them, and what is said about them.

``data.oracle`` says where labels of the target lie; ``data.labelled`` that stages may learn them, and of which images.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field, model_validator

from segadapt.core.settings import Settings
from segadapt.core.spacing import evenly_spaced
from segadapt.data.dataset import Dataset
from segadapt.errors import RequestError, nearest
from segadapt.runs.limited import Limited

if TYPE_CHECKING:
    from segadapt.runs.config import RunConfig


class LabelledConfig(Settings):
    """The target images whose labels stages of the role ``adapted`` learn; without settings all that have labels.

    Attributes:
        images: use only so many of those in ``data.oracle``: evenly spaced in the order of their names; null uses all.
        seed: draw them at random with this seed instead; null spaces them evenly.
        names: use these instead, by name or by the end of it, e.g. ``[0001TP_006690]``; empty names none.
    """

    images: int | None = Field(default=None, ge=1)
    seed: int | None = Field(default=None, ge=0)
    names: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _one_rule(self) -> LabelledConfig:
        if self.names and (self.images is not None or self.seed is not None):
            raise ValueError("labelled target images are given by names, or by their number; leave out one of the two")
        if self.seed is not None and self.images is None:
            raise ValueError("a seed draws some of the labelled target images; set images, how many")
        return self


class WithLabelled(Limited):
    """Settings of data of which a few target images may have labels.

    Attributes:
        labelled: which of the target images with labels (``oracle``) stages learn beside their method; null for none.
    """

    labelled: LabelledConfig | None = None


def chosen(labelled: Dataset, target: Dataset, config: LabelledConfig) -> Dataset:
    """Return the labelled target images that a run learns from, sorted by name.

    Args:
        labelled: all images in ``data.oracle``; those that are no target images of the run are left out.
        target: the target images.
        config: which of the rest.

    Raises:
        RequestError: there are fewer than asked for, or a name is of none or of several.
    """
    ids = {item.id for item in target.items}
    labelled = labelled.subset([i for i, item in enumerate(labelled.items) if item.id in ids])
    total = len(labelled)
    if not total:
        raise RequestError("data.oracle has labels of no target image of this run; name the same images in both")
    if config.names:
        return labelled.subset(sorted({_place(name, labelled) for name in config.names}))
    if config.images is None:
        return labelled
    if config.images > total:
        raise RequestError(
            f"data.labelled.images is {config.images}, but only {total} target images have labels in data.oracle"
        )
    if config.seed is None:
        return labelled.subset(evenly_spaced(total, config.images))
    drawn = np.random.default_rng(config.seed).permutation(total)[: config.images]
    return labelled.subset(np.sort(drawn).tolist())


def _place(name: str, labelled: Dataset) -> int:
    ids = [item.id for item in labelled.items]
    found = [i for i, known in enumerate(ids) if known == name]
    found = found or [i for i, known in enumerate(ids) if known.endswith("/" + name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise RequestError(f"data.labelled.names: '{name}' may be {ids[found[0]]} or {ids[found[1]]}; write it whole")
    raise RequestError(f"data.labelled.names: no image '{name}' has labels in data.oracle{nearest(name, ids)}")


def counted(labelled: Dataset, target: Dataset) -> str:
    """Return a line on how many target images have labels that are learnt."""
    few, all_of_them = len(labelled), len(target)
    if few >= all_of_them:
        return (
            f"labelled: all {all_of_them} target images have labels that are learnt; method oracle trains on them alone"
        )
    return f"labelled: {few} of {all_of_them} target images have labels that are learnt, the others have none"


def to_train_on(data: dict[str, dict[str, Any]], changes: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return data of folders; target labels among them are learnt, unless they are there to measure pseudo labels.

    Args:
        data: settings by part; ``oracle`` where masks of target images are given.
        changes: what overrides say of data, as settings.
    """
    measured = changes.get("data", {}).get("measure_labels") is True
    return data if measured or "oracle" not in data else {**data, "labelled": {}}


def about_target_labels(config: RunConfig) -> list[str]:
    """Return a line where labels of the target are given and no stage of a run learns them."""
    data = config.data
    if data.labelled is not None and not any(stage.learns_labelled for stage in config.stages):
        return [
            "the labels of the target are not learnt: no stage has the role adapted and a labelled_weight above 0; a "
            "model trained on the source learns them too with source.role=adapted"
        ]
    given = data.oracle is not None and data.oracle.reader == "folder"
    if given and data.labelled is None and not data.measure_labels:
        return ["the labels of the target are not opened; data.labelled={} lets the stages learn them"]
    return []
