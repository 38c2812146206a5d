"""Cross-validation on one set of target images: adapt to all but a fold of them, test on the fold.

CBST adapts so to a city of NTHU, which has 100 labelled images: ten times to 90 of them, without labels, tested on the
other ten. Which images make a fold is not published; here fold K of N is every N-th image in the order of names, from
the K-th on.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from pydantic import field_validator

from segadapt.data.dataset import Dataset
from segadapt.errors import RequestError
from segadapt.runs.merged_predictions import WithMergedPredictions

if TYPE_CHECKING:
    from segadapt.runs.config import DataConfig

_WHICH = ("reader", "root", "split", "options", "images", "list_file", "limit")
"""Settings that decide which images a data set has."""


class Fold(NamedTuple):
    """Fold ``number`` (from 1 on) of ``folds``."""

    number: int
    folds: int

    @classmethod
    def of(cls, text: str) -> Fold:
        """Read ``K/N``; ValueError where it is none."""
        found = re.fullmatch(r"\s*(\d{1,6})\s*/\s*(\d{1,6})\s*", text, re.ASCII)
        fold = cls(int(found[1]), int(found[2])) if found else None
        if fold is None or fold.folds < 2 or not 1 <= fold.number <= fold.folds:
            raise ValueError("must be a fold K/N, K from 1 to N and N at least 2, e.g. 3/10")
        return fold

    def __str__(self) -> str:
        return f"{self.number}/{self.folds}"


class WithFold(WithMergedPredictions):
    """Settings of data that are adapted to and tested on in folds.

    Attributes:
        fold: ``K/N``: test on every N-th image from the K-th on, in the order of names, and adapt to the others;
            ``target`` and ``test`` then name the same images. ``segadapt bench table TASK --folds N`` runs all folds.
            null tests on all images of ``test``.
    """

    fold: str | None = None

    @field_validator("fold")
    @classmethod
    def _written_alike(cls, text: str | None) -> str | None:
        return None if text is None else str(Fold.of(text))


def adapted_to(target: Dataset, fold: str | None) -> Dataset:
    """Return the target images outside the fold; all of them without one."""
    return target if fold is None else _part(target, Fold.of(fold), inside=False)


def tested_on(test: Dataset, fold: str | None) -> Dataset:
    """Return the test images inside the fold; all of them without one."""
    return test if fold is None else _part(test, Fold.of(fold), inside=True)


def in_two_sets(data: DataConfig) -> list[str]:
    """Return the settings in which target and test name different images, so that neither is a fold of the other.

    Nothing is opened. Without test images it is ``["test"]``.
    """
    if data.test is None:
        return ["test"]
    return [name for name in _WHICH if getattr(data.target, name) != getattr(data.test, name)]


def require_one_set(target: Dataset, test: Dataset, data: DataConfig) -> None:
    """Refuse a fold of two sets of images.

    Args:
        target, test: the images outside and inside the fold.
        data: the settings that they were opened by. Where a script gave the images, their names count.

    Raises:
        RequestError: says in which settings they differ.
    """
    if data.fold is None:
        return
    others, fold = in_two_sets(data), Fold.of(data.fold)
    ours = {item.id for item in test.items}
    names = sorted([*(item.id for item in target.items), *ours])
    if others or [name in ours for name in names] != [_inside(place, fold) for place in range(len(names))]:
        differ = f" (they differ in {' and '.join(others)})" if others else ""
        raise RequestError(
            f"data.fold={fold} is a part of one set of images, but target and test are two{differ}; name the same "
            "images in both, or test on all with data.fold=null"
        )


def without(labelled: Dataset, test: Dataset | None) -> Dataset:
    """Return the labelled target images that are not test images."""
    tested = {item.id for item in test.items} if test is not None else set()
    return labelled.subset([index for index, item in enumerate(labelled.items) if item.id not in tested])


def _inside(place: int, fold: Fold) -> bool:
    return place % fold.folds == fold.number - 1


def _part(dataset: Dataset, fold: Fold, inside: bool) -> Dataset:
    places = [place for place in range(len(dataset)) if _inside(place, fold) == inside]
    if len(dataset) < fold.folds:
        raise RequestError(f"{dataset.name}: {len(dataset)} images are too few for {fold.folds} folds (data.fold)")
    return dataset.subset(places)
