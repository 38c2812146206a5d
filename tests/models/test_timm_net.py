"""The light decoder on timm encoders: any classes, any size, any batch, any precision."""

from __future__ import annotations

import pytest
import torch

from segadapt.errors import RequestError
from segadapt.models.build import MODELS, build_segmenter
from segadapt.models.norm import set_norm_mode
from segadapt.models.timm_net import TimmSegmenter

TINY = "timm:resnet10t"


@pytest.mark.parametrize("name", [TINY, "lite", "timm:convnext_atto", "timm:mobilenetv3_small_050"])
@pytest.mark.parametrize(("classes", "size"), [(2, (97, 131)), (7, (64, 64))])
def test_shapes(name: str, classes: int, size: tuple[int, int]) -> None:
    model = build_segmenter(name, classes, width=32).eval()
    out = model(torch.rand(1, 3, *size))
    assert out.logits.shape[:2] == (1, classes)
    assert out.features.shape[:2] == (1, model.feature_channels)
    for pixels, cells in zip(size, out.logits.shape[-2:], strict=True):
        assert pixels // model.stride <= cells <= -(-pixels // model.stride)
    assert out.features.shape[-2:] == out.logits.shape[-2:]
    assert out.aux is None


def test_every_parameter_learns_and_head_and_encoder_are_apart() -> None:
    model = build_segmenter(TINY, 3, width=16)
    set_norm_mode(model, "affine")
    model.train()
    model(torch.rand(1, 3, 48, 48)).logits.square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    head = {id(p) for m in model.head_modules() for p in m.parameters()}
    encoder = {id(p) for p in model.encoder.parameters()}
    assert not head & encoder
    assert head | encoder == {id(p) for p in model.parameters()}


def test_a_finer_or_coarser_output() -> None:
    coarse = build_segmenter(TINY, 3, width=16, finest=8).eval()
    assert coarse.stride == 8
    assert coarse(torch.rand(1, 3, 64, 64)).logits.shape[-2:] == (8, 8)
    with pytest.raises(RequestError, match="lower 'finest'"):
        build_segmenter(TINY, 3, finest=64)


def test_bf16_is_close_to_fp32() -> None:
    torch.manual_seed(0)
    model = build_segmenter(TINY, 5, width=32).eval()
    x = torch.rand(2, 3, 64, 96)
    with torch.inference_mode():
        full = model(x).logits
        with torch.autocast("cpu", torch.bfloat16):
            half = model(x).logits.float()
    assert float((full - half).abs().max()) < 0.05 * float(full.std()) + 0.05


def test_a_description_builds_the_same_network() -> None:
    model = build_segmenter("lite", 4, width=24, dropout=0.1).eval()
    again = build_segmenter(**model.description()).eval()
    again.load_state_dict(model.state_dict())
    x = torch.rand(1, 3, 40, 56)
    assert torch.equal(model(x).logits, again(x).logits)
    assert again.preprocessing == model.preprocessing


@pytest.mark.parametrize("name", ["deeplabv2_resnet50", "fcn8s_vgg16", "resnet38"])
def test_the_other_networks_are_built_by_name_too(name: str) -> None:
    with torch.device("meta"):
        model = build_segmenter(name, 5)
        again = build_segmenter(**model.description())
    shapes = {k: v.shape for k, v in model.state_dict().items()}
    assert shapes == {k: v.shape for k, v in again.state_dict().items()}
    assert again.description() == model.description()


def test_wrong_names_are_answered() -> None:
    with pytest.raises(RequestError, match=r"did you mean 'lite'"):
        build_segmenter("lit", 2)
    with pytest.raises(RequestError, match="timm has no encoder 'resnet18x'"):
        build_segmenter("timm:resnet18x", 2)
    for encoder in ("vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"):
        with pytest.raises(RequestError, match=f"timm's '{encoder}' takes images of one size only; choose a convol"):
            build_segmenter(f"timm:{encoder}", 2)
    with pytest.raises(RequestError, match="does not take these arguments"):
        build_segmenter("lite", 2, depth=3)
    assert set(MODELS) >= {"lite", "deeplabv2_resnet101", "fcn8s_vgg16", "resnet38"}


def test_lite_expects_what_its_weights_were_trained_on() -> None:
    model = build_segmenter("lite", 2)
    assert isinstance(model, TimmSegmenter)
    assert model.preprocessing.mean == (0.5, 0.5, 0.5)
    assert model.preprocessing.std == (0.5, 0.5, 0.5)
