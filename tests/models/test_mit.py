"""Mix Transformers: sizes, images of any size, norms, stochastic depth, initialisation as published."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from timm.layers.drop import DropPath
from torch import nn

from segadapt.errors import RequestError
from segadapt.models.mit import SIZES, MixTransformer, ReducedAttention, size_of
from tests.golden_vectors import golden_op


@pytest.fixture(scope="module")
def small() -> MixTransformer:
    torch.manual_seed(0)
    return MixTransformer("mit_b0")


def counted(channels: tuple[int, ...], depths: tuple[int, ...]) -> int:
    """Parameters, from the description of the network in the paper."""
    total, before = 0, 3
    for c, depth, kernel, r in zip(channels, depths, (7, 3, 3, 3), (8, 4, 2, 1), strict=True):
        embedding = before * c * kernel**2 + c + 2 * c
        attention = 4 * (c * c + c) + (c * c * r * r + c + 2 * c if r > 1 else 0)
        feed_forward = 2 * 4 * c * c + 5 * c + (9 + 1) * 4 * c
        total += embedding + depth * (attention + feed_forward + 4 * c) + 2 * c
        before = c
    return total


@pytest.mark.parametrize(
    ("name", "millions"),
    [("mit_b0", 3.32), ("mit_b1", 13.15), ("mit_b2", 24.20), ("mit_b3", 44.07), ("mit_b4", 60.84), ("mit_b5", 81.44)],
)
def test_sizes_of_the_family(name: str, millions: float) -> None:
    with torch.device("meta"):
        model = MixTransformer(name)
    found = sum(p.numel() for p in model.parameters())
    assert found == counted(*SIZES[name])
    assert round(found / 1e6, 2) == millions
    assert size_of(model.state_dict()) == name
    if name == "mit_b5":
        assert len(model.state_dict()) == 1052


@torch.no_grad()
@pytest.mark.parametrize("size", [(64, 96), (97, 131), (33, 29), (5, 70), (1, 1)])
def test_images_of_any_size(small: MixTransformer, size: tuple[int, int]) -> None:
    maps = small.eval()(torch.randn(2, 3, *size))
    for x, channels, stride in zip(maps, small.channels, (4, 8, 16, 32), strict=True):
        assert x.shape == (2, channels, *(math.ceil(side / stride) for side in size))
        assert x.isfinite().all()


def test_each_norm_has_its_epsilon(small: MixTransformer) -> None:
    golden = golden_op("mit_layernorm_eps")
    block = small.get_submodule("block1.0")
    places = {
        "block_norm1": block.norm1,
        "block_norm2": block.norm2,
        "stage_norm1": small.get_submodule("norm1"),
        "patch_embed_norm": small.get_submodule("patch_embed1.norm"),
        "attention_sr_norm": block.attn.norm,
    }
    x, weight, bias = (golden.tensor(name).double() for name in ("x", "weight", "bias"))
    for name, norm in places.items():
        assert isinstance(norm, nn.LayerNorm)
        golden.assert_close(f"out_{name}", F.layer_norm(x, (64,), weight, bias, norm.eps))
    epsilons = {name: m.eps for name, m in small.named_modules() if isinstance(m, nn.LayerNorm)}
    loose = {name for name, eps in epsilons.items() if eps == 1e-5}
    assert loose == {name for name in epsilons if name.startswith("patch_embed") or name.endswith("attn.norm")}
    assert set(epsilons.values()) == {1e-5, 1e-6}


@torch.no_grad()
def test_attention_is_the_textbooks() -> None:
    """Softmax of scaled products over the reduced grid, head by head."""
    torch.manual_seed(1)
    layer = ReducedAttention(12, 3, 2).double()
    for parameter in layer.parameters():
        parameter.normal_()
    x = torch.randn(2, 5, 6, 12, dtype=torch.float64)
    coarse = layer.norm(F.conv2d(x.permute(0, 3, 1, 2), layer.sr.weight, layer.sr.bias, stride=2).permute(0, 2, 3, 1))
    key, value = layer.kv(coarse.flatten(1, 2)).split(12, -1)
    query, heads = layer.q(x.flatten(1, 2)), []
    for part in (slice(0, 4), slice(4, 8), slice(8, 12)):
        weights = (query[..., part] @ key[..., part].transpose(1, 2) / 2).softmax(-1)
        heads.append(weights @ value[..., part])
    expected = layer.proj(torch.cat(heads, -1)).reshape(2, 5, 6, 12)
    torch.testing.assert_close(layer(x), expected)


def test_depth_is_stochastic_and_rises_linearly() -> None:
    model = MixTransformer("mit_b0", drop_path=0.7)
    drops = [m.drop_path for n, m in model.named_modules() if n.startswith("block") and n.count(".") == 1]
    assert isinstance(drops[0], nn.Identity)
    assert [d.drop_prob for d in drops[1:]] == pytest.approx([0.7 * i / 7 for i in range(1, 8)])
    assert all(isinstance(d, DropPath) for d in drops[1:])
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        train = [model(x)[-1] for _ in range(2)]
        model.eval()
        assert not torch.equal(*train)
        assert torch.equal(model(x)[-1], model(x)[-1])
    with torch.device("meta"):
        assert MixTransformer("mit_b5").get_submodule("block4.2.drop_path").drop_prob == pytest.approx(0.1)
        assert not any(isinstance(m, DropPath) for m in MixTransformer("mit_b0", 0.0).modules())


def test_it_starts_as_published(small: MixTransformer) -> None:
    state = small.state_dict()
    assert float(state["block3.0.mlp.fc1.weight"].std()) == pytest.approx(0.02, rel=0.05)
    outgoing = {"patch_embed1.proj": 7 * 7 * 32, "block3.1.mlp.dwconv.dwconv": 9, "block1.0.attn.sr": 64 * 32}
    for name, count in outgoing.items():
        assert float(state[f"{name}.weight"].std()) == pytest.approx(math.sqrt(2 / count), rel=0.1)
    assert not any(value.any() for key, value in state.items() if key.endswith(".bias"))
    assert all((m.weight == 1).all() for m in small.modules() if isinstance(m, nn.LayerNorm))


def test_every_parameter_learns() -> None:
    model = MixTransformer("mit_b0", 0.0)
    loss = torch.zeros(())
    for x in model(torch.rand(2, 3, 64, 64)):
        loss = loss + (x.square() * torch.linspace(0, 1, x.numel()).view_as(x)).mean()
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in model.parameters())


def test_bf16_is_close_to_fp32(small: MixTransformer) -> None:
    x = torch.randn(1, 3, 64, 96)
    small.eval()
    with torch.inference_mode():
        full = small(x)
        with torch.autocast("cpu", torch.bfloat16):
            half = small(x)
    for a, b in zip(full, half, strict=True):
        assert float((a - b.float()).abs().mean()) < 0.05 * float(a.std())


def test_wrong_requests() -> None:
    with pytest.raises(RequestError, match=r"no encoder 'mit_b7' \(did you mean 'mit_b"):
        MixTransformer("mit_b7")
    with pytest.raises(RequestError, match="drop_path is 1"):
        MixTransformer("mit_b0", 1.0)
