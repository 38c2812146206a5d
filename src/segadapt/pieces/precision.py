"""Precision of sums, and of what half-precision networks give."""

from __future__ import annotations

import torch
from torch import Tensor


def wide(device: torch.device) -> torch.dtype:
    """The widest type of a device, for sums over many numbers: float64, or float32 on Apple's GPUs."""
    return torch.float32 if device.type == "mps" else torch.float64


def at_least_float32(x: Tensor) -> Tensor:
    """float64 as it is, any other type as float32."""
    return x if x.dtype == torch.float64 else x.float()
