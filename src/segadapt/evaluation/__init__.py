"""Scores, predictions on images and files, and ONNX files.

Example:
    >>> from segadapt.evaluation import evaluate, predict_path
    >>> scores = evaluate(model, dataset, InferenceConfig(), "cpu")  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from segadapt.core.exports import on_demand

if TYPE_CHECKING:
    from segadapt.evaluation.export import export_onnx
    from segadapt.evaluation.metrics import ConfusionMatrix, Scores
    from segadapt.evaluation.predict import predict_array, predict_path
    from segadapt.evaluation.results import Prediction
    from segadapt.evaluation.scoring import evaluate
    from segadapt.evaluation.suggesting import Suggestion, suggest_images

__all__ = [
    "ConfusionMatrix",
    "Prediction",
    "Scores",
    "Suggestion",
    "evaluate",
    "export_onnx",
    "predict_array",
    "predict_path",
    "suggest_images",
]

_MODULES = {
    "ConfusionMatrix": "metrics",
    "Prediction": "results",
    "Scores": "metrics",
    "Suggestion": "suggesting",
    "evaluate": "scoring",
    "export_onnx": "export",
    "predict_array": "predict",
    "predict_path": "predict",
    "suggest_images": "suggesting",
}

if not TYPE_CHECKING:  # hidden from type checkers, so that they report a misspelt name
    __getattr__, __dir__ = on_demand(__name__, _MODULES)
