"""Precision of sums and of the outputs of half-precision networks."""

from __future__ import annotations

import torch
from torch import Tensor


def wide(device: torch.device) -> torch.dtype:
    """Return the widest type of a device, for long sums: float64, or float32 on Apple's GPUs.

    Example:
        >>> wide(torch.device("cpu"))
        torch.float64
    """
    return torch.float32 if device.type == "mps" else torch.float64


def at_least_float32(x: Tensor) -> Tensor:
    """Convert to float32; float64 stays as it is.

    Example:
        >>> at_least_float32(torch.zeros(1, dtype=torch.float16)).dtype
        torch.float32
    """
    return x if x.dtype == torch.float64 else x.float()
