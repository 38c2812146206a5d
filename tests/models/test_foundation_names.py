"""Files of other projects: written in their layout, read back, not a bit other."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from timm.layers import GluMlp, resample_abs_pos_embed
from timm.models import convnext, eva, vision_transformer
from torch import Tensor, nn

from segadapt.errors import RequestError
from segadapt.models.build import build_segmenter
from segadapt.models.foundation_names import to_timm
from tests.models import foundation_layouts as layouts

SMALL: dict[str, Any] = {"img_size": 8, "patch_size": 2, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 0}


def small(kind: str) -> nn.Module:
    """A tiny encoder of timm whose learnt numbers are multiples of 1/64, so that sums and differences are exact."""
    torch.manual_seed(0)
    dinov3 = {"use_rot_pos_emb": True, "use_abs_pos_emb": False, "num_reg_tokens": 4, "init_values": 1.0}
    made: dict[str, Callable[[], nn.Module]] = {
        "dinov2": partial(vision_transformer.VisionTransformer, **SMALL, init_values=1.0),
        "dinov2_registers": partial(
            vision_transformer.VisionTransformer, **SMALL, init_values=1.0, reg_tokens=4, no_embed_class=True
        ),
        "dinov2_gated": partial(
            vision_transformer.VisionTransformer, **SMALL, init_values=1.0, mlp_layer=partial(GluMlp, gate_last=False)
        ),
        "mae": partial(vision_transformer.VisionTransformer, **SMALL),
        "siglip": partial(vision_transformer.VisionTransformer, **SMALL, class_token=False, global_pool=""),
        "dinov3": partial(eva.Eva, **SMALL, **dinov3, qkv_bias=False, use_fc_norm=False),
        "dinov3_bias": partial(eva.Eva, **SMALL, **dinov3, qkv_bias=True, use_fc_norm=False),
        "dinov3_gated": partial(eva.Eva, **SMALL, **dinov3, qkv_bias=False, use_fc_norm=False, swiglu_mlp=True),
        "convnext": partial(convnext.ConvNeXt, depths=(1, 2, 1, 1), dims=(4, 8, 12, 20), num_classes=0),
    }
    body = made[kind]()
    if kind == "convnext":
        body.prune_intermediate_layers([3], prune_norm=True)  # type: ignore[operator]
    with torch.no_grad():
        for parameter in body.parameters():
            parameter.copy_(torch.randint(-64, 64, parameter.shape) / 64)
    return body


POSITION = torch.arange(16).reshape(1, 1, 16) / 64
WRITTEN: list[tuple[str, Callable[[dict[str, Tensor]], dict[str, Tensor]]]] = [
    ("dinov2", dict),
    ("dinov2", layouts.dinov2_hub),
    ("dinov2_registers", dict),
    ("dinov2_registers", partial(layouts.dinov2_hub, class_position=POSITION)),
    ("dinov2_gated", layouts.dinov2_hub),
    ("dinov2", layouts.dinov2_transformers),
    ("dinov2_registers", partial(layouts.dinov2_transformers, class_position=POSITION)),
    ("dinov2_gated", layouts.dinov2_transformers),
    ("dinov3", dict),
    ("dinov3", layouts.dinov3_hub),
    ("dinov3_bias", layouts.dinov3_hub),
    ("dinov3_gated", layouts.dinov3_hub),
    ("dinov3", layouts.dinov3_transformers),
    ("dinov3_bias", layouts.dinov3_transformers),
    ("dinov3_gated", layouts.dinov3_transformers),
    ("mae", layouts.mae_transformers),
    ("siglip", layouts.siglip_transformers),
    ("convnext", dict),
    ("convnext", layouts.convnext_meta),
    ("convnext", layouts.convnext_transformers),
]


@pytest.mark.parametrize(("kind", "write"), WRITTEN)
@pytest.mark.parametrize("prefix", ["", "model.backbone."])
def test_every_layout_is_read_exactly(
    kind: str, write: Callable[[dict[str, Tensor]], dict[str, Tensor]], prefix: str
) -> None:
    own = small(kind).state_dict()
    written = {prefix + key: value.clone() for key, value in write(dict(own)).items()}
    assert prefix or write is dict or set(written) != set(own)
    positions = 0 if kind in ("dinov2_registers", "siglip") else 1
    found = to_timm(written, own, kind, positions)
    assert found.keys() == own.keys()
    assert all(torch.equal(found[key], own[key]) for key in own)


@pytest.mark.parametrize(
    ("kind", "write", "of_timm"),
    [
        ("dinov2", layouts.dinov2_hub, vision_transformer.checkpoint_filter_fn),
        (
            "dinov2_registers",
            partial(layouts.dinov2_hub, class_position=POSITION),
            vision_transformer.checkpoint_filter_fn,
        ),
        ("dinov2_gated", layouts.dinov2_hub, vision_transformer.checkpoint_filter_fn),
        ("dinov3_bias", layouts.dinov3_hub, eva.checkpoint_filter_fn),
        ("dinov3_gated", layouts.dinov3_hub, eva.checkpoint_filter_fn),
        ("convnext", layouts.convnext_meta, convnext.checkpoint_filter_fn),
    ],
)
def test_the_hubs_are_read_as_timm_reads_them(kind: str, write: Any, of_timm: Any) -> None:
    """So our idea of their files is also timm's."""
    body = small(kind)
    own = body.state_dict()
    read = of_timm(write(dict(own)), body)
    assert own.keys() <= read.keys()
    assert all(torch.equal(read[key], own[key]) for key in own)


def test_positions_and_patches_of_another_size_are_resampled() -> None:
    own = small("dinov2").state_dict()
    torch.manual_seed(1)
    larger = vision_transformer.VisionTransformer(**{**SMALL, "img_size": 18, "patch_size": 3}, init_values=1.0)
    file = layouts.dinov2_transformers(larger.state_dict())
    found = to_timm(file, own, "dinov2", 1)
    positions = larger.pos_embed
    assert found["pos_embed"].shape == (1, 17, 16)
    assert torch.equal(found["pos_embed"], resample_abs_pos_embed(positions, [4, 4], [6, 6], num_prefix_tokens=1))
    assert torch.equal(found["pos_embed"][:, 0], positions[:, 0])
    assert found["patch_embed.proj.weight"].shape == (16, 3, 2, 2)
    body = vision_transformer.VisionTransformer(**SMALL, init_values=1.0)
    by_timm = vision_transformer.checkpoint_filter_fn(dict(larger.state_dict()), body)
    assert all(torch.equal(found[key], by_timm[key]) for key in own)


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        (lambda s: s.pop("blocks.1.mlp.fc2.weight"), r"it lacks 'blocks.1.mlp.fc2.weight' \(names of timm\)"),
        (lambda s: s.update({"blocks.2.norm1.weight": s["norm.weight"]}), "it has 'blocks.2.norm1.weight'"),
        (
            lambda s: s.update({"blocks.0.norm1.weight": torch.ones(3)}),
            r"its 'blocks.0.norm1.weight' has shape \(3,\), not \(16,\)",
        ),
        (lambda s: s.pop("cls_token") is s.pop("norm.bias"), "it lacks 'cls_token' and 1 more"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_in_one_line(change: Any, answer: str) -> None:
    own = small("dinov2").state_dict()
    file = dict(own)
    change(file)
    with pytest.raises(RequestError, match="these are not the weights of 'dinov2': " + answer) as refusal:
        to_timm(file, own, "dinov2", 1)
    assert "\n" not in str(refusal.value)


def test_a_bias_that_the_encoder_lacks_is_not_dropped_silently() -> None:
    own = small("dinov3").state_dict()
    file = layouts.dinov3_hub(dict(own))
    file["blocks.0.attn.qkv.bias"][0] = 1.0
    with pytest.raises(RequestError, match=r"it has 'blocks\.0\.attn\.qkv\.bias'"):
        to_timm(file, own, "dinov3", 1)


def test_other_files_are_refused() -> None:
    own = small("dinov2").state_dict()
    with pytest.raises(RequestError, match=r"its first tensor is 'layer1\.0\.conv1\.weight'; layouts that are read"):
        to_timm({"layer1.0.conv1.weight": torch.ones(1)}, own, "dinov2", 1)


@pytest.mark.parametrize("write", [layouts.dinov2_hub, layouts.dinov2_transformers, layouts.mae_transformers])
def test_a_network_takes_a_file(tmp_path: Path, write: Any) -> None:
    encoder = "foundation:test_vit"
    torch.manual_seed(0)
    one = build_segmenter(encoder, 3)
    state = {key: value.contiguous() for key, value in write(dict(one.encoder.state_dict())).items()}
    save_file(state, tmp_path / "weights.safetensors")
    two = build_segmenter(encoder, 3, weights=str(tmp_path / "weights.safetensors"))
    x = torch.rand(1, 3, 40, 50)
    assert torch.equal(one.deep_features(x), two.deep_features(x))
    save_file({"a": torch.ones(1)}, tmp_path / "other.safetensors")
    with pytest.raises(RequestError, match=r"other.safetensors': these are no weights of 'test_vit'"):
        build_segmenter(encoder, 3, weights=str(tmp_path / "other.safetensors"))


def test_the_file_of_mae_is_read(tmp_path: Path) -> None:
    """Its tensors stand under 'model'; the decoder is not needed."""
    one = build_segmenter("foundation:test_vit", 3)
    state = {**one.encoder.state_dict(), "decoder_blocks.0.norm1.weight": torch.ones(1), "mask_token": torch.ones(1)}
    torch.save({"model": state}, tmp_path / "mae.pth")
    two = build_segmenter("foundation:test_vit", 3, weights=str(tmp_path / "mae.pth"))
    x = torch.rand(1, 3, 32, 32)
    assert torch.equal(one.deep_features(x), two.deep_features(x))
