"""Class thresholds from the predictions of the whole target set, for methods with class-balanced static labels."""

from __future__ import annotations

from torch import Tensor

from segadapt.methods.environment import Environment, Predictions
from segadapt.pieces.pseudo_labels import confidence_and_prediction
from segadapt.pieces.thresholds import ClassThresholds


def rank_target(
    ranking: ClassThresholds, predictions: Predictions, environment: Environment, prior: Tensor | None = None
) -> None:
    """Count the confidences of all target images, over all processes, until ``ranking`` knows its thresholds.

    Args:
        ranking: empty, on the device of the predictions.
        predictions: predictions of the target set; read twice.
        environment: adds counters over processes.
        prior: spatial prior to multiply with.
    """
    while True:
        for seen in predictions:
            ranking.count(*confidence_and_prediction(seen.probabilities[None], prior))
        environment.sum(ranking.tensors())
        if not ranking.next_look():
            return
