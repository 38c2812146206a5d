"""Soft pseudo labels of whole images in a few hundred kilobytes.

Log-probabilities at the network's stride are rounded to whole steps and deflated. Rounding in the
logarithm keeps the *ratios* of probabilities, which is what reweighting changes and compares; what is
below the floor is of no class's chance. The size is bounded: the step grows until the bytes fit.
"""

from __future__ import annotations

import math
import zlib

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from segadapt.errors import RequestError

FLOOR = -12.0
"""Log-probabilities below this are stored as this (6e-6)."""
STEPS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0)
"""Rounding steps in nats, finest first; the last leaves five values, which always fit."""
BUDGET = 400_000
"""Bytes of one image at most, for maps of up to 19 x 129 x 257 entries; larger ones may take more in proportion."""
_ENTRIES = 19 * 129 * 257
_HEAD = 4


def encode(log_p: Tensor) -> bytes:
    """Log-probabilities [K, h, w] of one image as bytes.

    Args:
        log_p: any floating type and device.

    Returns:
        At most :data:`BUDGET` bytes (in proportion for larger maps), after a head of 4 numbers.
    """
    values = log_p.detach().float().clamp(min=FLOOR, max=0.0)
    budget = BUDGET * max(1.0, values.numel() / _ENTRIES)
    packed = b""
    for number, step in enumerate(STEPS):
        levels = (values / -step).round().to("cpu", torch.uint8).numpy()
        # Classes apart, rows in order: neighbours are alike, which is what deflating lives on.
        packed = np.array([number, *levels.shape], "<u2").tobytes() + zlib.compress(levels.tobytes(), 6)
        if len(packed) <= budget:
            break
    return packed


def decode(packed: bytes) -> npt.NDArray[np.float16]:
    """The log-probabilities [K, h, w] of :func:`encode`; RequestError if the bytes are damaged."""
    try:
        number, *shape = np.frombuffer(packed[: 2 * _HEAD], "<u2").tolist()
        levels = np.frombuffer(zlib.decompress(packed[2 * _HEAD :]), np.uint8).reshape(shape)
        step = STEPS[number]
    except (ValueError, IndexError, zlib.error) as problem:
        raise RequestError("a stored soft label is damaged; remove the stage's folder and resume") from problem
    table = (-step * np.arange(math.ceil(-FLOOR / step) + 1)).astype(np.float16)
    return np.asarray(table[levels], np.float16)
