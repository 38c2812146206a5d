"""Wide ResNet-38: the table of the specification, sizes, gradients, dropout."""

from __future__ import annotations

from math import ceil, prod

import pytest
import torch
from torch import nn

from segadapt.errors import RequestError
from segadapt.models.norm import set_norm_mode
from segadapt.models.resnet38 import PreactivationBlock, ResNet38

BLOCKS = {
    "2a": (64, 128, 128),
    "2b1": (128, 128, 128),
    "2b2": (128, 128, 128),
    "3a": (128, 256, 256),
    "3b1": (256, 256, 256),
    "3b2": (256, 256, 256),
    "4a": (256, 512, 512),
    **{f"4b{i}": (512, 512, 512) for i in range(1, 6)},
    "5a": (512, 512, 1024),
    "5b1": (1024, 512, 1024),
    "5b2": (1024, 512, 1024),
    "6a": (1024, 512, 1024, 2048),
    "7a": (2048, 1024, 2048, 4096),
}
"""Channels from the input of a block to its output, written out once more from the description of the files."""


@pytest.fixture(scope="module")
def model() -> ResNet38:
    return ResNet38(7)


def test_tensors_are_those_of_the_published_file() -> None:
    expected: dict[str, tuple[int, ...]] = {"conv1a.weight": (64, 3, 3, 3)}

    def norm(name: str, width: int) -> None:
        expected.update({f"{name}.{k}": (width,) for k in ("weight", "bias", "running_mean", "running_var")})

    for block, (start, *widths) in BLOCKS.items():
        kernels = (3, 3) if len(widths) == 2 else (1, 3, 1)
        if start != widths[-1]:
            expected[f"blocks.{block}.res_branch1.weight"] = (widths[-1], start, 1, 1)
        for i, (width, kernel) in enumerate(zip(widths, kernels, strict=True)):
            branch = f"branch2{f'b{i}' if i else 'a'}"
            norm(f"blocks.{block}.bn_{branch}", start)
            expected[f"blocks.{block}.res_{branch}.weight"] = (width, start, kernel, kernel)
            start = width
    norm("bn7", 4096)
    expected |= {"conv6a.weight": (512, 4096, 3, 3), "conv6a.bias": (512,)}
    expected |= {"linear.weight": (19, 512, 3, 3), "linear.bias": (19,)}
    with torch.device("meta"):
        state = ResNet38(19).state_dict()
    assert {k: tuple(v.shape) for k, v in state.items() if not k.endswith("num_batches_tracked")} == expected
    assert sum("running" in k for k in expected) == 74
    assert len(expected) == 121 + 74
    assert sum(map(prod, expected.values())) == pytest.approx(124.0e6, rel=1e-3)


def test_strides_dilations_and_epsilon() -> None:
    with torch.device("meta"):
        network = ResNet38(19)
        assert network(torch.empty(1, 3, 504, 504)).logits.shape == (1, 19, 63, 63)
    convs = {name: module for name, module in network.named_modules() if isinstance(module, nn.Conv2d)}
    strided = {name for name, conv in convs.items() if conv.stride == (2, 2)}
    assert strided == {f"blocks.{n}a.res_{b}" for n in (2, 3, 4) for b in ("branch1", "branch2a")}
    dilated = {name: conv.dilation[0] for name, conv in convs.items() if conv.dilation != (1, 1)}
    second = [
        f"blocks.5{b}.res_branch2{c}" for b, c in (("a", "b1"), ("b1", "a"), ("b1", "b1"), ("b2", "a"), ("b2", "b1"))
    ]
    expected = dict.fromkeys(second, 2) | {"blocks.6a.res_branch2b1": 4, "blocks.7a.res_branch2b1": 4}
    assert dilated == expected | {"conv6a": 12, "linear": 12}
    assert {m.eps for m in network.modules() if isinstance(m, nn.BatchNorm2d)} == {1.001e-5}


@torch.no_grad()
def test_block_is_the_sum_written_out() -> None:
    block = PreactivationBlock(4, (3, 5, 6), 1, 1, 2, 0.5).eval()
    for name, buffer in block.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5)
    x = torch.randn(2, 4, 7, 9)
    relu, conv = torch.relu, nn.functional.conv2d
    weights = dict(block.named_parameters())
    start = relu(block.get_submodule("bn_branch2a")(x))
    y = conv(start, weights["res_branch2a.weight"])
    y = conv(relu(block.get_submodule("bn_branch2b1")(y)), weights["res_branch2b1.weight"], padding=2, dilation=2)
    y = conv(relu(block.get_submodule("bn_branch2b2")(y)), weights["res_branch2b2.weight"])
    torch.testing.assert_close(block(x), y + conv(start, weights["res_branch1.weight"]))
    same = PreactivationBlock(4, (3, 4), 1, 1, 1, 0.0).eval()
    nn.init.zeros_(dict(same.named_parameters())["res_branch2b1.weight"])
    torch.testing.assert_close(same(x), x, msg="the shortcut of a block that keeps its width is its bare input")


@torch.no_grad()
def test_odd_sizes_and_batches(model: ResNet38) -> None:
    output = model.eval()(torch.rand(2, 3, 49, 67))
    assert output.logits.shape == (2, 7, ceil(49 / 8), ceil(67 / 8))
    assert output.features.shape == (2, model.feature_channels, *output.logits.shape[-2:])
    torch.testing.assert_close(model.linear(output.features), output.logits)
    assert output.aux is None


def test_gradients_flow_and_frozen_normalisation_keeps_still(model: ResNet38) -> None:
    set_norm_mode(model, "affine")
    model.train().zero_grad()
    before = model.bn7.running_mean.clone()  # type: ignore[union-attr]
    torch.nn.functional.cross_entropy(model(torch.rand(2, 3, 24, 33)).logits, torch.ones(2, 3, 5).long()).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []
    assert torch.equal(model.bn7.running_mean, before)  # type: ignore[arg-type]
    model.zero_grad(set_to_none=True)
    set_norm_mode(model, "train")


@torch.no_grad()
def test_dropout_acts_in_training_only() -> None:
    block = PreactivationBlock(8, (8, 8), 1, 1, 1, 0.5)
    set_norm_mode(block, "frozen")
    x = torch.randn(1, 8, 6, 6)
    assert not torch.equal(block.train()(x), block(x))
    assert torch.equal(block.eval()(x), block(x))
    with torch.device("meta"):
        rates = {n: b.dropout for n, b in ResNet38(2, dropout=(0.1, 0.2)).blocks.items()}  # type: ignore[union-attr]
    assert {n: r for n, r in rates.items() if r} == {"6a": 0.1, "7a": 0.2}


def test_heads_description_and_wrong_options() -> None:
    with torch.device("meta"):
        network = ResNet38(2, dropout=(0.1, 0.2))
        description = network.description()
        assert description.pop("name") == "resnet38"
        del description["preprocessing"]
        assert ResNet38(**description).description() == network.description()
    heads = {id(p) for module in network.head_modules() for p in module.parameters()}
    names = {n for n, p in network.named_parameters() if id(p) in heads}
    assert names == {"conv6a.weight", "conv6a.bias", "linear.weight", "linear.bias"}
    for wrong in ((0.3, 1.0), (0.3,)):
        with pytest.raises(RequestError, match="dropout is"):
            ResNet38(2, dropout=wrong)  # type: ignore[arg-type]
