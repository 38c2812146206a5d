"""The ProDA network: agreement with the public implementation, dropout, initialisation, loading."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from segadapt.errors import RequestError
from segadapt.models.build import MODELS, build_segmenter
from segadapt.models.proda_net import ProDANet
from tests.models.golden import drawn, golden_model


@pytest.fixture(scope="module")
def small() -> ProDANet:
    torch.manual_seed(0)
    return ProDANet(7, 50, extra_norm=True, dropout=0.5)


@torch.no_grad()
def test_agrees_with_the_public_implementation() -> None:
    golden = golden_model("proda_deeplab_imagenet")
    model = ProDANet(19).eval()
    assert list(model.state_dict()) == list(golden.state), "names and order of the public file"
    model.load_state_dict(golden.state)
    output = model.network(golden.input)
    golden.assert_close("out", output.logits)
    golden.assert_close("feat", output.features)
    assert output.features.shape[1] == model.feature_channels == 256
    assert output.aux is None
    # The comparison can fail: without the gate the features differ.
    model.layer5.bottleneck[0] = nn.Identity()
    with pytest.raises(AssertionError, match="are off"):
        golden.assert_close("feat", model.network(golden.input).features)


def test_the_published_sizes_without_building_it() -> None:
    with torch.device("meta"):
        model, distilled = ProDANet(19), ProDANet(19, extra_norm=True)
        output = distilled(torch.empty(1, 3, 512, 896))
    assert output.logits.shape == (1, 19, 65, 113)
    assert output.features.shape == (1, 256, 65, 113)
    assert len(model.state_dict()) == 653
    assert len(distilled.state_dict()) == 658
    extra = set(distilled.state_dict()) - set(model.state_dict())
    parts = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    assert extra == {f"bn_pretrain.{part}" for part in parts}
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(65.07e6, rel=1e-4)
    assert sum(p.numel() for p in model.layer5.parameters()) == pytest.approx(22.56e6, rel=1e-3)


@torch.no_grad()
def test_the_extra_norm_stands_between_encoder_and_head(small: ProDANet) -> None:
    small.eval()
    assert small.bn_pretrain is not None
    before = {k: v.clone() for k, v in small.bn_pretrain.state_dict().items()}
    x = torch.randn(1, 3, 33, 41)
    _, deep = small.encode(x)
    for key, value in small.bn_pretrain.state_dict().items():
        value.copy_(drawn(f"bn_pretrain.{key}", tuple(value.shape)))
    norm = small.bn_pretrain
    by_hand = (deep - norm.running_mean[:, None, None]) / (norm.running_var[:, None, None] + norm.eps).sqrt()
    by_hand = by_hand * norm.weight[:, None, None] + norm.bias[:, None, None]
    torch.testing.assert_close(small.network(x).features, small.layer5(by_hand)[1])
    assert not torch.allclose(small.network(x).features, small.layer5(deep)[1])
    norm.load_state_dict(before)


def test_dropout_acts_on_the_features_in_training_only(small: ProDANet) -> None:
    x = torch.rand(2, 3, 40, 40)
    small.train()
    with torch.no_grad():
        output = small(x)
        silent = output.features.flatten(2).eq(0).all(2)
        assert 0.3 < silent.float().mean() < 0.7, "whole channels, the share that was asked for"
        torch.testing.assert_close(output.logits, small.layer5.head[1](output.features))
        small.eval()
        assert not small(x).features.flatten(2).eq(0).all(2).any()
        assert torch.equal(small(x).features, small(x).features)


def test_head_starts_small_and_trains(small: ProDANet) -> None:
    fresh = ProDANet(2, 50)
    for name, module in fresh.layer5.named_modules():
        if isinstance(module, nn.Conv2d):
            assert module.weight.std().item() == pytest.approx(0.01, rel=0.15), name
    small.train().zero_grad()
    small(torch.rand(2, 3, 40, 48)).logits.square().mean().backward()
    dead = [n for n, p in small.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert dead == []
    heads = {id(p) for module in small.head_modules() for p in module.parameters()}
    names = {n for n, p in small.named_parameters() if id(p) in heads}
    assert names == {n for n, _ in small.named_parameters() if n.startswith(("layer5.", "bn_pretrain."))}


def test_simclr_and_torchvision_encoders_must_fit_wholly(small: ProDANet, tmp_path: Path) -> None:
    backbone = torchvision.models.resnet50().state_dict()
    assert small.bn_pretrain is not None
    norm = small.bn_pretrain.running_var.clone()
    head = small.layer5.head[1].weight.clone()
    small.load_imagenet(backbone)
    own = small.state_dict()
    assert all(torch.equal(own[k], v) for k, v in backbone.items() if not k.startswith("fc."))
    assert torch.equal(own["bn_pretrain.running_var"], norm), "stays as it was"
    assert torch.equal(own["layer5.head.1.weight"], head), "stays as it was"
    # The converted SimCLR file nests its state dict; a single wrong name is reported.
    simclr = {k: v + 1 for k, v in backbone.items() if not k.startswith("fc.")}
    torch.save({"state_dict": simclr}, tmp_path / "r50_1x_sk0.pth")
    student = build_segmenter("proda_resnet50", 3, extra_norm=True, weights=str(tmp_path / "r50_1x_sk0.pth"))
    assert torch.equal(student.state_dict()["layer3.4.conv2.weight"], simclr["layer3.4.conv2.weight"])
    simclr["layer2.0.convolution1.weight"] = simclr.pop("layer2.0.conv1.weight")
    torch.save({"state_dict": simclr}, tmp_path / "misnamed.pth")
    with pytest.raises(RequestError, match=r"misnamed.pth': .*ResNet-50: 2 entries .*layer2.0.convolution1.weight"):
        build_segmenter("proda_resnet50", 3, weights=str(tmp_path / "misnamed.pth"))


def test_it_is_registered_takes_plain_rgb_and_builds_again() -> None:
    assert "proda_resnet101" in MODELS
    with torch.device("meta"):
        model = build_segmenter("proda_resnet101", 5, extra_norm=True, stride_in="3x3", dropout=0.2)
        again = build_segmenter(**model.description())
    assert again.description() == model.description()
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in model.state_dict().items()}
    images = torch.rand(1, 3, 2, 2)
    assert torch.equal(build_segmenter("proda_resnet50", 2).preprocess(images), images)
    with pytest.raises(RequestError, match="dropout is 1"):
        ProDANet(2, 50, dropout=1.0)
