"""Networks by name."""

from __future__ import annotations

from typing import Any

from segadapt.models.segmenter import IMAGENET, Preprocessing, Segmenter
from segadapt.models.timm_net import TimmSegmenter
from segadapt.models.weights import lite_imagenet

MODELS = {"lite": "EfficientNet-Lite0"}


def build_segmenter(name: str, classes: int, weights: str | None = None, preprocessing: Any = None, **arguments: Any) -> Segmenter:
    pre = Preprocessing(**{k: tuple(v) if isinstance(v, list) else v for k, v in preprocessing.items()}) if preprocessing else IMAGENET
    encoder = "tf_efficientnet_lite0" if name == "lite" else name.removeprefix("timm:")
    model = TimmSegmenter(classes, encoder, pre, **arguments)
    if weights == "imagenet":
        own = model.encoder.state_dict()
        new = {k: v for k, v in zip(own, lite_imagenet(), strict=False)}
        assert all(new[k].shape == own[k].shape for k in own)
        model.encoder.load_state_dict(new)
    return model
