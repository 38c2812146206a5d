"""Segmentation networks behind one interface, prediction, and model files.

>>> from segadapt.models import InferenceConfig, build_segmenter, predict_labels
>>> model = build_segmenter("lite", classes=19, weights=None)
>>> labels, confidence = predict_labels(model, images, (512, 1024), InferenceConfig())

Importing this package imports neither torch nor timm; the first use of a name does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from segadapt.core.exports import on_demand

if TYPE_CHECKING:
    from segadapt.models.build import ModelConfig, build_segmenter
    from segadapt.models.inference import InferenceConfig, predict_labels, scores
    from segadapt.models.multires import MultiRes
    from segadapt.models.norm import set_norm_mode
    from segadapt.models.prototype_net import PrototypeNet
    from segadapt.models.segmenter import Output, Preprocessing, Segmenter
    from segadapt.models.store import LoadedModel, load_model, save_model

_MODULES = {
    "InferenceConfig": "inference",
    "LoadedModel": "store",
    "ModelConfig": "build",
    "MultiRes": "multires",
    "Output": "segmenter",
    "Preprocessing": "segmenter",
    "PrototypeNet": "prototype_net",
    "Segmenter": "segmenter",
    "build_segmenter": "build",
    "load_model": "store",
    "predict_labels": "inference",
    "save_model": "store",
    "scores": "inference",
    "set_norm_mode": "norm",
}

__all__ = [
    "InferenceConfig",
    "LoadedModel",
    "ModelConfig",
    "MultiRes",
    "Output",
    "Preprocessing",
    "PrototypeNet",
    "Segmenter",
    "build_segmenter",
    "load_model",
    "predict_labels",
    "save_model",
    "scores",
    "set_norm_mode",
]

if not TYPE_CHECKING:  # hidden from type checkers, so that they report a misspelt name
    __getattr__, __dir__ = on_demand(__name__, _MODULES)
