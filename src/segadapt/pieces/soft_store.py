"""Compression: soft pseudo labels of a whole image in a few hundred kilobytes.

Log-probabilities at the network's stride are rounded to whole steps; the difference of each place
from its left neighbour is stored in a Huffman code. Rounding in the logarithm preserves the *ratios*
of probabilities, which reweighting changes and compares; values below the floor count as the floor.
The size is bounded: the step grows until the bytes fit.
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
"""Log-probabilities below this are stored as this (a probability of 6e-6)."""
STEPS = (0.05, 0.07, 0.1, 0.14, 0.2, 0.28, 0.4, 0.8, 1.5, 3.0)
"""Rounding steps in nats, finest first; the last leaves five values, which always fit."""
BUDGET = 400_000
"""Bytes per image at most, for maps of up to 19 x 129 x 257 entries; larger maps may take more in proportion."""
_ENTRIES = 19 * 129 * 257
_HEAD = 4


def encode(log_p: Tensor) -> bytes:
    """Compress the log-probabilities of one image.

    Args:
        log_p: [K, h, w] log-probabilities, any floating type and device.

    Returns:
        At most :data:`BUDGET` bytes (in proportion for larger maps), of which the first eight hold the
        rounding step and the shape.

    Example:
        >>> log_p = torch.tensor([0.75, 0.25]).log().view(2, 1, 1)
        >>> [round(p, 2) for p in np.exp(decode(encode(log_p)).astype(np.float64)).flatten().tolist()]
        [0.74, 0.25]
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
    """Restore the log-probabilities that :func:`encode` compressed.

    Args:
        packed: the bytes.

    Returns:
        [K, h, w] float16, rounded to the step.

    Raises:
        RequestError: the bytes are damaged.

    Example:
        >>> decode(encode(torch.zeros(1, 2, 3))).shape
        (1, 2, 3)
    """
    try:
        number, *shape = np.frombuffer(packed[: 2 * _HEAD], "<u2").tolist()
        changes = np.frombuffer(zlib.decompress(packed[2 * _HEAD :]), np.uint8).reshape(shape)
        step = STEPS[number]
    except (ValueError, IndexError, zlib.error) as problem:
        raise RequestError("a stored soft label is damaged; remove the stage's folder and resume") from problem
    levels = changes.cumsum(-1, dtype=np.uint8)  # modulo 256, like the differences
    table = (-step * np.arange(math.ceil(-FLOOR / step) + 1)).astype(np.float16)
    return np.asarray(table[levels], np.float16)


def _deflated(data: bytes) -> bytes:
    """Compress by Huffman code alone: values repeat, sequences do not, and a search for sequences takes time."""
    packer = zlib.compressobj(6, zlib.DEFLATED, zlib.MAX_WBITS, 9, zlib.Z_HUFFMAN_ONLY)
    return packer.compress(data) + packer.flush()
