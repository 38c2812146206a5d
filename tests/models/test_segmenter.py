"""A network of one's own needs only ``network``; the defaults of the rest say what they do not have."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from segadapt.engine.optim import parameter_groups
from segadapt.errors import RequestError
from segadapt.methods.stage_config import OptimiserConfig
from segadapt.models.inference import InferenceConfig, predict_labels
from segadapt.models.segmenter import Output, Segmenter


class Tiny(Segmenter):
    """The smallest network: one strided convolution and a classifier."""

    def __init__(self, classes: int) -> None:
        super().__init__(classes, architecture={"name": "tiny"})
        self.stride, self.feature_channels = 8, 4
        self.encoder = nn.Sequential(nn.Conv2d(3, 4, 8, stride=8), nn.ReLU())
        self.head = nn.Conv2d(4, classes, 1)

    def network(self, x: Tensor) -> Output:
        features = self.encoder(x)
        return Output(self.head(features), features)


def test_a_network_without_heads_or_deep_features_predicts() -> None:
    model = Tiny(3)
    labels, confidence = predict_labels(model, torch.rand(2, 3, 16, 24), (16, 24), InferenceConfig(flip=True))
    assert labels.shape == confidence.shape == (2, 16, 24)
    assert model.head_modules() == []
    assert not model.names_deep


def test_deep_features_of_a_network_without_any_are_refused_in_one_line() -> None:
    with pytest.raises(RequestError, match="network 'tiny' has no named deep features; implement") as refusal:
        Tiny(3).deep_features(torch.rand(1, 3, 16, 24))
    assert "\n" not in str(refusal.value)


def test_a_class_without_network_is_named() -> None:
    class Empty(Segmenter):
        pass

    with pytest.raises(NotImplementedError, match="Empty does not implement"):
        Empty(2)(torch.rand(1, 3, 8, 8))


def test_without_heads_all_parameters_train_with_one_rate() -> None:
    groups = parameter_groups(Tiny(3), OptimiserConfig(name="sgd", lr=0.01, head_factor=10.0))
    assert [group["lr"] for group in groups] == [0.01]
    assert sum(len(group["params"]) for group in groups) == 4
