"""Normalisation modes survive train() and do what they say."""

from __future__ import annotations

import copy
from typing import get_args

import pytest
import torch
from torch import nn

from segadapt.models.norm import NormMode, set_norm_mode


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.GroupNorm(2, 4))


@pytest.mark.parametrize("mode", get_args(NormMode))
def test_modes(mode: str) -> None:
    model = network()
    set_norm_mode(model, mode)
    before = copy.deepcopy(model[1].state_dict())
    model.train()
    model(torch.randn(4, 3, 5, 5)).sum().backward()
    moving, learnt = {
        "train": (True, True),
        "statistics": (True, False),
        "affine": (False, True),
        "frozen": (False, False),
    }[mode]
    for name in ("running_mean", "running_var"):
        assert (not torch.equal(before[name], getattr(model[1], name))) == moving
    assert model[1].training == moving
    for name in ("weight", "bias"):
        assert (getattr(model[1], name).grad is not None) == learnt
    assert model[3].weight.grad is not None
    assert model[0].training


def test_a_mode_can_be_taken_back() -> None:
    model = network()
    set_norm_mode(model, "frozen")
    model.train()
    set_norm_mode(model, "train")
    model.train()
    assert model[1].training
    assert model[1].weight.requires_grad
    model.eval()
    assert not model[1].training


def test_a_pinned_model_can_be_copied_and_stored() -> None:
    model = network()
    set_norm_mode(model, "affine")
    twin = copy.deepcopy(model).train()
    assert not twin[1].training
    twin.load_state_dict(model.state_dict())
