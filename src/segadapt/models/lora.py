"""Low-rank adaptation: the weights of a pretrained encoder stay, and learn a difference of low rank.

    W = W_0 + alpha / r  B A,      A [r, in],  B [out, r]                        (Hu et al., LoRA, ICLR 2022, eq. 3)

``zero`` starts with B = 0 and A uniform in +- 1 / sqrt(in), so that W is W_0 (the defaults of LoRA's code and of peft).
``minor`` (SoMA, Yun et al., CVPR 2025) trains the part of W_0 = U S V' with the r least singular values:

    B = sqrt(r / alpha) U_r sqrt(S_r),  A = sqrt(r / alpha) sqrt(S_r) V_r',  W_0 <- W_0 - alpha / r  B A.

W is again what it was, to rounding. The factors belong to the weight itself (a parametrization of torch), so that
layers which read ``layer.weight``, as EVA's attention does, are adapted too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils import parametrize

from segadapt.core.settings import Settings
from segadapt.errors import RequestError

_ORIGINAL = ".parametrizations.weight.original"
_FACTORS = re.compile(r"\.parametrizations\.weight\.0\.(down|up|scale)$")


class LoRAConfig(Settings):
    """Settings of low-rank adaptation; defaults are those of SoMA, except for ``start``.

    Attributes:
        rank: r, at least 1 (SoMA 16, VFMSeg 32).
        alpha: the difference is multiplied by alpha / r; null takes the rank.
        targets: layers of a block that are adapted, by the end of their name: of a vision transformer ``qkv`` and
            ``proj`` of the attention, ``fc1`` and ``fc2`` of the feed-forward part (VFMSeg: ``qkv`` alone).
        first_block: number of the first block that is adapted, from 0 (SoMA 8 of 24, VFMSeg 0).
        start: ``zero``: the difference starts as zero (LoRA); ``minor``: at the least singular values of weights that
            are loaded (SoMA), which takes minutes for a large encoder.
    """

    rank: int = Field(default=16, ge=1)
    alpha: float | None = Field(default=None, gt=0)
    targets: tuple[str, ...] = Field(default=("qkv", "proj", "fc1", "fc2"), min_length=1)
    first_block: int = Field(default=0, ge=0)
    start: Literal["zero", "minor"] = "zero"


class LowRank(nn.Module):
    """The weight W [out, in] of a frozen W_0; see the module.

    Args:
        weight: W_0.
        rank: r.
        scale: alpha / r.
    """

    scale: Tensor

    def __init__(self, weight: Tensor, rank: int, scale: float) -> None:
        super().__init__()
        out, channels = weight.shape
        self.down = nn.Parameter(weight.new_empty(rank, channels))
        self.up = nn.Parameter(weight.new_zeros(out, rank))
        nn.init.uniform_(self.down, -(channels**-0.5), channels**-0.5)
        self.register_buffer("scale", torch.tensor(scale))  # in the file, so that it can be merged without settings

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.scale * (self.up @ self.down)


def add_low_rank(encoder: nn.Module, blocks: Sequence[nn.Module], config: LoRAConfig) -> None:
    """Freeze an encoder, in place, and give linear layers of its blocks a difference that learns.

    Raises:
        RequestError: no block is left, or a rank or a target does not fit the blocks.
    """
    if config.first_block >= len(blocks):
        raise RequestError(f"lora: first_block is {config.first_block}; the encoder has {len(blocks)} blocks, from 0")
    encoder.requires_grad_(False)
    found: set[str] = set()
    alpha = config.rank if config.alpha is None else config.alpha
    for block in blocks[config.first_block :]:
        for name, layer in list(block.named_modules()):
            target = name.rpartition(".")[2]
            if target in config.targets and isinstance(layer, nn.Linear):
                found.add(target)
                if config.rank > min(layer.weight.shape):
                    raise RequestError(f"lora: rank is {config.rank}; '{name}' has {tuple(layer.weight.shape)} weights")
                low_rank = LowRank(layer.weight.detach(), config.rank, alpha / config.rank)
                parametrize.register_parametrization(layer, "weight", low_rank)
    if lacking := sorted(set(config.targets) - found):
        there = {n.rpartition(".")[2] for b in blocks for n, layer in b.named_modules() if isinstance(layer, nn.Linear)}
        raise RequestError(f"lora: no linear layer '{lacking[0]}' in the blocks; targets: {', '.join(sorted(there))}")


@torch.no_grad()
def start_at_minor(encoder: nn.Module) -> None:
    """Move the least singular part of every adapted weight into its factors; the weights stay what they are."""
    for places in [part for part in encoder.modules() if isinstance(part, parametrize.ParametrizationList)]:
        factors = places[0]
        assert isinstance(factors, LowRank)
        assert isinstance(places.original, Tensor)
        u, s, v = torch.linalg.svd(places.original, full_matrices=False)
        rank, root = len(factors.down), (s[-len(factors.down) :] / factors.scale).sqrt()
        factors.up.copy_(u[:, -rank:] * root)
        factors.down.copy_(root[:, None] * v[-rank:])
        places.original -= factors.scale * (factors.up @ factors.down)


def plain_name(name: str) -> str | None:
    """Return the name that a tensor has in a network without factors; None for a factor.

    Example:
        >>> plain_name("blocks.0.attn.qkv.parametrizations.weight.original")
        'blocks.0.attn.qkv.weight'
    """
    return None if _FACTORS.search(name) else name.replace(_ORIGINAL, ".weight")


def merged(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict with the factors multiplied into the weights: that of a network without LoRA."""
    plain = {}
    for name, tensor in state.items():
        own = plain_name(name)
        if own is None:
            continue
        if name.endswith(_ORIGINAL):
            up, down, scale = (state[f"{name.removesuffix('original')}0.{part}"] for part in ("up", "down", "scale"))
            tensor = tensor + scale * (up @ down)
        plain[own] = tensor
    return plain
