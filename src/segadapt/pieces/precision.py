"""Precision of sums and of the outputs of half-precision networks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

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


@contextmanager
def exact_products(device: torch.device) -> Iterator[None]:
    """Multiply float32 matrices in float32, whatever the precision of the network.

    Neither autocast nor TF32, which keeps ten bits, may touch differences of large numbers or sums that are counts.

    Example:
        >>> with exact_products(torch.device("cpu")):
        ...     torch.get_float32_matmul_precision()
        'highest'
    """
    before = torch.get_float32_matmul_precision()
    if before != "highest":
        torch.set_float32_matmul_precision("highest")
    try:
        known = torch.amp.is_autocast_available(device.type)
        with torch.autocast(device.type, enabled=False) if known else nullcontext():
            yield
    finally:
        if before != "highest":
            torch.set_float32_matmul_precision(before)
