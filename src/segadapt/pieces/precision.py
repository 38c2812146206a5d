"""Which floating-point numbers a device has."""

from __future__ import annotations

import torch


def wide(device: torch.device) -> torch.dtype:
    """The widest type of a device, for sums over many numbers: float64, or float32 on Apple's GPUs."""
    return torch.float32 if device.type == "mps" else torch.float64
