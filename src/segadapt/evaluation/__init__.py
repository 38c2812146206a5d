"""Scores, predictions on images and files, and ONNX files.

Example:
    >>> from segadapt.evaluation import evaluate, predict_path
    >>> scores = evaluate(model, dataset, InferenceConfig(), "cpu")  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segadapt.evaluation.export import export_onnx
    from segadapt.evaluation.metrics import ConfusionMatrix, Scores
    from segadapt.evaluation.predict import predict_array, predict_path
    from segadapt.evaluation.scoring import evaluate

__all__ = ["ConfusionMatrix", "Scores", "evaluate", "export_onnx", "predict_array", "predict_path"]

_MODULES = {
    "ConfusionMatrix": "metrics",
    "Scores": "metrics",
    "evaluate": "scoring",
    "export_onnx": "export",
    "predict_array": "predict",
    "predict_path": "predict",
}


def __getattr__(name: str) -> Any:
    """Import the module of a name when the name is first used."""
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
