"""Mix Transformer encoders B0 to B5 (Xie et al., "SegFormer", NeurIPS 2021).

Four stages at strides 4, 8, 16 and 32. Each begins with an overlapping strided convolution. Its
transformer blocks attend to a reduced grid, and their feed-forward part has a 3x3 depthwise convolution
that replaces position codes. Parameters have the names of the public files (NVlabs and mmseg 0.16);
:mod:`segadapt.models.mit_names` translates other names.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch.nn.functional as F
from timm.layers.drop import DropPath
from torch import Tensor, nn

from segadapt.errors import RequestError, nearest
from segadapt.models.mit_names import to_mit

HEADS = (1, 2, 5, 8)
REDUCTIONS = (8, 4, 2, 1)
"""By stage: how many times coarser than the stage's grid the grid of keys and values is."""

STRIDES = (4, 8, 16, 32)
EXPANSION = 4
EPS = 1e-6
"""Epsilon of the norms in blocks and behind stages; patch embedding and reduced grid have torch's 1e-5."""


class MixSize(NamedTuple):
    """Channels and number of blocks of the four stages."""

    channels: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]


_NARROW = (32, 64, 160, 256)
_WIDE = (64, 128, 320, 512)

SIZES: Mapping[str, MixSize] = {
    "mit_b0": MixSize(_NARROW, (2, 2, 2, 2)),
    "mit_b1": MixSize(_WIDE, (2, 2, 2, 2)),
    "mit_b2": MixSize(_WIDE, (3, 4, 6, 3)),
    "mit_b3": MixSize(_WIDE, (3, 4, 18, 3)),
    "mit_b4": MixSize(_WIDE, (3, 8, 27, 3)),
    "mit_b5": MixSize(_WIDE, (3, 6, 40, 3)),
}

# Maps are [B, h, w, C] inside: norms and linear layers act on the last dimension, and a convolution
# reads a view of the same memory in channels-last order.


class PatchEmbedding(nn.Module):
    """Overlapping patches: [B, C, H, W] -> [B, ceil(H / stride), ceil(W / stride), D], normalised."""

    def __init__(self, channels: int, width: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, kernel, stride=stride, padding=kernel // 2)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        patches: Tensor = self.norm(self.proj(x).permute(0, 2, 3, 1))
        return patches


class ReducedAttention(nn.Module):
    """Self-attention [B, h, w, D] -> [B, h, w, D] whose keys and values come from a coarser grid.

    A convolution with kernel and stride ``reduction`` makes the coarser grid; it ignores a rim of fewer
    than ``reduction`` cells. A map smaller than the kernel (an image side below 29 pixels) is padded with
    zeros first.
    """

    def __init__(self, width: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.heads = heads
        self.reduction = reduction
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)
        if reduction > 1:
            self.sr = nn.Conv2d(width, width, reduction, stride=reduction)
            self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        query = self._split(self.q(x))
        key, value = self.kv(self._reduced(x)).chunk(2, -1)
        mixed = F.scaled_dot_product_attention(query, self._split(key), self._split(value))
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(x.shape))
        return out

    def _split(self, x: Tensor) -> Tensor:
        """Split a map into heads, [B, h, w, D] -> [B, heads, h w, D / heads]."""
        return x.reshape(x.shape[0], -1, self.heads, x.shape[-1] // self.heads).transpose(1, 2)

    def _reduced(self, x: Tensor) -> Tensor:
        """Compute the map that gives keys and values, [B, h, w, D] -> [B, h / r, w / r, D]."""
        if self.reduction == 1:
            return x
        down, right = (max(0, self.reduction - side) for side in x.shape[1:3])
        if down or right:
            x = F.pad(x, (0, 0, 0, right, 0, down))
        coarse: Tensor = self.norm(self.sr(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        return coarse


class MixFeedForward(nn.Module):
    """Two linear layers with a 3x3 depthwise convolution and GELU between them, [B, h, w, D] -> the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = width * EXPANSION
        self.fc1 = nn.Linear(width, hidden)
        self.dwconv = Depthwise(hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.dwconv(self.fc1(x))))
        return out


class Depthwise(nn.Module):
    """3x3 depthwise convolution of a map [B, h, w, C]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.dwconv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return out


class MixBlock(nn.Module):
    """Attention and feed-forward part, each with a norm before and a shortcut; ``drop`` skips them per sample."""

    def __init__(self, width: int, heads: int, reduction: int, drop: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=EPS)
        self.attn = ReducedAttention(width, heads, reduction)
        self.drop_path = DropPath(drop) if drop > 0 else nn.Identity()
        self.norm2 = nn.LayerNorm(width, eps=EPS)
        self.mlp = MixFeedForward(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x)))
        out: Tensor = x + self.drop_path(self.mlp(self.norm2(x)))
        return out


class MixTransformer(nn.Module):
    """Preprocessed images [B, 3, H, W] of any size to four normalised maps [B, C_i, ceil(H / s_i), ceil(W / s_i)].

    The strides s_i are 4, 8, 16 and 32.

    Args:
        name: ``mit_b0`` to ``mit_b5``.
        drop_path: probability, in [0, 1), that a sample skips the last block in training; the probability
            rises linearly from 0 at the first block (stochastic depth).

    Attributes:
        channels: C_1 to C_4.

    Raises:
        RequestError: the name is unknown or the probability is out of its range.
    """

    def __init__(self, name: str, drop_path: float = 0.1) -> None:
        super().__init__()
        if name not in SIZES:
            raise RequestError(f"no encoder '{name}'{nearest(name, SIZES)}; there are: {', '.join(SIZES)}")
        if not 0 <= drop_path < 1:
            raise RequestError(f"{name}: drop_path is {drop_path}; give a probability of at least 0 and below 1")
        self.name = name
        size = SIZES[name]
        self.channels = list(size.channels)
        total, first = sum(size.depths), 0
        for stage, (width, depth) in enumerate(zip(size.channels, size.depths, strict=True)):
            drops = [drop_path * (first + i) / (total - 1) for i in range(depth)]
            first += depth
            before, kernel, stride = (size.channels[stage - 1], 3, 2) if stage else (3, 7, 4)
            blocks = [MixBlock(width, HEADS[stage], REDUCTIONS[stage], drop) for drop in drops]
            self.add_module(f"patch_embed{stage + 1}", PatchEmbedding(before, width, kernel, stride))
            self.add_module(f"block{stage + 1}", nn.ModuleList(blocks))
            self.add_module(f"norm{stage + 1}", nn.LayerNorm(width, eps=EPS))
        self.apply(_initialise)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for stage in range(1, len(self.channels) + 1):
            y = self.get_submodule(f"patch_embed{stage}")(x)
            blocks = self.get_submodule(f"block{stage}")
            assert isinstance(blocks, nn.ModuleList)
            for block in blocks:
                y = block(y)
            x = self.get_submodule(f"norm{stage}")(y).permute(0, 3, 1, 2)
            maps.append(x)
        return maps

    def load_imagenet(self, state: Mapping[str, Tensor]) -> None:
        """Fill the encoder from a state dict in any layout of :mod:`segadapt.models.mit_names`; heads are ignored.

        Raises:
            RequestError: the state dict is not of a Mix Transformer, or of another size.
        """
        given = to_mit(state)
        own = self.state_dict()
        wrong = [key for key in given if key not in own or given[key].shape != own[key].shape]
        wrong += [key for key in own if key not in given]
        if wrong:
            found = size_of(given)
            raise RequestError(
                f"these are not the weights of {self.name}{f' but of {found}' if found else ''}: {len(wrong)} tensors "
                f"are missing, unknown or of another shape, the first is '{wrong[0]}'; choose the network of the file"
            )
        self.load_state_dict(given)


def size_of(state: Mapping[str, Tensor]) -> str | None:
    """Return the name in :data:`SIZES` whose channels and depths a state dict with NVlabs' names has, or None."""
    widths = tuple(state[key].shape[0] for stage in range(1, 5) if (key := f"norm{stage}.weight") in state)
    blocks = {tuple(key.split(".")[:2]) for key in state if key.startswith("block")}
    depths = tuple(sum(level == f"block{stage}" for level, _ in blocks) for stage in range(1, 5))
    return next((name for name, size in SIZES.items() if (size.channels, size.depths) == (widths, depths)), None)


def _initialise(module: nn.Module) -> None:
    """Initialise as published: normal, deviation 0.02 for linear layers, sqrt(2 / fan out) for convolutions."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d):
        outgoing = math.prod(module.kernel_size) * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2 / outgoing))
        assert module.bias is not None
        nn.init.zeros_(module.bias)
