"""Writing tiny data sets in their official layouts, with Pillow and raw bytes, not with the code under test."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from segadapt.labels import IGNORE


def picture(height: int = 6, width: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def save(path: Path, array: np.ndarray, palette: list[int] | None = None) -> Path:
    """RGB, grey or (with ``palette``) palette file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.ascontiguousarray(array))
    if palette is not None:
        image.putpalette(palette)
        assert image.mode == "P"
    image.save(path)
    return path


def save_16bit_rgb(path: Path, array: np.ndarray) -> Path:
    """A 16-bit RGB PNG, chunk by chunk (Pillow cannot write one)."""
    height, width, _ = array.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )
    return path


def odd_palette() -> list[int]:
    """A palette in which no index equals its colour's luma."""
    return [(37 * i + 11 * c + 5) % 256 for i in range(256) for c in range(3)]


def lookup_table(ids: Mapping[int, int]) -> np.ndarray:
    """[256] uint8 from raw label ids to train ids; ids not listed become IGNORE."""
    table = np.full(256, IGNORE, np.uint8)
    for raw, train_id in ids.items():
        table[raw] = train_id
    return table
