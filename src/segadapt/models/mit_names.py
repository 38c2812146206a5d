"""Translate the tensors of a Mix Transformer between the layouts of four projects.

The layouts: NVlabs (SegFormer, mmseg 0.16, DAFormer, HRDA, MIC and segmentation_models_pytorch); Hugging
Face's ``Segformer`` classes in files; the same classes in memory since transformers 5; and
``MixVisionTransformer`` of later mmseg. They differ in names, in which of query, key and value share one
matrix, and in whether the linear layers of the feed-forward part are stored as 1x1 convolutions. The
numbers are the same.

Hugging Face's modules normalise with epsilon 1e-5 everywhere, the original ones with 1e-6 in blocks
and behind stages: after loading our weights into Hugging Face's modules, set 1e-6 there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from segadapt.errors import RequestError, nearest

Parts = tuple[str, ...]


@dataclass(frozen=True)
class MitLayout:
    """The names of tensors in one project.

    Attributes:
        title: the project.
        prefix: usual prefix of every name in its files.
        mark: a name that only this layout has.
        names: templates of names, by the parts that the tensor holds, stacked in this order along the
            first dimension. ``{s}`` counts stages from 0, ``{n}`` stages from 1, ``{i}`` blocks from 0;
            ``{leaf}`` is ``weight`` or ``bias``.
        convolutions: whether the linear layers of the feed-forward part are stored as 1x1 convolutions.
    """

    title: str
    prefix: str
    mark: str
    names: Mapping[Parts, str]
    convolutions: bool = False


_NVLABS: Mapping[Parts, str] = {
    ("embed",): "patch_embed{n}.proj.{leaf}",
    ("embed_norm",): "patch_embed{n}.norm.{leaf}",
    ("norm1",): "block{n}.{i}.norm1.{leaf}",
    ("q",): "block{n}.{i}.attn.q.{leaf}",
    ("k", "v"): "block{n}.{i}.attn.kv.{leaf}",
    ("out",): "block{n}.{i}.attn.proj.{leaf}",
    ("sr",): "block{n}.{i}.attn.sr.{leaf}",
    ("sr_norm",): "block{n}.{i}.attn.norm.{leaf}",
    ("norm2",): "block{n}.{i}.norm2.{leaf}",
    ("fc1",): "block{n}.{i}.mlp.fc1.{leaf}",
    ("dwconv",): "block{n}.{i}.mlp.dwconv.dwconv.{leaf}",
    ("fc2",): "block{n}.{i}.mlp.fc2.{leaf}",
    ("norm",): "norm{n}.{leaf}",
}

_HUGGING_FACE: Mapping[Parts, str] = {
    ("embed",): "patch_embeddings.{s}.proj.{leaf}",
    ("embed_norm",): "patch_embeddings.{s}.layer_norm.{leaf}",
    ("norm1",): "block.{s}.{i}.layer_norm_1.{leaf}",
    ("q",): "block.{s}.{i}.attention.self.query.{leaf}",
    ("k",): "block.{s}.{i}.attention.self.key.{leaf}",
    ("v",): "block.{s}.{i}.attention.self.value.{leaf}",
    ("out",): "block.{s}.{i}.attention.output.dense.{leaf}",
    ("sr",): "block.{s}.{i}.attention.self.sr.{leaf}",
    ("sr_norm",): "block.{s}.{i}.attention.self.layer_norm.{leaf}",
    ("norm2",): "block.{s}.{i}.layer_norm_2.{leaf}",
    ("fc1",): "block.{s}.{i}.mlp.dense1.{leaf}",
    ("dwconv",): "block.{s}.{i}.mlp.dwconv.dwconv.{leaf}",
    ("fc2",): "block.{s}.{i}.mlp.dense2.{leaf}",
    ("norm",): "layer_norm.{s}.{leaf}",
}

_TRANSFORMERS_5: Mapping[Parts, str] = {
    ("embed",): "stages.{s}.patch_embeddings.proj.{leaf}",
    ("embed_norm",): "stages.{s}.patch_embeddings.layer_norm.{leaf}",
    ("norm1",): "stages.{s}.blocks.{i}.layernorm_before.{leaf}",
    ("q",): "stages.{s}.blocks.{i}.attention.q_proj.{leaf}",
    ("k",): "stages.{s}.blocks.{i}.attention.k_proj.{leaf}",
    ("v",): "stages.{s}.blocks.{i}.attention.v_proj.{leaf}",
    ("out",): "stages.{s}.blocks.{i}.attention.o_proj.{leaf}",
    ("sr",): "stages.{s}.blocks.{i}.attention.sequence_reduction.sequence_reduction.{leaf}",
    ("sr_norm",): "stages.{s}.blocks.{i}.attention.sequence_reduction.layer_norm.{leaf}",
    ("norm2",): "stages.{s}.blocks.{i}.layernorm_after.{leaf}",
    ("fc1",): "stages.{s}.blocks.{i}.mlp.fc1.{leaf}",
    ("dwconv",): "stages.{s}.blocks.{i}.mlp.dwconv.dwconv.{leaf}",
    ("fc2",): "stages.{s}.blocks.{i}.mlp.fc2.{leaf}",
    ("norm",): "stages.{s}.layer_norm.{leaf}",
}

_MMSEG: Mapping[Parts, str] = {
    ("embed",): "layers.{s}.0.projection.{leaf}",
    ("embed_norm",): "layers.{s}.0.norm.{leaf}",
    ("norm1",): "layers.{s}.1.{i}.norm1.{leaf}",
    ("q", "k", "v"): "layers.{s}.1.{i}.attn.attn.in_proj_{leaf}",
    ("out",): "layers.{s}.1.{i}.attn.attn.out_proj.{leaf}",
    ("sr",): "layers.{s}.1.{i}.attn.sr.{leaf}",
    ("sr_norm",): "layers.{s}.1.{i}.attn.norm.{leaf}",
    ("norm2",): "layers.{s}.1.{i}.norm2.{leaf}",
    ("fc1",): "layers.{s}.1.{i}.ffn.layers.0.{leaf}",
    ("dwconv",): "layers.{s}.1.{i}.ffn.layers.1.{leaf}",
    ("fc2",): "layers.{s}.1.{i}.ffn.layers.4.{leaf}",
    ("norm",): "layers.{s}.2.{leaf}",
}

OURS = "nvlabs"

MIT_LAYOUTS: Mapping[str, MitLayout] = {
    OURS: MitLayout("NVlabs SegFormer", "", "patch_embed1.proj.weight", _NVLABS),
    "huggingface": MitLayout(
        "Hugging Face Segformer", "segformer.encoder.", "patch_embeddings.0.proj.weight", _HUGGING_FACE
    ),
    "transformers5": MitLayout(
        "Segformer of transformers 5 in memory", "segformer.", "stages.0.patch_embeddings.proj.weight", _TRANSFORMERS_5
    ),
    "mmseg": MitLayout("mmseg MixVisionTransformer", "backbone.", "layers.0.0.projection.weight", _MMSEG, True),
}


class Place(NamedTuple):
    """The place of a tensor: stage and block from 0 (block -1: outside blocks), part, ``weight`` or ``bias``."""

    stage: int
    block: int
    part: str
    leaf: str


def recognised(state: Mapping[str, Tensor]) -> tuple[str, str] | None:
    """Return the layout of a state dict and the prefix of its names, or None if it has no Mix Transformer.

    If a file has several networks (student, teacher, ...), the one with the shortest prefix counts.
    """
    found = [
        (len(key), name, key.removesuffix(layout.mark))
        for key in state
        for name, layout in MIT_LAYOUTS.items()
        if key == layout.mark or key.endswith(f".{layout.mark}")
    ]
    return min(found)[1:] if found else None


def to_mit(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the encoder in a state dict of any layout for :class:`~segadapt.models.mit.MixTransformer`.

    Tensors outside the encoder (classifiers, decoders) are left out. Unknown names inside the encoder
    are kept, so that loading the result fails instead of losing tensors.

    Raises:
        RequestError: the state dict has no Mix Transformer.
    """
    found = recognised(state)
    if found is None:
        titles = ", ".join(layout.title for layout in MIT_LAYOUTS.values())
        first = f"the first of its {len(state)} tensors is '{next(iter(state))}'" if state else "it is empty"
        raise RequestError(f"these are not the weights of a Mix Transformer as named by {titles}: {first}")
    name, prefix = found
    inside = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    encoder = {key: value for key, value in inside.items() if not key.startswith(_HEADS)}
    places, unknown = _taken_apart(encoder, MIT_LAYOUTS[name])
    return {**_put_together(places, MIT_LAYOUTS[OURS]), **unknown}


def from_mit(state: Mapping[str, Tensor], layout: str, prefix: str | None = None) -> dict[str, Tensor]:
    """Rename a state dict of :class:`~segadapt.models.mit.MixTransformer` for another project.

    Args:
        state: tensors of the encoder alone.
        layout: a name of :data:`MIT_LAYOUTS`.
        prefix: prefix of every name; None takes the layout's usual prefix.

    Raises:
        RequestError: the layout is unknown, or a tensor is not of a Mix Transformer.
    """
    if layout not in MIT_LAYOUTS:
        raise RequestError(
            f"no layout '{layout}'{nearest(layout, MIT_LAYOUTS)} of Mix Transformers; there are: "
            f"{', '.join(MIT_LAYOUTS)}"
        )
    places, unknown = _taken_apart(state, MIT_LAYOUTS[OURS])
    if unknown:
        raise RequestError(f"'{next(iter(unknown))}' is not a tensor of a Mix Transformer; give its encoder alone")
    before = MIT_LAYOUTS[layout].prefix if prefix is None else prefix
    return {before + key: value for key, value in _put_together(places, MIT_LAYOUTS[layout]).items()}


_HEADS = ("head.", "classifier.", "decode_head.")
_LINEAR = ("fc1", "fc2")


def _taken_apart(state: Mapping[str, Tensor], layout: MitLayout) -> tuple[dict[Place, Tensor], dict[str, Tensor]]:
    """Return every part by its place, and the tensors with unknown names."""
    patterns = {parts: _pattern(template) for parts, template in layout.names.items()}
    places: dict[Place, Tensor] = {}
    unknown: dict[str, Tensor] = {}
    for key, value in state.items():
        for parts, pattern in patterns.items():
            if value.dim() and (match := pattern.fullmatch(key)):
                places.update(_split(match, parts, value))
                break
        else:
            unknown[key] = value
    return places, unknown


def _split(match: re.Match[str], parts: Parts, value: Tensor) -> Iterator[tuple[Place, Tensor]]:
    """Yield the parts of one stored tensor with their places."""
    found = match.groupdict()
    stage = int(found["s"]) if "s" in found else int(found["n"]) - 1
    pieces = [value] if len(parts) == 1 else [piece.clone() for piece in value.chunk(len(parts))]
    for part, piece in zip(parts, pieces, strict=False):  # a misshapen stack gives too few
        flat = piece.flatten(1) if part in _LINEAR and piece.dim() == 4 else piece
        yield Place(stage, int(found.get("i", -1)), part, found["leaf"]), flat


def _put_together(places: Mapping[Place, Tensor], layout: MitLayout) -> dict[str, Tensor]:
    """Name and stack the parts as the layout does."""
    result: dict[str, Tensor] = {}
    templates = {parts[0]: (parts, template) for parts, template in layout.names.items()}
    for place in places:
        if place.part not in templates:
            continue  # a later part of a stack, joined with its first part
        parts, template = templates[place.part]
        pieces = [piece for part in parts if (piece := places.get(place._replace(part=part))) is not None]
        value = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
        if layout.convolutions and place.part in _LINEAR and value.dim() == 2:
            value = value[:, :, None, None]
        name = template.format(s=place.stage, n=place.stage + 1, i=place.block, leaf=place.leaf)
        result[name] = value
    return result


def _pattern(template: str) -> re.Pattern[str]:
    """Turn a template of names into a regular expression with named groups."""
    text = re.escape(template)
    for field in "sni":
        text = text.replace(re.escape(f"{{{field}}}"), rf"(?P<{field}>\d+)")
    return re.compile(text.replace(re.escape("{leaf}"), r"(?P<leaf>weight|bias)"))
