"""Weights of foundation encoders in the layouts of other projects, renamed to timm's.

The layouts, recognised by a name that only they have: timm's; the hubs of DINOv2 and DINOv3 (and the files of MAE and
EVA), which name blocks like timm; Hugging Face's classes for ViT and MAE, DINOv2, DINOv3 and SigLIP; ConvNeXt of timm,
of Meta's files and of Hugging Face's DINOv3. They differ in names, in whether query, key and value are one matrix, and
in whether the position of the class token is added to it. Learnt positions and patches of other sizes are resampled.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

import torch
from timm.layers.patch_embed import resample_patch_embed
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor

from segadapt.errors import RequestError

Rules = tuple[tuple[str, str], ...]


class Layout(NamedTuple):
    """Names of one project.

    Attributes:
        mark: pattern of a name that only this layout has; what stands before the match is a prefix.
        rules: patterns of names behind the prefix, and what timm has instead; all are applied in order.
    """

    mark: str
    rules: Rules


_SPLIT: Rules = ((r"attention\.attention\.(?:(q)uery|(k)ey|(v)alue)\.", r"attn.\1\2\3."),)
_BLOCK: Rules = ((r"^(?:encoder\.)?layers?\.(\d+)\.", r"blocks.\1."),)
_EMBEDDINGS: Rules = (
    (r"^embeddings\.position_embeddings?(?:\.weight)?$", "pos_embed"),
    (r"^embeddings\.patch_embeddings?\.(?:projection\.)?", "patch_embed.proj."),
    (r"^embeddings\.", ""),
)
_OUT: Rules = ((r"attention\.output\.dense\.", "attn.proj."),)
_SCALE: Rules = ((r"layer_scale(\d)\.lambda1", r"ls\1.gamma"),)

LAYOUTS: Mapping[str, Layout] = {
    "timm or hub": Layout(
        r"blocks\.0\.norm1\.weight$",
        (
            (r"^storage_tokens$", "reg_token"),
            (r"mlp\.ffn_ln\.", "mlp.norm."),
            (r"attn\.inner_attn_ln\.", "attn.norm."),
            (r"mlp\.w12\.", "mlp.fc1."),
            (r"mlp\.w1\.", "mlp.fc1_g."),
            (r"mlp\.w2\.", "mlp.fc1_x."),
            (r"mlp\.w3\.", "mlp.fc2."),
        ),
    ),
    "Hugging Face, ViT or MAE": Layout(
        r"encoder\.layer\.0\.layernorm_before\.weight$",
        (
            *_BLOCK,
            *_EMBEDDINGS,
            *_SPLIT,
            *_OUT,
            (r"layernorm_before", "norm1"),
            (r"layernorm_after", "norm2"),
            (r"^layernorm\.", "norm."),
            (r"intermediate\.dense", "mlp.fc1"),
            (r"(blocks\.\d+)\.output\.dense", r"\1.mlp.fc2"),
        ),
    ),
    "Hugging Face, DINOv2": Layout(
        r"encoder\.layer\.0\.norm1\.weight$",
        (
            *_BLOCK,
            *_EMBEDDINGS,
            *_SPLIT,
            *_OUT,
            *_SCALE,
            (r"mlp\.weights_in\.", "mlp.fc1."),
            (r"mlp\.weights_out\.", "mlp.fc2."),
            (r"^layernorm\.", "norm."),
        ),
    ),
    "Hugging Face, DINOv3": Layout(
        r"layer\.0\.attention\.q_proj\.weight$",
        (
            *_BLOCK,
            (r"^embeddings\.register_tokens$", "reg_token"),
            *_EMBEDDINGS,
            *_SCALE,
            (r"attention\.([qkv])_proj\.", r"attn.\1."),
            (r"attention\.o_proj\.", "attn.proj."),
            (r"mlp\.gate_proj\.", "mlp.fc1_g."),
            (r"mlp\.up_proj\.", "mlp.fc1."),  # fc1_x beside a gate
            (r"mlp\.down_proj\.", "mlp.fc2."),
        ),
    ),
    "Hugging Face, SigLIP": Layout(
        r"encoder\.layers\.0\.self_attn\.q_proj\.weight$",
        (
            *_BLOCK,
            *_EMBEDDINGS,
            (r"self_attn\.([qkv])_proj\.", r"attn.\1."),
            (r"self_attn\.out_proj\.", "attn.proj."),
            (r"layer_norm(\d)\.", r"norm\1."),
            (r"^post_layernorm\.", "norm."),
        ),
    ),
    "timm, ConvNeXt": Layout(r"stem\.0\.weight$", ()),
    "Hugging Face, DINOv3 ConvNeXt": Layout(
        r"stages\.0\.downsample_layers\.0\.weight$",
        (
            (r"^stages\.0\.downsample_layers\.", "stem."),
            (r"downsample_layers\.", "downsample."),
            (r"\.layers\.(\d+)\.", r".blocks.\1."),
            (r"depthwise_conv", "conv_dw"),
            (r"pointwise_conv", "mlp.fc"),
            (r"layer_norm", "norm"),
        ),
    ),
    "Meta, ConvNeXt": Layout(
        r"downsample_layers\.0\.0\.weight$",
        (
            (r"^stages\.(\d+)\.(\d+)\.", r"stages.\1.blocks.\2."),
            (r"^downsample_layers\.0\.", "stem."),
            (r"^downsample_layers\.(\d+)\.", r"stages.\1.downsample."),
            (r"dwconv", "conv_dw"),
            (r"pwconv", "mlp.fc"),
        ),
    ),
}
_NOT_NEEDED = re.compile(
    r"^(mask_token|head\.|head_dist\.|norm\.|norms\.|layer_norm\.|fc_norm\.|attn_pool\.|pooler\.|classifier\.|lm_head\."
    r"|projectors\.|local_cls_norm\.|decoder|rope|position_ids$)|\.bias_mask$|attn\.rope\."
)
"""Tensors of pretraining and of classification, and constants; they may be there and are not read."""


def to_timm(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor], encoder: str, prefix_positions: int
) -> dict[str, Tensor]:
    """Return the tensors of a file under the names and in the shapes of timm's encoder.

    Args:
        state: the tensors of the file, in any layout of :data:`LAYOUTS`.
        own: the tensors of the encoder, for names and shapes.
        encoder: name of the encoder, for messages.
        prefix_positions: learnt positions of the encoder that belong to class and register tokens.

    Raises:
        RequestError: no layout is recognised, or tensors are missing, left over, or of another shape.
    """
    found = _renamed(state, encoder)
    if "register_tokens" in found:
        _without_class_position(found, own)
    _joined(found)
    _spelt(found, own)
    found = {k: v for k, v in found.items() if k in own or not _NOT_NEEDED.search(k)}
    _resampled(found, own, prefix_positions)
    require_same(found, own, encoder)
    return found


def require_same(found: Mapping[str, Tensor], own: Mapping[str, Tensor], encoder: str) -> None:
    """Raise RequestError, naming the first tensors, unless names and shapes are equal."""
    missing, further = [k for k in own if k not in found], [k for k in found if k not in own]
    other = [k for k in own if k in found and found[k].shape != own[k].shape]
    said = [
        f"it {verb} '{names[0]}'" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
        for verb, names in (("lacks", missing), ("has", further))
        if names
    ]
    if other:
        wanted, given = (tuple(tensors[other[0]].shape) for tensors in (own, found))
        said.append(f"its '{other[0]}' has shape {given}, not {wanted}")
    if said:
        raise RequestError(f"these are not the weights of '{encoder}': {'; '.join(said)} (names of timm)")


def _renamed(state: Mapping[str, Tensor], encoder: str) -> dict[str, Tensor]:
    """Return the tensors behind the layout's prefix, renamed by its rules."""
    for layout in LAYOUTS.values():
        match = next(filter(None, (re.search(r"(?:^|(?<=\.))" + layout.mark, key) for key in state)), None)
        if match is None:
            continue
        prefix, renamed = match.string[: match.start()], {}
        for key, tensor in state.items():
            if key.startswith(prefix):
                name = key.removeprefix(prefix)
                for pattern, replacement in layout.rules:
                    name = re.sub(pattern, replacement, name)
                renamed[name] = tensor
        return renamed
    first, read = next(iter(state), "nothing"), "; ".join(LAYOUTS)
    raise RequestError(
        f"these are no weights of '{encoder}': its first tensor is '{first}'; layouts that are read: {read}"
    )


def _without_class_position(found: dict[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Add the position of the class token to it, as timm does where there are registers (DINOv2)."""
    found["reg_token"] = found.pop("register_tokens")
    if "pos_embed" in found and "pos_embed" in own:
        found["cls_token"] = found["cls_token"] + found["pos_embed"][:, :1]
        found["pos_embed"] = found["pos_embed"][:, 1:]


def _joined(found: dict[str, Tensor]) -> None:
    """Stack query, key and value into one matrix; a bias that the key lacks is zero there (DINOv3)."""
    for query in [name for name in found if re.search(r"attn\.q\.(weight|bias)$", name)]:
        key, value = (query.replace("attn.q.", f"attn.{part}.") for part in "kv")
        q = found.pop(query)
        parts = [q, found.pop(key, torch.zeros_like(q)), found.pop(value, torch.zeros_like(q))]
        found[query.replace("attn.q.", "attn.qkv.")] = torch.cat(parts)


def _spelt(found: dict[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Spell layer scales, gates and biases of the attention as the encoder's class of timm does."""
    for name in list(found):
        scale = re.sub(r"ls(\d)\.gamma$", r"gamma_\1", name)
        gated = name.replace("mlp.fc1.", "mlp.fc1_x.")
        if scale != name and scale in own:
            found[scale] = found.pop(name)
        elif gated != name and gated in own and name not in own:
            found[gated] = found.pop(name)
        elif name.endswith("attn.qkv.bias"):
            _bias(name, found, own)
    if "pos_embed" in found and found["pos_embed"].ndim == 2:
        found["pos_embed"] = found["pos_embed"][None]


def _bias(name: str, found: dict[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Leave out the bias of the key where it is masked, and all of it where it is zero and the encoder has none."""
    q, k, v = found[name].chunk(3)
    masked = found.pop(name.replace("bias", "bias_mask"), None) is not None
    k = torch.zeros_like(k) if masked else k
    query, value = (name.replace("qkv.bias", part) for part in ("q_bias", "v_bias"))
    if query in own and not k.any():
        del found[name]
        found[query], found[value] = q, v
    elif name not in own and not (q.any() or k.any() or v.any()):
        del found[name]
    else:
        found[name] = torch.cat([q, k, v])


def _resampled(found: dict[str, Tensor], own: Mapping[str, Tensor], before: int) -> None:
    """Resample patches and learnt positions of other sizes, in the way of timm."""
    patch, positions = "patch_embed.proj.weight", "pos_embed"
    if patch in found and patch in own and found[patch].shape[-2:] != own[patch].shape[-2:]:
        found[patch] = resample_patch_embed(found[patch], list(own[patch].shape[-2:]))
    if positions not in found or positions not in own or found[positions].ndim != 3:
        return
    grids = [math.isqrt(tensors[positions].shape[1] - before) for tensors in (found, own)]
    if grids[0] != grids[1]:
        size = [grids[1], grids[1]]
        found[positions] = resample_abs_pos_embed(found[positions], size, [grids[0]] * 2, num_prefix_tokens=before)
