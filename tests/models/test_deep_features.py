"""Encoder features: every network either exposes them, in its output and alone, or says that it does not."""

from __future__ import annotations

import pytest
import torch

from segadapt.models.build import MODELS, build_segmenter
from segadapt.models.prototype_net import PrototypeNet

SIZES = ("_resnet50", "_resnet152", "_b1", "_b2", "_b3", "_b4", "_b5")
"""One network of each kind is enough."""
NAMES = [name for name in MODELS if "NAME" not in name and not name.endswith(SIZES)]


@pytest.mark.parametrize("name", [*NAMES, "timm:resnet10t", "daformer:resnet10t", "hrda:lite", "hrda:fcn8s_vgg16"])
def test_networks_name_their_encoder_features_or_say_so(name: str) -> None:
    with torch.device("meta"):
        model = build_segmenter(name, 3).eval()
        images = torch.rand(1, 3, 64, 96)
        deep = model(images).deep
        assert model.names_deep == (deep is not None)
        assert PrototypeNet(model).names_deep == model.names_deep
        if deep is not None:
            assert model.deep_features(images).shape == deep.shape
