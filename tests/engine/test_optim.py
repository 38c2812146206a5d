"""Learning-rate schedules and parameter groups, against numbers worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import timm
import torch
from timm.optim import param_groups_layer_decay
from torch import nn

from segadapt.engine.optim import build_optimiser, parameter_groups, schedule_factor, set_learning_rate
from segadapt.errors import RequestError
from segadapt.methods.stage_config import OptimiserConfig, ScheduleConfig
from segadapt.models.build import build_segmenter
from segadapt.models.segmenter import Output, Segmenter
from tests.golden_vectors import golden_op


class Two(Segmenter):
    """Encoder and head of one layer each."""

    def __init__(self) -> None:
        super().__init__(2)
        self.encoder = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.head = nn.Conv2d(4, 2, 1)

    def network(self, x: torch.Tensor) -> Output:
        features = self.encoder(x)
        return Output(self.head(features), features)

    def head_modules(self) -> list[nn.Module]:
        return [self.head]


def test_poly_decay() -> None:
    poly = ScheduleConfig(name="poly", power=0.9)
    assert schedule_factor(poly, 0, 100) == 1
    assert schedule_factor(poly, 50, 100) == pytest.approx(0.5**0.9)
    assert schedule_factor(poly, 100, 100) == 0
    longer = ScheduleConfig(name="poly", power=0.9, horizon=250)
    assert schedule_factor(longer, 50, 100) == pytest.approx(0.8**0.9)


def test_step_decay() -> None:
    """Times 0.9 after every epoch (ProDA, section 5.1); warm-up multiplies it, ``over: stage`` counts on."""
    step = ScheduleConfig(name="step", every=743)
    factors = [schedule_factor(step, s, 80 * 743) for s in (0, 742, 743, 1485, 1486, 80 * 743 - 1)]
    assert factors == pytest.approx([1, 1, 0.9, 0.9, 0.81, 0.9**79])
    both = ScheduleConfig(name="step", factor=0.5, every=2, warmup=4)
    assert [schedule_factor(both, s, 10) for s in range(6)] == pytest.approx([0.25, 0.5, 0.375, 0.5, 0.25, 0.25])
    with pytest.raises(ValueError, match=r"set schedule\.every, e\.g\. to 743"):
        ScheduleConfig(name="step")


def test_poly_agrees_with_adaptsegnet() -> None:
    golden = golden_op("adaptsegnet_poly_lr")
    schedule = ScheduleConfig(name="poly", power=golden.params["power"], horizon=golden.params["max_iter"])
    factors = [schedule_factor(schedule, int(i), golden.params["stop"]) for i in golden.arrays["iteration"]]
    golden.assert_close("lr", np.array(factors) * golden.params["base"])
    golden.assert_close("lr_head", np.array(factors) * golden.params["base"] * OptimiserConfig().head_factor)


def test_a_network_without_a_head_has_one_rate_and_its_own_betas() -> None:
    config = OptimiserConfig(name="adamw", lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0)
    optimiser = build_optimiser(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 1, 1)), config)
    assert {group["lr"] for group in optimiser.param_groups} == {1e-4}
    assert {group["betas"] for group in optimiser.param_groups} == {(0.9, 0.99)}
    assert sum(len(group["params"]) for group in optimiser.param_groups) == 4


def test_warm_up_is_linear_and_multiplies() -> None:
    schedule = ScheduleConfig(name="constant", warmup=4)
    assert [schedule_factor(schedule, s, 10) for s in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    both = ScheduleConfig(name="poly", power=1.0, warmup=2)
    assert schedule_factor(both, 0, 10) == pytest.approx(0.5)
    assert schedule_factor(both, 1, 10) == pytest.approx(0.9)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_every_parameter_is_in_exactly_one_group(name: str) -> None:
    model = Two()
    model.encoder[0].bias.requires_grad_(False)
    groups = parameter_groups(model, OptimiserConfig(name=name, lr=1e-3, head_factor=10, weight_decay=0.1))
    members = [id(p) for g in groups for p in g["params"]]
    assert len(members) == len(set(members))
    assert set(members) == {id(p) for p in model.parameters() if p.requires_grad}
    rates = {id(p): g["lr"] for g in groups for p in g["params"]}
    assert rates[id(model.head.weight)] == pytest.approx(1e-2)
    assert rates[id(model.encoder[0].weight)] == pytest.approx(1e-3)
    decay = {id(p): g["weight_decay"] for g in groups for p in g["params"]}
    assert decay[id(model.head.weight)] == 0.1
    assert decay[id(model.head.bias)] == (0.1 if name == "sgd" else 0.0)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_biases_may_learn_at_another_rate_without_decay(name: str) -> None:
    """Biases of convolutions and shifts of normalisation, in encoder and head; never a weight or a scale."""
    model = Two()
    config = OptimiserConfig(name=name, lr=1e-3, head_factor=10, bias_factor=2, weight_decay=0.1)
    groups = parameter_groups(model, config)
    assert sum(len(g["params"]) for g in groups) == len(list(model.parameters()))
    of = {id(p): (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    for parameter, factor in ((model.encoder[0].bias, 2), (model.encoder[1].bias, 2), (model.head.bias, 20)):
        assert of[id(parameter)] == (pytest.approx(1e-3 * factor), 0.0)
    scale_decay = 0.1 if name == "sgd" else 0.0
    assert of[id(model.encoder[0].weight)] == (pytest.approx(1e-3), 0.1)
    assert of[id(model.encoder[1].weight)] == (pytest.approx(1e-3), scale_decay)
    assert of[id(model.head.weight)] == (pytest.approx(1e-2), 0.1)


def test_rates_decay_by_layer_as_in_timm() -> None:
    """The embedding, each of six blocks, and the last normalisation at the rate itself; the head at its own."""
    model: Any = build_segmenter("foundation:test_vit", 3)
    config = OptimiserConfig(name="adamw", lr=1e-3, head_factor=10, layer_decay=0.5, weight_decay=0.1)
    groups = parameter_groups(model, config)
    rates = {id(p): g["lr"] for g in groups for p in g["params"]}
    assert len(rates) == sum(len(g["params"]) for g in groups) == len(list(model.parameters()))
    net = model.encoder
    assert rates[id(net.patch_embed.proj.weight)] == rates[id(net.pos_embed)] == pytest.approx(1e-3 * 0.5**7)
    for number, block in enumerate(net.blocks):
        assert all(rates[id(p)] == pytest.approx(1e-3 * 0.5 ** (6 - number)) for p in block.parameters())
    assert rates[id(net.norm.weight)] == pytest.approx(1e-3)
    assert all(rates[id(p)] == pytest.approx(1e-2) for p in model.head.parameters())
    of_timm = timm.create_model("test_vit", num_classes=2)
    theirs = param_groups_layer_decay(of_timm, layer_decay=0.5, weight_decay=0.1)
    expected = {id(p): (1e-3 * g["lr_scale"], g["weight_decay"]) for g in theirs for p in g["params"]}
    ours = {id(p): (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    for name, p in net.named_parameters():
        if not name.startswith("norm."):  # timm counts it to the last block, BEiT and MAE do not
            assert ours[id(p)] == pytest.approx(expected[id(of_timm.get_parameter(name))]), name


def test_rates_decay_only_in_networks_that_name_their_layers() -> None:
    with pytest.raises(RequestError, match=r"layer_decay is 0.9, but the network 'Two'.*foundation:NAME"):
        parameter_groups(Two(), OptimiserConfig(layer_decay=0.9))
    wrapped = build_segmenter("hrda:foundation:test_convnext", 3, base={"frozen": 1})
    layers = wrapped.encoder_layers()
    assert len(layers) == 1 + len([b for stage in wrapped.base.encoder.stages for b in stage.blocks])  # type: ignore
    members = [id(p) for layer in layers for p in layer]
    assert len(members) == len(set(members)) == len(list(wrapped.base.encoder.parameters()))  # type: ignore
    learning = {id(p) for g in parameter_groups(wrapped, OptimiserConfig(layer_decay=0.9)) for p in g["params"]}
    assert not learning & {id(p) for layer in layers[:2] for p in layer}


def test_rates_follow_the_factor() -> None:
    optimiser = build_optimiser(Two(), OptimiserConfig(lr=1e-2), factor=0.5)
    set_learning_rate([optimiser], 0.1)
    assert sorted({g["lr"] for g in optimiser.param_groups}) == pytest.approx([5e-4, 5e-3])
