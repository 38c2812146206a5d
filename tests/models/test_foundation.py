"""Foundation encoders: timm's own numbers, any size, frozen blocks, model files, and every method on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from segadapt.errors import RequestError
from segadapt.labels import CAMVID
from segadapt.models.build import ModelConfig, accepted_arguments, build_segmenter
from segadapt.models.foundation_encoder import require_encoder
from segadapt.models.foundation_heads import LightHead
from segadapt.models.licences import weights_in_words
from segadapt.models.store import load_model, save_model

TINY = "foundation:test_vit"


def reference(model: Any, encoder: str, **arguments: Any) -> Any:
    """Timm's own network with the weights of ours."""
    made = timm.create_model(encoder, **arguments).eval()
    lacking, further = made.load_state_dict(model.encoder.state_dict(), strict=False)
    assert not further
    assert all(name.startswith(("head", "fc_norm", "attn_pool")) for name in lacking)
    return made


def tokens_as_map(tokens: Tensor, rows: int, prefix: int) -> Tensor:
    """Class and register tokens left out, [B, N, D] -> [B, D, h, w]."""
    return tokens[:, prefix:].unflatten(1, (rows, -1)).permute(0, 3, 1, 2)


# ---- timm's numbers ----


@pytest.mark.parametrize(
    ("encoder", "patch"),
    [
        ("vit_small_patch14_dinov2.lvd142m", 14),
        ("vit_small_patch16_dinov3.lvd1689m", 16),
        ("eva02_tiny_patch14_224.mim_in22k", 14),
        ("vit_tiny_patch16_224", 16),
        ("test_vit3", 16),
    ],
)
def test_maps_are_those_of_timm(encoder: str, patch: int) -> None:
    """All-zero difference to timm's forward_features and to its feature maps, at a size that it was not made for."""
    torch.manual_seed(0)
    model = build_segmenter(f"foundation:{encoder}", 3, maps=4).eval()
    rows, x = 3, torch.rand(1, 3, 3 * patch, 4 * patch)
    with torch.inference_mode():
        maps = model.encode(x)
        one = reference(model, encoder, dynamic_img_size=True)
        last = one.forward_features(x)
        depth = len(model.encoder.blocks)
        indices = [depth * i // 4 - 1 for i in range(1, 5)]
        several = one.forward_intermediates(x, indices=indices, norm=True, intermediates_only=True)
    assert torch.equal(maps[-1], tokens_as_map(last, rows, one.num_prefix_tokens))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(maps, several, strict=True))
    assert not torch.equal(maps[0], maps[-1])


@pytest.mark.parametrize("encoder", ["convnext_atto", "test_convnext"])
def test_maps_of_a_convnext_are_those_of_timm(encoder: str) -> None:
    torch.manual_seed(0)
    model = build_segmenter(f"foundation:{encoder}", 3, head="daformer", width=16).eval()
    x = torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        maps = model.encode(x)
        theirs = timm.create_model(encoder, features_only=True).eval()
        renamed = {
            k.replace("stem.", "stem_").replace("stages.", "stages_"): v for k, v in model.encoder.state_dict().items()
        }
        theirs.load_state_dict(renamed)
        expected = theirs(x)
        last = reference(model, encoder).forward_features(x)
    assert all(torch.equal(ours, other) for ours, other in zip(maps, expected, strict=True))
    assert torch.equal(maps[-1], last)
    assert model.stride == 4
    assert model(x).logits.shape[-2:] == (16, 24)


def test_the_light_head_is_that_of_vfm_uda() -> None:
    """Restated with functions of torch."""
    torch.manual_seed(0)
    head = LightHead(16, 1, 5, 0.0)
    x = torch.randn(2, 16, 3, 4)

    def norm(z: Tensor, layer: Any) -> Tensor:
        centred = z - z.mean(1, keepdim=True)
        z = centred / (z.var(1, keepdim=True, unbiased=False) + layer.eps).sqrt()
        return z * layer.weight[:, None, None] + layer.bias[:, None, None]

    one, n1, _, two, n2 = head.enlarge
    z = nn.functional.conv_transpose2d(x, one.weight, one.bias, stride=2)
    z = nn.functional.gelu(norm(z, n1))
    z = norm(nn.functional.conv_transpose2d(z, two.weight, two.bias, stride=2), n2)
    conv, n3 = head.fuse
    features = norm(nn.functional.conv2d(z, conv.weight, conv.bias, padding=1), n3)
    logits, found = head([x])
    assert features.shape == (2, 4, 12, 16)
    torch.testing.assert_close(found, features, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(logits, torch.einsum("kc,bchw->bkhw", head.classifier.weight[..., 0, 0], features))
    assert head.classifier.bias is None
    assert 0.07 < float(head.classifier.weight.detach().std()) < 0.13


# ---- sizes and shapes ----


@pytest.mark.parametrize("arguments", [{}, {"maps": 4}, {"head": "daformer", "width": 16}, {"patch": 14}])
@pytest.mark.parametrize("size", [(32, 48), (37, 91), (9, 16)])
def test_any_size_and_patch(arguments: dict[str, Any], size: tuple[int, int]) -> None:
    """The logits cover the image: a quarter of the patch per cell, of sides brought to its next multiple."""
    model = build_segmenter(TINY, 3, **arguments).eval()
    patch = arguments.get("patch", 16)
    cells = tuple(4 * -(-side // patch) for side in size)
    out = model(torch.rand(2, 3, *size))
    assert out.logits.shape == (2, 3, *cells)
    assert out.features.shape == (2, model.feature_channels, *cells)
    assert out.deep is not None
    assert torch.equal(out.deep, out.maps[-1])  # type: ignore[index]
    assert [x.shape[1] for x in out.maps or ()] == list(model.map_channels)


def test_images_are_resized_to_the_next_multiple_and_never_shrunk() -> None:
    model: Any = build_segmenter(TINY, 3, enlarge=1.09375, patch=14)
    assert model._shown(1024, 512) == (1120, 560)
    assert model._shown(1, 1025) == (14, 1134)
    assert model.stride == round(14 / 4 / 1.09375)
    plain: Any = build_segmenter(TINY, 3).eval()
    x = torch.rand(1, 3, 40, 64)
    resized = torch.nn.functional.interpolate(x, (48, 64), mode="bilinear", align_corners=False)
    assert torch.equal(plain.network(x).logits, plain.network(resized).logits)


def test_another_patch_keeps_the_grid_of_the_learnt_positions() -> None:
    model: Any = build_segmenter("foundation:vit_small_patch14_dinov2", 3, patch=16)
    assert model.encoder.pos_embed.shape == (1, 1 + 37 * 37, 384)
    assert model.encoder.patch_embed.proj.weight.shape == (384, 3, 16, 16)
    assert model.stride == 4


def test_the_preprocessing_is_that_of_the_weights() -> None:
    with torch.device("meta"):
        means = {
            name: build_segmenter(f"foundation:{name}", 2).preprocessing.mean[0]
            for name in ("vit_small_patch14_dinov2", "eva02_tiny_patch14_224", "vit_tiny_patch16_224")
        }
    assert means == {
        "vit_small_patch14_dinov2": 0.485,
        "eva02_tiny_patch14_224": 0.48145466,
        "vit_tiny_patch16_224": 0.5,
    }


def test_images_of_other_bands() -> None:
    model = build_segmenter(TINY, 3, bands=5).eval()
    assert model(torch.rand(1, 5, 32, 32)).logits.shape[1] == 3


# ---- training ----


def test_every_parameter_learns_unless_it_is_frozen() -> None:
    for arguments in ({}, {"maps": 4}, {"head": "daformer", "width": 16}, {"frozen": 2}, {"frozen": "all"}):
        model: Any = build_segmenter(TINY, 3, **arguments)
        model(torch.rand(2, 3, 64, 64)).logits.square().mean().backward()
        still = {name for name, p in model.named_parameters() if not p.requires_grad}
        assert all((p.grad is None) == (name in still) for name, p in model.named_parameters())
        frozen = arguments.get("frozen", 0)
        blocks = {int(name.split(".")[2]) for name in still if name.startswith("encoder.blocks")}
        assert blocks == set(range(len(model.encoder.blocks) if frozen == "all" else frozen))
        assert ("encoder.pos_embed" in still) == bool(frozen)
        assert ("encoder.norm.weight" in still) == (frozen == "all")
        assert not any(name.startswith("head.") for name in still)


@pytest.mark.parametrize(
    ("encoder", "arguments"),
    [
        ("vit_small_patch14_dinov2.lvd142m", {}),
        ("convnext_atto", {}),
        ("convnext_atto", {"head": "daformer", "width": 16}),
        ("test_vit", {"maps": 4, "frozen": 1}),
        ("test_vit", {"head": "daformer", "width": 16}),
        ("test_vit", {"lora": {"rank": 2, "start": "minor"}}),
        ("test_convnext", {"lora": {"rank": 2, "targets": ["fc1", "fc2"]}}),
    ],
)
def test_two_steps_and_a_model_file(tmp_path: Path, encoder: str, arguments: dict[str, Any]) -> None:
    """The loaded network gives the same output, and the same parameters learn."""
    model = build_segmenter(f"foundation:{encoder}", len(CAMVID), **arguments)
    optimiser = torch.optim.AdamW(p for p in model.parameters() if p.requires_grad)
    x = torch.rand(2, 3, 40, 64)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for _ in range(2):
        optimiser.zero_grad()
        model(x).logits.logsumexp(1).mean().backward()
        optimiser.step()
    save_model(tmp_path / "model.safetensors", model, CAMVID, {})
    again = load_model(tmp_path / "model.safetensors").model
    with torch.no_grad():
        assert torch.equal(model.eval()(x).logits, again(x).logits)
    learning = [[name for name, p in one.named_parameters() if p.requires_grad] for one in (model, again)]
    assert learning[0] == learning[1]
    assert all(torch.equal(p, before[name]) == (name not in learning[0]) for name, p in model.named_parameters())


def test_bf16_is_close_to_fp32() -> None:
    torch.manual_seed(0)
    model = build_segmenter(TINY, 5, lora={"rank": 4}).eval()
    x = torch.rand(2, 3, 64, 96)
    with torch.inference_mode():
        full = model(x).logits
        with torch.autocast("cpu", torch.bfloat16):
            half = model(x).logits.float()
    assert float((full - half).abs().mean()) < 0.05 * float(full.std())


# ---- names, weights, licences ----


@pytest.mark.parametrize("prefix", ["timm", "foundation"])
def test_tagged_names_are_networks_everywhere(prefix: str) -> None:
    name = f"{prefix}:convnext_tiny.dinov3_lvd1689m"
    with torch.device("meta"):
        model = build_segmenter(name, 2)
        assert build_segmenter(**model.description()).description() == model.description()
    assert model.preprocessing.mean == (0.485, 0.456, 0.406)
    assert "classes" in (accepted_arguments(name) or ())


@pytest.mark.parametrize(
    ("name", "arguments", "answer"),
    [
        ("vit_smal_patch14_dinov2", {}, r"timm has no encoder 'vit_smal_patch14_dinov2' \(did you mean 'vit_small_pat"),
        ("vit_small_patch14_dinov2.lvd", {}, "timm has no weights 'lvd' of 'vit_small_patch14_dinov2'.*: lvd142m"),
        ("resnet10t", {}, "neither a vision transformer nor a ConvNeXt; take a network 'timm:resnet10t'"),
        ("test_vit", {"head": "heavy"}, "foundation: head is 'heavy'; give 'light' or 'daformer'"),
        ("test_vit", {"maps": 3}, "maps is 3; give 1, 4 or null"),
        ("test_vit", {"patch": 0}, "patch is 0"),
        ("test_convnext", {"patch": 16}, "patch is 16 for 'test_convnext'; vision transformers take"),
        ("test_convnext", {"maps": 4}, "maps is 4; of a ConvNeXt"),
        ("test_vit", {"enlarge": 0}, "enlarge is 0"),
        ("test_vit", {"dropout": 1.0}, "dropout is 1.0; give a probability"),
        ("test_vit", {"frozen": 99}, "frozen is 99; give a number of the 6 blocks"),
        ("test_vit", {"lora": {"rang": 1}}, r"model.arguments.lora of 'test_vit': .*'rang'.*'rank'"),
        (
            "test_vit",
            {"lora": {"targets": ["query"]}},
            "no linear layer 'query' in the blocks; targets: fc1, fc2, proj",
        ),
        ("test_vit", {"lora": {"rank": 99}}, "lora: rank is 99; 'attn.qkv' has"),
        ("test_vit", {"lora": {"first_block": 9}}, "lora: first_block is 9; the encoder has 6 blocks"),
        ("test_vit", {"depth": 2}, "does not take these arguments"),
    ],
)
def test_wrong_requests_are_answered_in_one_line(name: str, arguments: dict[str, Any], answer: str) -> None:
    with pytest.raises(RequestError, match=answer) as refusal:
        build_segmenter(f"foundation:{name}", 3, **arguments)
    assert "\n" not in str(refusal.value)


def test_a_transformer_is_sent_from_timm_to_foundation() -> None:
    with pytest.raises(RequestError, match="for a vision transformer 'foundation:vit_tiny_patch16_224'"):
        build_segmenter("timm:vit_tiny_patch16_224", 2)


def test_published_weights_are_loaded_where_they_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = "test_vit.r160_in1k"
    monkeypatch.setattr("segadapt.models.weights.timm_weights_reachable", lambda name: False)
    with pytest.raises(RequestError, match=r"copy model.safetensors of timm/test_vit.r160_in1k at .*FILE"):
        build_segmenter(f"foundation:{encoder}", 2, weights="imagenet")
    monkeypatch.setattr("segadapt.models.weights.timm_weights_reachable", lambda name: True)
    create = timm.create_model

    def loaded(name: str, pretrained: bool = False, **more: Any) -> nn.Module:
        """Weights of ones in place of a download."""
        made = create(name, pretrained=False, **more)
        for p in made.parameters() if pretrained else ():
            nn.init.ones_(p)
        return made

    monkeypatch.setattr(timm, "create_model", loaded)
    model = build_segmenter(f"foundation:{encoder}", 2, weights="imagenet", lora={"rank": 1})
    weights = [p for name, p in model.encoder.named_parameters() if not name.endswith((".down", ".up"))]
    assert all(bool((p == 1).all()) for p in weights)


@pytest.mark.parametrize(
    ("model", "line"),
    [
        ({"name": "foundation:vit_small_patch16_dinov3"}, "dinov3.lvd1689m of timm: licence dinov3-license"),
        ({"name": "timm:convnext_tiny.dinov3_lvd1689m"}, "dinov3_lvd1689m of timm: licence dinov3-license"),
        ({"name": "hrda:foundation:vit_base_patch16_224.mae"}, "mae of timm: licence cc-by-nc-4.0"),
        ({"name": "foundation:vit_small_patch14_dinov2", "weights": "a.pth"}, "file 'a.pth'; .* licence apache-2.0"),
        ({"name": "foundation:vit_small_patch14_dinov2", "weights": None}, "^$"),
        ({"name": "lite"}, "^$"),
    ],
)
def test_licences_are_said(model: dict[str, Any], line: str) -> None:
    import re

    assert re.search(line, weights_in_words(ModelConfig(**model)))


def test_encoders_without_weights_have_no_tags() -> None:
    require_encoder("vit_small_patch14_dinov2.lvd142m")
    with pytest.raises(RequestError, match="there are: lvd142m"):
        require_encoder("vit_small_patch14_dinov2.other")
