"""A memory of recent rows on the device."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MemoryBank(nn.Module):
    """A ring buffer: new rows overwrite the oldest ones, and no row moves.

    All state is in registered buffers, so a resumed run continues with it. The order of rows has no meaning.

    Args:
        length: L, number of rows.
        channels: D, length of a row.

    Example:
        >>> bank = MemoryBank(length=3, channels=2)
        >>> bank.push(torch.ones(2, 2))
        >>> bank.valid.tolist()
        [True, True, False]
    """

    rows: Tensor
    filled: Tensor
    cursor: Tensor

    def __init__(self, length: int, channels: int) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(length, channels))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))
        self.register_buffer("cursor", torch.zeros((), dtype=torch.int64))

    @property
    def valid(self) -> Tensor:
        """[L] bool: rows that hold something."""
        return torch.arange(len(self.rows), device=self.rows.device) < self.filled

    @torch.no_grad()
    def push(self, rows: Tensor) -> None:
        """Store rows [n, D]; if there are more than L, only the last L."""
        rows = rows[-len(self.rows) :].to(self.rows.dtype)
        places = (self.cursor + torch.arange(len(rows), device=rows.device)) % len(self.rows)
        self.rows.index_copy_(0, places, rows)
        self.cursor.copy_((self.cursor + len(rows)) % len(self.rows))
        self.filled.copy_((self.filled + len(rows)).clamp(max=len(self.rows)))
