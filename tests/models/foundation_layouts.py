"""Weights of timm's encoders written as other projects name them; independent of the library's rules.

Restated from the public conversion scripts and modules of Hugging Face's transformers and from timm's own reading of
the hubs' files.
"""

from __future__ import annotations

import torch
from torch import Tensor

State = dict[str, Tensor]


def _each_block(state: State, leaf_names: dict[str, str], block: str, prefix: str = "") -> State:
    """Name the tensors of all blocks; ``leaf_names`` maps their names within a block, or a beginning of them."""
    out = {}
    for key, value in state.items():
        if key.startswith("blocks."):
            _, number, rest = key.split(".", 2)
            for ours, theirs in leaf_names.items():
                if rest.startswith(ours):
                    out[f"{prefix}{block.format(number)}{theirs}{rest.removeprefix(ours)}"] = value
    return out


def _three(state: State, names: tuple[str, str, str], block: str, prefix: str = "", key_bias: bool = True) -> State:
    """Split query, key and value."""
    out = {}
    for key, value in state.items():
        if ".attn.qkv." in key:
            number, leaf = key.split(".")[1], key.rpartition(".")[2]
            for which, (name, part) in enumerate(zip(names, value.chunk(3), strict=True)):
                if key_bias or leaf == "weight" or which != 1:
                    out[f"{prefix}{block.format(number)}{name}.{leaf}"] = part
    return out


NORMS = {"norm1.": "norm1.", "norm2.": "norm2."}


def dinov2_hub(state: State, class_position: Tensor | None = None) -> State:
    """facebookresearch/dinov2: with registers, the class token has its position apart."""
    out = {"mask_token": torch.ones(1, state["pos_embed"].shape[-1])}
    gated = state["blocks.0.mlp.fc1.weight"].shape[0] != state["blocks.0.mlp.fc2.weight"].shape[1]
    for key, value in state.items():
        if gated:
            key = key.replace("mlp.fc1", "mlp.w12").replace("mlp.fc2", "mlp.w3")
        out[key] = value
    if "reg_token" in out:
        assert class_position is not None
        out["register_tokens"] = out.pop("reg_token")
        out["cls_token"] = out["cls_token"] - class_position
        out["pos_embed"] = torch.cat([class_position, out["pos_embed"]], 1)
    return out


def dinov3_hub(state: State) -> State:
    """facebookresearch/dinov3: a bias of three parts, of which that of the key is masked."""
    out = {"mask_token": torch.ones(1, 4), "rope_embed.periods": torch.ones(4), "storage_tokens": state["reg_token"]}
    for key, value in state.items():
        if key.endswith(("q_bias", "v_bias", "reg_token")):
            continue
        key = key.replace("gamma_1", "ls1.gamma").replace("gamma_2", "ls2.gamma")
        for ours, theirs in (("fc1_g", "w1"), ("fc1_x", "w2")):
            key = key.replace(ours, theirs)
        if "blocks.0.mlp.fc1_g.weight" in state:
            key = key.replace("mlp.fc2", "mlp.w3")
        out[key] = value
        if key.endswith("qkv.weight"):
            at, third = key.removesuffix("qkv.weight"), value.shape[0] // 3
            has = f"{at}q_bias" in state
            q, v = (state[f"{at}{x}_bias"] if has else torch.zeros(third) for x in "qv")
            out[f"{at}qkv.bias"] = torch.cat([q, torch.full((third,), 7.0 if has else 0.0), v])
            out[f"{at}qkv.bias_mask"] = torch.cat([torch.ones(third), torch.zeros(third), torch.ones(third)])
    return out


def dinov2_transformers(state: State, class_position: Tensor | None = None) -> State:
    """Dinov2Model, Dinov2WithRegistersModel."""
    hub = dinov2_hub(state, class_position)
    block = "encoder.layer.{}."
    leaves = {
        **NORMS,
        "attn.proj.": "attention.output.dense.",
        "ls1.gamma": "layer_scale1.lambda1",
        "ls2.gamma": "layer_scale2.lambda1",
        "mlp.fc": "mlp.fc",
        "mlp.w12": "mlp.weights_in",
        "mlp.w3": "mlp.weights_out",
    }
    qkv = tuple(f"attention.attention.{name}" for name in ("query", "key", "value"))
    out = {
        "embeddings.cls_token": hub["cls_token"],
        "embeddings.mask_token": hub["mask_token"],
        "embeddings.position_embeddings": hub["pos_embed"],
        "embeddings.patch_embeddings.projection.weight": hub["patch_embed.proj.weight"],
        "embeddings.patch_embeddings.projection.bias": hub["patch_embed.proj.bias"],
        "layernorm.weight": hub["norm.weight"],
        "layernorm.bias": hub["norm.bias"],
        **_each_block(hub, leaves, block),
        **_three(hub, qkv, block),  # type: ignore[arg-type]
    }
    if "register_tokens" in hub:
        out["embeddings.register_tokens"] = hub["register_tokens"]
    return out


def dinov3_transformers(state: State) -> State:
    """DINOv3ViTModel: no bias of the key."""
    gated = "blocks.0.mlp.fc1_g.weight" in state
    leaves = {
        **NORMS,
        "attn.proj.": "attention.o_proj.",
        "gamma_1": "layer_scale1.lambda1",
        "gamma_2": "layer_scale2.lambda1",
        "mlp.fc2.": "mlp.down_proj.",
        **({"mlp.fc1_g.": "mlp.gate_proj.", "mlp.fc1_x.": "mlp.up_proj."} if gated else {"mlp.fc1.": "mlp.up_proj."}),
    }
    qkv = ("attention.q_proj", "attention.k_proj", "attention.v_proj")
    hub = dinov3_hub(state)
    return {
        "embeddings.cls_token": state["cls_token"],
        "embeddings.mask_token": hub["mask_token"],
        "embeddings.register_tokens": state["reg_token"],
        "embeddings.patch_embeddings.weight": state["patch_embed.proj.weight"],
        "embeddings.patch_embeddings.bias": state["patch_embed.proj.bias"],
        "norm.weight": state["norm.weight"],
        "norm.bias": state["norm.bias"],
        **_each_block(state, leaves, "layer.{}."),
        **_three(hub, qkv, "layer.{}.", key_bias=False),
    }


def mae_transformers(state: State) -> State:
    """ViTMAEForPreTraining, with a decoder; ViTModel has the same names."""
    leaves = {
        "norm1.": "layernorm_before.",
        "norm2.": "layernorm_after.",
        "attn.proj.": "attention.output.dense.",
        "mlp.fc1.": "intermediate.dense.",
        "mlp.fc2.": "output.dense.",
    }
    qkv = tuple(f"attention.attention.{name}" for name in ("query", "key", "value"))
    block = "vit.encoder.layer.{}."
    return {
        "vit.embeddings.cls_token": state["cls_token"],
        "vit.embeddings.position_embeddings": state["pos_embed"],
        "vit.embeddings.patch_embeddings.projection.weight": state["patch_embed.proj.weight"],
        "vit.embeddings.patch_embeddings.projection.bias": state["patch_embed.proj.bias"],
        "vit.layernorm.weight": state["norm.weight"],
        "vit.layernorm.bias": state["norm.bias"],
        "decoder.mask_token": torch.ones(1),
        **_each_block(state, leaves, block),
        **_three(state, qkv, block),  # type: ignore[arg-type]
    }


def siglip_transformers(state: State) -> State:
    """SiglipVisionModel: positions without a batch dimension, and a pooling head."""
    leaves = {
        "norm1.": "layer_norm1.",
        "norm2.": "layer_norm2.",
        "attn.proj.": "self_attn.out_proj.",
        "mlp.": "mlp.",
    }
    qkv = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
    at, block = "vision_model.", "encoder.layers.{}."
    return {
        f"{at}embeddings.patch_embedding.weight": state["patch_embed.proj.weight"],
        f"{at}embeddings.patch_embedding.bias": state["patch_embed.proj.bias"],
        f"{at}embeddings.position_embedding.weight": state["pos_embed"][0],
        f"{at}post_layernorm.weight": state["norm.weight"],
        f"{at}post_layernorm.bias": state["norm.bias"],
        f"{at}head.probe": torch.ones(1),
        "text_model.final_layer_norm.weight": torch.ones(1),
        **_each_block(state, leaves, block, at),
        **_three(state, qkv, block, at),
    }


def convnext_meta(state: State) -> State:
    """facebookresearch/ConvNeXt and dinov3."""
    out = {"norm.weight": torch.ones(1), "norms.3.weight": torch.ones(1)}
    for key, value in state.items():
        parts = key.split(".")
        if parts[0] == "stem":
            name = f"downsample_layers.0.{parts[1]}.{parts[2]}"
        elif parts[2] == "downsample":
            name = f"downsample_layers.{parts[1]}.{parts[3]}.{parts[4]}"
        else:
            rest = ".".join(parts[4:]).replace("conv_dw", "dwconv").replace("mlp.fc", "pwconv")
            name = f"stages.{parts[1]}.{parts[3]}.{rest}"
        out[name] = value
    return out


def convnext_transformers(state: State) -> State:
    """DINOv3ConvNextModel."""
    out = {"layer_norm.weight": torch.ones(1)}
    for key, value in state.items():
        parts = key.split(".")
        if parts[0] == "stem":
            name = f"stages.0.downsample_layers.{parts[1]}.{parts[2]}"
        elif parts[2] == "downsample":
            name = f"stages.{parts[1]}.downsample_layers.{parts[3]}.{parts[4]}"
        else:
            rest = ".".join(parts[4:]).replace("conv_dw", "depthwise_conv").replace("mlp.fc", "pointwise_conv")
            name = f"stages.{parts[1]}.layers.{parts[3]}.{rest.replace('norm.', 'layer_norm.')}"
        out[name] = value
    return out
