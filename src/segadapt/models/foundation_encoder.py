"""Encoders of foundation models from timm: vision transformers and ConvNeXt, at any image size.

A vision transformer sees an image as tokens, one per patch of p x p pixels (DINOv2, DINOv3, EVA, MAE, SigLIP, DeiT),
so that all its maps have stride p. timm interpolates learnt positions to the tokens of an image. A ConvNeXt has four
stages of stride 4 to 32. Heads that the pretraining needed (classes, pooling) are left out.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import timm
import torch
from timm.models import model_entrypoint
from torch import Tensor, nn

from segadapt.errors import RequestError, nearest

MAPS = 4
"""Maps that a head reads of several layers."""
_TRANSFORMERS = ("vision_transformer", "eva", "deit")
_PYRAMIDS = ("convnext",)


class Body(NamedTuple):
    """An encoder and its layout.

    Attributes:
        network: timm's module.
        tokens: whether it is a vision transformer, whose maps have one stride.
        blocks: its blocks, from the image on.
        strides: strides of the last map, or of all four of a ConvNeXt.
        channels: channels of those maps.
    """

    network: Any
    tokens: bool
    blocks: list[nn.Module]
    strides: list[int]
    channels: list[int]

    @property
    def multiple(self) -> int:
        """The pixels of which the sides of its input are multiples."""
        return self.strides[-1]


def create_body(encoder: str, *, patch: int | None = None, drop_path: float = 0.0, pretrained: bool = False) -> Body:
    """Create an encoder, with random weights unless ``pretrained``.

    Args:
        encoder: name of timm, with or without the tag of its weights.
        patch: side of a patch in pixels; None keeps the encoder's own. Weights of another patch are resampled, and
            the grid of the learnt positions stays.
        drop_path: probability in [0, 1) that the last block is skipped in training; earlier ones less.
        pretrained: load timm's weights, from this machine or the network.

    Raises:
        RequestError: timm has no such encoder, or it is of another kind.
    """
    require_encoder(encoder)
    family = model_entrypoint(encoder.partition(".")[0]).__module__.rpartition(".")[2]
    if family not in (*_TRANSFORMERS, *_PYRAMIDS):
        raise RequestError(
            f"'{encoder}' is neither a vision transformer nor a ConvNeXt; take a network 'timm:{encoder}'"
        )
    if patch is not None and (patch < 1 or family not in _TRANSFORMERS):
        raise RequestError(f"patch is {patch} for '{encoder}'; vision transformers take a side of at least 1 pixel")
    arguments: dict[str, Any] = {"drop_path_rate": drop_path}
    if family in _TRANSFORMERS:
        arguments["dynamic_img_size"] = True
        if patch is not None:
            with torch.device("meta"):  # sizes only
                shapes: Any = timm.create_model(encoder, pretrained=False)
            rows, columns = shapes.patch_embed.grid_size
            arguments |= {"patch_size": patch, "img_size": (rows * patch, columns * patch)}
    network: Any = timm.create_model(encoder, pretrained=pretrained, **arguments)
    if family in _TRANSFORMERS:
        network.prune_intermediate_layers([len(network.blocks) - 1], prune_norm=False, prune_head=True)
        side = network.patch_embed.patch_size
        return Body(network, True, list(network.blocks), [int(side[0])], [int(network.embed_dim)])
    network.prune_intermediate_layers([len(network.stages) - 1], prune_norm=True, prune_head=True)
    network.head = nn.Identity()  # in which timm before 1.0.31 leaves a norm that nothing would train
    strides, channels = ([int(stage[key]) for stage in network.feature_info] for key in ("reduction", "num_chs"))
    return Body(network, False, [b for stage in network.stages for b in stage.blocks], strides, channels)


def require_encoder(encoder: str) -> None:
    """Refuse a name, or the tag of a name, that timm does not have."""
    bare, _, tag = encoder.partition(".")
    if not timm.is_model(bare):
        raise RequestError(f"timm has no encoder '{bare}'{nearest(bare, timm.list_models())}")
    tagged = timm.list_pretrained(f"{bare}.*")
    if tag and encoder not in tagged:
        there = ", ".join(name.partition(".")[2] for name in tagged) or "none"
        raise RequestError(f"timm has no weights '{tag}' of '{bare}'{nearest(encoder, tagged)}; there are: {there}")


def maps_of(body: Body, x: Tensor, count: int) -> list[Tensor]:
    """Compute maps [B, C_i, h_i, w_i] of preprocessed images [B, 3, H, W], finest or earliest first.

    Args:
        body: an encoder.
        x: images whose sides are multiples of :attr:`Body.multiple`.
        count: 1, the last map, or 4: of a vision transformer behind every quarter of the blocks, of a ConvNeXt
            all stages. The maps of a vision transformer are normalised by its last layer.
    """
    if not body.tokens:
        stages: list[Tensor] = body.network.forward_intermediates(x, intermediates_only=True)
        return stages[-count:]
    depth = len(body.blocks)
    indices = [depth * (i + 1) // count - 1 for i in range(count)]
    found: list[Tensor] = body.network.forward_intermediates(x, indices=indices, norm=True, intermediates_only=True)
    return found


def layers_of(body: Body) -> list[list[nn.Parameter]]:
    """Return the parameters in front of the first block, then those of each block.

    The convolution that shrinks the maps between two stages of a ConvNeXt belongs to the block behind it; a last
    normalisation belongs to no layer.
    """
    if body.tokens:
        late = {id(p) for block in body.blocks for p in block.parameters()}
        late |= {id(p) for name in ("norm", "fc_norm") for p in getattr(body.network, name, nn.Identity()).parameters()}
        first = [p for p in body.network.parameters() if id(p) not in late]
        return [first, *(list(block.parameters()) for block in body.blocks)]
    layers = [list(body.network.stem.parameters())]
    for stage in body.network.stages:
        for number, block in enumerate(stage.blocks):
            before = list(stage.downsample.parameters()) if number == 0 else []
            layers.append([*before, *block.parameters()])
    return layers
