"""Scoring on test images that label fewer classes than the model predicts.

CBST trains the 19 classes of Cityscapes and scores them on the 13 of NTHU, where a predicted wall counts as building.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from segadapt.errors import RequestError
from segadapt.labels import LabelSpace
from segadapt.runs.target_labels import WithLabelled


class WithMergedPredictions(WithLabelled):
    """Settings of data whose test images label fewer classes than the run has.

    Attributes:
        merge_predictions: classes that count as another one where test images are scored, e.g. ``{truck: car}``, or as
            none: ``{train: ignore}``. Neither training nor files of predictions change.
    """

    merge_predictions: dict[str, str] = Field(default_factory=dict)


def require_merges(merge: Mapping[str, str], space: LabelSpace) -> None:
    """Raise RequestError where ``merge_predictions`` names a class that the run does not have."""
    try:
        space.mapping_to(space, merge)
    except RequestError as problem:
        raise RequestError(f"data.merge_predictions: {problem}") from None
