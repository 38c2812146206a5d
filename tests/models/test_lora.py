"""Low-rank adaptation against an independent restatement, and how it starts, is stored and is merged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from segadapt.models.build import build_segmenter
from segadapt.models.lora import LoRAConfig, add_low_rank, merged, start_at_minor

VIT, EVA = "foundation:test_vit", "foundation:eva02_tiny_patch14_224"


class Restated(nn.Module):
    """A linear layer with a low-rank branch: y = W x + b + alpha / r B (A x), by its own forward pass."""

    def __init__(self, layer: nn.Linear, down: Tensor, up: Tensor, alpha: float) -> None:
        super().__init__()
        self.layer, self.down, self.up, self.alpha = layer, down, up, alpha

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + self.alpha / len(self.down) * (x @ self.down.T @ self.up.T)


def drawn(model: Any, seed: int = 0) -> None:
    """Factors of any size, as if they had learnt."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith(".up"):
                p.copy_(0.1 * torch.randn_like(p))


def test_the_network_is_that_with_low_rank_branches() -> None:
    torch.manual_seed(0)
    plain: Any = build_segmenter(VIT, 3).eval()
    adapted: Any = build_segmenter(VIT, 3, lora={"rank": 3, "alpha": 6, "first_block": 1}).eval()
    adapted.load_imagenet(plain.state_dict())
    drawn(adapted)
    for number, block in enumerate(plain.encoder.blocks):
        for target in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"):
            own = adapted.encoder.blocks[number].get_submodule(target)
            assert hasattr(own, "parametrizations") == (number >= 1)
            if number >= 1:
                factors = own.parametrizations.weight[0]
                restated = Restated(block.get_submodule(target), factors.down, factors.up, 6)
                parent, _, leaf = target.rpartition(".")
                setattr(block.get_submodule(parent), leaf, restated)
    x = torch.rand(2, 3, 48, 32)
    ours, theirs = adapted(x).logits, plain(x).logits
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)
    ours.square().mean().backward()
    theirs.square().mean().backward()
    one = adapted.encoder.blocks[2].mlp.fc1.parametrizations.weight[0]
    assert one.up.grad is not None
    assert one.up.grad.abs().sum() > 0
    before = adapted.encoder.blocks[2].mlp.fc1.parametrizations.weight.original
    assert before.grad is None


@pytest.mark.parametrize("name", [VIT, EVA])
def test_it_starts_as_the_network_without(name: str) -> None:
    torch.manual_seed(0)
    plain: Any = build_segmenter(name, 3).eval()
    adapted: Any = build_segmenter(name, 3, lora={"rank": 4, "targets": ["qkv"]}).eval()
    adapted.load_imagenet(plain.state_dict())
    x = torch.rand(1, 3, 48, 32)
    with torch.no_grad():
        assert torch.equal(plain(x).logits, adapted(x).logits)
        drawn(adapted)
        assert not torch.allclose(plain(x).logits, adapted(x).logits)  # EVA reads its weights without its layer
    learning = {n for n, p in adapted.named_parameters() if p.requires_grad and n.startswith("encoder.")}
    assert learning
    assert all(n.endswith(("qkv.parametrizations.weight.0.up", ".0.down")) for n in learning)


def test_the_minor_part_is_that_of_the_least_singular_values() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(7, 5)
    weight = layer.weight.detach().clone()
    block = nn.ModuleDict({"fc1": layer})
    add_low_rank(block, [block], LoRAConfig(rank=2, alpha=3, targets=("fc1",)))
    start_at_minor(block)
    factors, original = layer.parametrizations.weight[0], layer.parametrizations.weight.original  # type: ignore
    values, vectors = torch.linalg.eigh(weight @ weight.T)  # least first, W' s left vectors
    part = vectors[:, :2] @ vectors[:, :2].T @ weight
    torch.testing.assert_close(1.5 * factors.up @ factors.down, part, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(original, weight - part, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(layer.weight, weight)
    torch.testing.assert_close(torch.linalg.svdvals(part)[:2].flip(0), values[:2].sqrt(), atol=1e-5, rtol=1e-4)


def test_minor_singular_values_start_where_weights_are_loaded(tmp_path: Path) -> None:
    torch.manual_seed(0)
    plain: Any = build_segmenter(VIT, 3).eval()
    save_file(plain.encoder.state_dict(), tmp_path / "w.safetensors")
    file = str(tmp_path / "w.safetensors")
    adapted: Any = build_segmenter(VIT, 3, weights=file, lora={"rank": 4, "start": "minor"}).eval()
    x = torch.rand(1, 3, 48, 32)
    with torch.no_grad():
        torch.testing.assert_close(plain.deep_features(x), adapted.deep_features(x), atol=2e-4, rtol=1e-3)
    assert all(p.abs().sum() > 0 for n, p in adapted.named_parameters() if n.endswith(".up"))


def test_a_merged_network_is_the_same(tmp_path: Path) -> None:
    """And a network without LoRA takes the file of one with it, head and all."""
    torch.manual_seed(0)
    adapted: Any = build_segmenter(VIT, 3, lora={"rank": 4}).eval()
    drawn(adapted)
    plain: Any = build_segmenter(VIT, 3).eval()
    state = merged(adapted.state_dict())
    assert state.keys() == plain.state_dict().keys()
    plain.load_state_dict(state)
    x = torch.rand(1, 3, 48, 32)
    with torch.no_grad():
        assert torch.equal(plain(x).logits, adapted(x).logits)
    save_file(adapted.state_dict(), tmp_path / "w.safetensors")
    for more in ({}, {"lora": {"rank": 2, "start": "minor"}}):
        again = build_segmenter(VIT, 3, weights=str(tmp_path / "w.safetensors"), **more).eval()
        with torch.no_grad():
            torch.testing.assert_close(again(x).logits, adapted(x).logits, atol=2e-4, rtol=1e-3)


def test_factors_start_as_in_peft() -> None:
    """A Kaiming-uniform with a = sqrt(5), as nn.Linear draws its own weights; B zero."""
    torch.manual_seed(0)
    block = nn.ModuleDict({"fc1": nn.Linear(400, 50)})
    add_low_rank(block, [block], LoRAConfig(rank=20, targets=("fc1",)))
    factors = block["fc1"].parametrizations.weight[0]  # type: ignore[union-attr, index]
    reference = nn.init.kaiming_uniform_(torch.empty(20, 400), a=5**0.5)
    assert float(factors.down.detach().abs().max()) == pytest.approx(0.05, rel=0.01)
    assert float(factors.down.detach().std()) == pytest.approx(float(reference.std()), rel=0.03)
    assert not factors.up.detach().any()
    assert float(factors.scale) == 1.0
