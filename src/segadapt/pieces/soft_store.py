"""Soft pseudo labels of whole images in a few hundred kilobytes.

Log-probabilities at the network's stride are rounded to whole steps; what is kept is the difference
of each place from its left neighbour, in a Huffman code. Rounding in the logarithm keeps the *ratios*
of probabilities, which is what reweighting changes and compares; what is below the floor counts as it. The
size is bounded: the step grows until the bytes fit.
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
STEPS = (0.05, 0.07, 0.1, 0.14, 0.2, 0.28, 0.4, 0.8, 1.5, 3.0)
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
        changes = levels.copy()
        changes[..., 1:] -= levels[..., :-1]
        packed = np.array([number, *levels.shape], "<u2").tobytes() + _deflated(changes.tobytes())
        if len(packed) <= budget:
            break
    return packed


def decode(packed: bytes) -> npt.NDArray[np.float16]:
    """The log-probabilities [K, h, w] of :func:`encode`; RequestError if the bytes are damaged."""
    try:
        number, *shape = np.frombuffer(packed[: 2 * _HEAD], "<u2").tolist()
        changes = np.frombuffer(zlib.decompress(packed[2 * _HEAD :]), np.uint8).reshape(shape)
        step = STEPS[number]
    except (ValueError, IndexError, zlib.error) as problem:
        raise RequestError("a stored soft label is damaged; remove the stage's folder and resume") from problem
    levels = changes.cumsum(-1, dtype=np.uint8)  # modulo 256, as the differences are
    table = (-step * np.arange(math.ceil(-FLOOR / step) + 1)).astype(np.float16)
    return np.asarray(table[levels], np.float16)


def _deflated(data: bytes) -> bytes:
    """Huffman code alone: differences repeat in value, not in sequence, and looking for sequences takes time."""
    packer = zlib.compressobj(6, zlib.DEFLATED, zlib.MAX_WBITS, 9, zlib.Z_HUFFMAN_ONLY)
    return packer.compress(data) + packer.flush()
