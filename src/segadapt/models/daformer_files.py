"""Checkpoints of DAFormer, HRDA and MIC: choose one of their networks and rename its tensors.

A training checkpoint holds the student (``model.``), the teacher (``ema_model.``), the frozen ImageNet
network (``imnet_model.``), and with MIC sometimes a second teacher. A published checkpoint holds the
student alone. Encoder and head are ``backbone.`` and ``decode_head.``; HRDA has ``decode_head.head.``
and ``decode_head.scale_attention.`` instead of the latter.
"""

from __future__ import annotations

from typing import Any

from segadapt.errors import RequestError
from segadapt.models.mit import size_of
from segadapt.models.unpacking import Checkpoint, State

STUDENT, TEACHER = "model.", "ema_model."
MARK = "backbone.patch_embed1.proj.weight"
"""A tensor of every network of DAFormer, HRDA and MIC."""

DETAIL = 512
"""Side in pixels of HRDA's detail crops."""

_NAMES = (("backbone.", "encoder."), ("decode_head.", "decode_head."))
_HRDA_NAMES = (
    ("backbone.", "base.encoder."),
    ("decode_head.head.", "base.decode_head."),
    ("decode_head.scale_attention.", "attention."),
)


def choose_network(checkpoint: Checkpoint, teacher: bool = False) -> None:
    """Reduce a checkpoint of DAFormer, HRDA or MIC to one network with our names; leave other files unchanged.

    Args:
        checkpoint: changed in place; prefixes of the networks left out are added to ``dropped``.
        teacher: take the teacher instead of the student.

    Raises:
        RequestError: the checkpoint has no such network, or its head is of another kind.
    """
    prefixes = [key.removesuffix(MARK) for key in checkpoint.state if key == MARK or key.endswith(f".{MARK}")]
    if not prefixes:
        if teacher:
            raise RequestError(f"'{checkpoint.path}' is not a checkpoint of DAFormer, HRDA or MIC; leave out --teacher")
        return
    prefix = TEACHER if teacher else "" if "" in prefixes else STUDENT
    if prefix not in prefixes:
        found = ", ".join(name.rstrip(".") or "the student" for name in prefixes)
        wanted = "teacher (ema_model); published files have none" if teacher else "student (model)"
        raise RequestError(f"'{checkpoint.path}' holds {found} and no {wanted}")
    for other in prefixes:
        if other != prefix:
            checkpoint.dropped.append(other.rstrip("."))
    checkpoint.state = _renamed(
        {
            key.removeprefix(prefix): value
            for key, value in checkpoint.state.items()
            if key.startswith(prefix) and not any(len(p) > len(prefix) and key.startswith(p) for p in prefixes)
        },
        checkpoint,
    )


def family_architecture(state: State) -> dict[str, Any]:
    """Return name and arguments of the network that :func:`choose_network` left."""
    hrda = any(key.startswith("base.") for key in state)
    before = "base." if hrda else ""
    encoder = f"{before}encoder."
    size = size_of({key.removeprefix(encoder): value for key, value in state.items() if key.startswith(encoder)})
    name = f"daformer_{size or 'mit_b5'}"  # unknown size: the comparison with B5 will say what is wrong
    width = state[f"{before}decode_head.conv_seg.weight"].shape[1]
    if not hrda:
        return {"name": name, "width": width}
    attention = state.get("attention.conv_seg.weight")
    classwise = attention is None or attention.shape[:1] != (1,)
    return {"name": f"hrda:{name}", "detail": DETAIL, "classwise": classwise, "base": {"width": width}}


def _renamed(state: State, checkpoint: Checkpoint) -> State:
    """Give the tensors our names; RequestError if the head lacks one of its tensors."""
    hrda = any(key.startswith("decode_head.head.") for key in state)
    head = "decode_head.head." if hrda else "decode_head."
    for needed in ("fuse_layer.bottleneck.conv.weight", "conv_seg.weight"):
        if head + needed not in state:
            raise RequestError(
                f"'{checkpoint.path}' has a Mix Transformer but no '{head}{needed}', which the heads of DAFormer, "
                "HRDA and MIC have; use an encoder alone as model.weights"
            )
    result: State = {}
    for key, value in state.items():
        old, new = next((pair for pair in (_HRDA_NAMES if hrda else _NAMES) if key.startswith(pair[0])), ("", ""))
        result[new + key.removeprefix(old)] = value
    return result
