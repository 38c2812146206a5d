"""Sending small tensors from the CPU to the device of a training step without waiting for it."""

from __future__ import annotations

import torch
from torch import Tensor


def sent(value: Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """Return a tensor on a device; the program goes on while it travels.

    A copy from ordinary memory makes the program wait for all that the GPU has to do before it. So the tensor first
    gets its type and then goes to memory that the GPU reads by itself; PyTorch keeps that memory for later steps.

    Args:
        value: of any shape; one that is on the device already stays as it is.
        device: where it is needed.
        dtype: type that it is to have; None leaves it.

    Example:
        >>> sent(torch.zeros(2, dtype=torch.float64), torch.device("cpu"), torch.float32).dtype
        torch.float32
    """
    value = value.to(dtype) if dtype is not None else value
    if device.type == "cuda" and value.device.type == "cpu" and not value.is_pinned():
        value = value.pin_memory()
    return value.to(device, non_blocking=True)
