"""Label maps as PNG files whose pixel values are the labels and which still look right in a viewer."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import numpy.typing as npt

from segadapt.labels import LabelMap

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _PALETTE = 0, 3


def encode_index_png(label: LabelMap, palette: npt.NDArray[np.uint8] | None = None) -> bytes:
    """A label map [H, W] uint8 as an 8-bit PNG.

    Args:
        label: the values to store.
        palette: [256, 3] RGB; the file then is a palette PNG (Pillow's mode P: the stored index is
            the label, the colour is for the eye). None writes grey values.

    OpenCV cannot write palettes, and for one PNG chunk an imaging library is no longer worth a
    dependency.
    """
    if label.ndim != 2 or label.dtype != np.uint8 or not label.size:
        raise ValueError(f"a label map is [H, W] uint8 and not empty, not {label.shape} {label.dtype}")
    height, width = label.shape
    header = struct.pack(">IIBBBBB", width, height, 8, _GREY if palette is None else _PALETTE, 0, 0, 0)
    # Each row starts with its filter type. "Up" (difference to the row above) suits maps of large regions.
    rows = np.empty((height, width + 1), np.uint8)
    rows[:, 0] = 2
    rows[0, 1:] = label[0]
    np.subtract(label[1:], label[:-1], out=rows[1:, 1:])
    parts = [_SIGNATURE, _chunk(b"IHDR", header)]
    if palette is not None:
        parts.append(_chunk(b"PLTE", np.ascontiguousarray(palette, np.uint8).tobytes()))
    parts += [_chunk(b"IDAT", zlib.compress(rows.tobytes(), 6)), _chunk(b"IEND", b"")]
    return b"".join(parts)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
