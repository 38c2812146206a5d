"""The network of DAFormer: agreement with the public implementation, any encoder, any norm, model files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segadapt.errors import RequestError
from segadapt.labels import CAMVID, CITYSCAPES
from segadapt.models import unpacking
from segadapt.models.build import MODELS, build_segmenter
from segadapt.models.daformer_files import choose_network
from segadapt.models.daformer_net import DAFormerNet
from segadapt.models.fusion_head import DAFormerHead, SeparablePyramid
from segadapt.models.importing import import_checkpoint
from segadapt.models.mit import SIZES
from segadapt.models.multires import MultiRes
from segadapt.models.norm import set_norm_mode
from segadapt.models.segmenter import IMAGENET
from segadapt.models.store import load_model, save_model
from segadapt.models.unpacking import Checkpoint
from segadapt.models.weights import lite_imagenet
from tests.golden_vectors import FOLDER
from tests.models.golden import GoldenModel, golden_model

NAMES = ("daformer_mit_b0", "daformer_lite", "daformer:resnet10t", "daformer:convnext_atto")


# ---- the published networks ----


@pytest.fixture(scope="module")
def golden() -> GoldenModel:
    """85 million drawn weights."""
    return golden_model("daformer_mitb5")


def containers(state: dict[str, Tensor], name: str) -> dict[str, Any]:
    """Return the content of each published container of a golden network; copies are constants without storage."""
    found = {}
    for variant in json.loads((FOLDER / "models" / f"{name}.json").read_text())["container"]["variants"]:
        kept = {variant.get("add_prefix", "") + key: value for key, value in state.items()}
        for n, prefix in enumerate(variant.get("copies", ())):
            copied = {prefix + k.removeprefix("model."): torch.full((), n).expand(v.shape) for k, v in state.items()}
            kept.update(copied)
        found[variant["name"]] = {key: kept if node == "$SD" else node for key, node in variant["skeleton"].items()}
    return found


def chosen(content: Any, monkeypatch: pytest.MonkeyPatch) -> Checkpoint:
    """Import the network from a container as if it were a file."""
    with monkeypatch.context() as patched:
        patched.setattr(unpacking, "read_tensors", lambda path: content)
        checkpoint = unpacking.unpack(Path("latest.pth"))
    choose_network(checkpoint)
    return checkpoint


@torch.no_grad()
def test_agrees_with_the_public_implementations(
    golden: GoldenModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only one file of several hundred megabytes is written; the tests of importing write all of a small network."""
    for name, content in containers(golden.state, "daformer_mitb5").items():
        checkpoint = chosen(content, monkeypatch)
        assert len(checkpoint.state) == len(golden.state)
        for key, value in checkpoint.state.items():
            assert torch.equal(value, golden.state[f"model.{key.replace('encoder.', 'backbone.')}"]), (name, key)
        expected = ["ema_model", "imnet_model", "meta", "optimizer"] if name == "training" else []
        assert sorted(checkpoint.dropped) == expected
    path = tmp_path / "latest.pth"
    torch.save(containers(golden.state, "daformer_mitb5")["published"], path)
    loaded = import_checkpoint(path)
    path.unlink()
    model = loaded.model
    assert isinstance(model, DAFormerNet)
    assert not model.training
    assert loaded.space == CITYSCAPES
    output, maps = model.network(golden.input), model.encode(golden.input)
    for stage, x in enumerate(maps, 1):
        golden.assert_close(f"feat{stage}", x)
    assert output.deep is not None
    golden.assert_close("feat4", output.deep)
    golden.assert_close("logits", output.logits)
    full = F.interpolate(output.logits, golden.input.shape[-2:], mode="bilinear")
    golden.assert_close("logits_up", full[:, :, ::3, ::3])
    torch.testing.assert_close(model.decode_head.conv_seg(output.features), output.logits)
    assert output.features.shape == (1, 256, 24, 32)
    head = sum(p.numel() for p in model.decode_head.parameters())
    assert [round(n / 1e6, 2) for n in (sum(p.numel() for p in model.parameters()), head)] == [85.16, 3.71]
    _compare_hrda(model, golden.state, monkeypatch)


def _compare_hrda(plain: DAFormerNet, known: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    """The same encoder with other heads, under the names that HRDA's files give them."""
    golden = golden_model("hrda_branches", known)
    meta = json.loads((FOLDER / "models/hrda_branches.json").read_text())
    model = MultiRes(plain).eval()
    for content in containers(golden.state, "hrda_branches").values():
        model.load_state_dict(chosen(content, monkeypatch).state)
    context = model.base.encode(F.interpolate(golden.input, scale_factor=0.5, mode="bilinear"))
    top, bottom, left, right = meta["input"]["hr_crop_box"]
    detail = model.base.encode(golden.input[..., top:bottom, left:right])
    golden.assert_close("lr_feat4", context[-1])
    golden.assert_close("hr_feat4", detail[-1])
    golden.assert_close("lr_logits", model.base.decode(context)[0])
    golden.assert_close("hr_logits", model.base.decode(detail)[0])
    assert model.attention is not None
    golden.assert_close("attention", model.attention(context).sigmoid())


# ---- small ones ----


def network(name: str = "daformer_mit_b0", classes: int = 4, **arguments: Any) -> DAFormerNet:
    torch.manual_seed(0)
    model = build_segmenter(name, classes, **{"width": 16, **arguments})
    assert isinstance(model, DAFormerNet)
    nn.init.normal_(model.decode_head.conv_seg.weight)
    return model


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("classes", "size"), [(2, (97, 131)), (7, (64, 64))])
@torch.no_grad()
def test_shapes(name: str, classes: int, size: tuple[int, int]) -> None:
    model = network(name, classes).eval()
    out = model(torch.rand(2, 3, *size))
    cells = tuple(-(-side // 4) if "convnext" not in name else side // 4 for side in size)
    assert model.stride == 4
    assert out.logits.shape == (2, classes, *cells)
    assert out.features.shape == (2, 16, *cells)
    assert out.aux is out.detail is None
    maps = model.encode(torch.rand(1, 3, *size))
    assert [x.shape[1] for x in maps] == model.encoder_channels
    assert len(maps) == 4
    assert maps[0].shape[-2:] == cells
    x = torch.rand(1, 3, *size)
    deep = model(x).deep
    assert deep is not None
    assert torch.equal(model.deep_features(x), deep)
    assert deep.shape[1] == model.encoder_channels[-1]


@torch.no_grad()
def test_the_head_restated() -> None:
    """Linear, enlarge, four branches, bottleneck, classifier; written with functions and the stored tensors."""
    torch.manual_seed(0)
    head = DAFormerHead([3, 5], 4, width=8, dropout=0.0).eval()
    for parameter in head.parameters():
        parameter.normal_()
    state = head.state_dict()
    maps = [torch.randn(2, 3, 9, 11), torch.randn(2, 5, 5, 6)]

    def unit(x: Tensor, name: str, dilation: int = 1, groups: int = 1) -> Tensor:
        weight = state[f"{name}.conv.weight"]
        y = F.conv2d(x, weight, padding=dilation * (weight.shape[-1] // 2), dilation=dilation, groups=groups)
        scale, shift = state[f"{name}.bn.weight"] / (1 + 1e-5) ** 0.5, state[f"{name}.bn.bias"]
        return (y * scale[:, None, None] + shift[:, None, None]).relu()

    projected = []
    for i, x in enumerate(maps):
        y = torch.einsum("bchw,dc->bdhw", x, state[f"embed_layers.{i}.proj.weight"])
        y = y + state[f"embed_layers.{i}.proj.bias"][:, None, None]
        projected.append(F.interpolate(y, (9, 11), mode="bilinear"))
    z = torch.cat(projected, 1)
    branches = [unit(z, "fuse_layer.aspp_modules.0")]
    for i, dilation in enumerate((6, 12, 18), 1):
        spread = unit(z, f"fuse_layer.aspp_modules.{i}.depthwise_conv", dilation, groups=16)
        branches.append(unit(spread, f"fuse_layer.aspp_modules.{i}.pointwise_conv"))
    expected = unit(torch.cat(branches, 1), "fuse_layer.bottleneck")
    logits, features = head(maps)
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-3)
    by_hand = torch.einsum("bchw,kc->bkhw", expected, state["conv_seg.weight"][..., 0, 0])
    torch.testing.assert_close(logits, by_hand + state["conv_seg.bias"][:, None, None], rtol=1e-4, atol=1e-2)


def test_features_are_those_before_the_dropout() -> None:
    model = network(dropout=0.5, drop_path=0.0, norm="group").train()
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        one, two = model(x), model(x)
        assert torch.equal(one.features, two.features)
        assert not torch.equal(one.logits, two.logits)
        assert torch.equal(model.eval()(x).features, one.features)


def test_a_group_norm_head_does_not_see_the_batch() -> None:
    """Only the published norm depends on the batch in training; in evaluation neither norm does."""
    x = torch.rand(3, 3, 48, 64)
    for norm, exact in (("group", True), ("batch", False)):
        model = network(norm=norm, dropout=0.0, drop_path=0.0).train()
        together = model(x).logits
        alone = torch.cat([model(x[i : i + 1]).logits for i in range(3)])
        assert torch.allclose(together, alone, atol=1e-4) is exact
        model.eval()
        torch.testing.assert_close(model(x).logits[:1], model(x[:1]).logits, atol=1e-4, rtol=1e-4)
    kinds = {type(m) for m in network(norm="group").decode_head.modules()}
    assert nn.GroupNorm in kinds
    assert nn.BatchNorm2d not in kinds


@pytest.mark.parametrize("name", NAMES[:3])
def test_every_parameter_learns_and_head_and_encoder_are_apart(name: str) -> None:
    model = network(name, drop_path=0.0) if "mit" in name else network(name)
    set_norm_mode(model, "affine")
    model.train()
    model(torch.rand(2, 3, 64, 64)).logits.square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    head = {id(p) for m in model.head_modules() for p in m.parameters()}
    encoder = {id(p) for p in model.encoder.parameters()}
    assert not head & encoder
    assert head | encoder == {id(p) for p in model.parameters()}


def test_a_model_file_brings_it_back(tmp_path: Path) -> None:
    options: dict[str, Any] = {"norm": "group", "dropout": 0.2}
    for name in NAMES:
        given = {**options, "drop_path": 0.3} if "mit" in name else options
        model = network(name, len(CAMVID), **given).eval()
        assert model.architecture == {"name": name, "width": 16, **given}
        save_model(tmp_path / "model.safetensors", model, CAMVID, {})
        again = load_model(tmp_path / "model.safetensors").model
        assert again.description() == model.description()
        x = torch.rand(1, 3, 40, 57)
        assert torch.equal(again(x).logits, model(x).logits)


def test_every_size_is_built_by_name() -> None:
    with torch.device("meta"):
        for size in SIZES:
            model = build_segmenter(f"daformer_{size}", 5)
            assert model.feature_channels == 256
            assert model.preprocessing == IMAGENET
            assert model.description()["name"] == f"daformer_{size}" in MODELS
        assert build_segmenter("daformer:mit_b4", 5).architecture["name"] == "daformer_mit_b4"
        assert "B0" in MODELS["daformer_mit_b0"]
        wide = build_segmenter("daformer:vgg11_bn", 3)  # strides 1, 2, 4, 8, 16, 32
    assert wide.get_submodule("decode_head.embed_layers.0.proj").in_features == 256
    pyramid = SeparablePyramid(4, 8, "batch")
    assert [m.dilation[0] for m in pyramid.modules() if isinstance(m, nn.Conv2d) and m.groups > 1] == [6, 12, 18]


def test_lite_has_its_weights_and_what_they_expect() -> None:
    model = network("daformer_lite", weights="imagenet")
    for own, stored in zip(model.encoder.state_dict().values(), lite_imagenet(), strict=False):
        assert torch.equal(own, stored)
    assert model.preprocessing.mean == (0.5, 0.5, 0.5)
    assert network("daformer:tf_efficientnet_lite0").architecture["name"] == "daformer_lite"


def test_weights_of_a_timm_encoder_and_of_the_whole(tmp_path: Path) -> None:
    donor = network("daformer:resnet10t")
    torch.save(donor.encoder.state_dict(), tmp_path / "encoder.pth")
    taken = network("daformer:resnet10t", 9, weights=str(tmp_path / "encoder.pth"))
    assert all(torch.equal(v, donor.encoder.state_dict()[k]) for k, v in taken.encoder.state_dict().items())
    small = network("daformer_mit_b0")
    torch.save(small.state_dict(), tmp_path / "whole.pth")
    whole = network("daformer_mit_b0", weights=str(tmp_path / "whole.pth"))
    with torch.no_grad():
        x = torch.rand(1, 3, 32, 32)
        assert torch.equal(whole.eval().network(x).features, small.eval().network(x).features)


def test_bf16_is_close_to_fp32() -> None:
    model = network(norm="group").eval()
    x = torch.rand(2, 3, 64, 96)
    with torch.inference_mode():
        full = model(x).logits
        with torch.autocast("cpu", torch.bfloat16):
            half = model(x).logits.float()
    assert float((full - half).abs().mean()) < 0.05 * float(full.std())


@pytest.mark.parametrize(
    ("name", "arguments", "answer"),
    [
        ("daformer_mit_b9", {}, r"no network 'daformer_mit_b9' \(did you mean 'daformer_mit_b"),
        ("daformer:resnet18x", {}, "timm has no encoder 'resnet18x'"),
        ("daformer:", {}, "no network 'daformer:'"),
        ("daformer_lite", {"norm": "layer"}, "norm of the head is 'layer'; choose one of batch, group"),
        ("daformer_lite", {"dropout": 1.0}, r"dropout of the head is 1.0; give"),
        ("daformer_lite", {"drop_path": 0.1}, "drop_path is an argument of Mix Transformers only; leave it out"),
        ("daformer_mit_b0", {"drop_path": -0.1}, r"mit_b0: drop_path is -0.1"),
        ("daformer_mit_b0", {"width": 0}, "width is 0"),
        ("daformer_mit_b0", {"depth": 3}, "does not take these arguments"),
    ],
)
def test_wrong_requests(name: str, arguments: dict[str, Any], answer: str) -> None:
    with pytest.raises(RequestError, match=answer) as refusal:
        build_segmenter(name, 3, **arguments)
    assert "\n" not in str(refusal.value)
