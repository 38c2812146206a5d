"""Scoring on test images that label fewer classes than the model predicts.

CBST trains the 19 classes of Cityscapes and scores them on the 13 of NTHU, where a predicted wall counts as building.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from segadapt.errors import RequestError
from segadapt.labels import LabelSpace
from segadapt.recipes import read_recipe
from segadapt.runs.target_labels import WithLabelled


class WithMergedPredictions(WithLabelled):
    """Settings of data whose test images label fewer classes than the run has.

    Attributes:
        merge_predictions: classes that count as another one where test images are scored, e.g. ``{truck: car}``, or as
            none: ``{train: ignore}``. Neither training nor files of predictions change.
    """

    merge_predictions: dict[str, str] = Field(default_factory=dict)


def merges_of(recipe: str) -> dict[str, str]:
    """Return the ``merge_predictions`` of a recipe, or of a task, e.g. ``cityscapes_nthu_rome``.

    Raises:
        RequestError: there is no such recipe or task, or it scores the classes as they are predicted.
    """
    settings = read_recipe(recipe if "/" in recipe else f"{recipe}/source_only")
    merge = (settings.get("data") or {}).get("merge_predictions")
    if not merge:
        raise RequestError(f"recipe '{recipe}' merges no predictions; name one that does, or classes: truck=car")
    return dict(merge)


def require_merges(merge: Mapping[str, str], space: LabelSpace, where: str = "data.merge_predictions") -> None:
    """Raise RequestError, which opens with ``where``, where merged predictions name a class that ``space`` lacks."""
    try:
        space.mapping_to(space, merge)
    except RequestError as problem:
        raise RequestError(f"{where}: {problem}") from None
