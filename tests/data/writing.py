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


def tiff_page(
    array: np.ndarray,
    photometric: int = 1,
    *,
    planes: bool = False,
    order: str = "<",
    deflate: bool = False,
    predictor: int = 1,
    tile: int = 0,
    rows: int = 1000,
    more: Mapping[int, tuple[str, list[int] | bytes]] | None = None,
) -> tuple[dict[int, tuple[str, list[int] | bytes]], list[bytes]]:
    """Return the tags and the strips or tiles of a TIFF page; ``array`` is [H, W] or [H, W, bands] of any type."""
    array = array if array.ndim == 3 else array[..., None]
    height, width, bands = array.shape
    kind = array.dtype.newbyteorder(order)
    high, wide = (tile, tile) if tile else (min(rows, height), width)
    parts = []
    for plane in np.split(array, bands, axis=2) if planes else [array]:
        for top in range(0, height, high):
            for left in range(0, width, wide):
                part = plane[top : top + high, left : left + wide]
                if tile:
                    part = np.pad(part, ((0, tile - part.shape[0]), (0, tile - part.shape[1]), (0, 0)))
                if predictor == 2:
                    whole = part.view(f"u{part.dtype.itemsize}").copy()
                    whole[:, 1:] -= whole[:, :-1].copy()
                    part = whole.view(part.dtype)
                data = np.ascontiguousarray(part).astype(kind).tobytes()
                parts.append(zlib.compress(data) if deflate else data)
    tags: dict[int, tuple[str, list[int] | bytes]] = {
        256: ("I", [width]),
        257: ("I", [height]),
        258: ("H", [array.dtype.itemsize * 8] * bands),
        259: ("H", [8 if deflate else 1]),
        262: ("H", [photometric]),
        277: ("H", [bands]),
        284: ("H", [2 if planes else 1]),
        317: ("H", [predictor]),
        339: ("H", [{"u": 1, "i": 2, "f": 3}[array.dtype.kind]] * bands),
        324 if tile else 273: ("I", []),
        325 if tile else 279: ("I", [len(part) for part in parts]),
    }
    tags |= {322: ("H", [tile]), 323: ("H", [tile])} if tile else {278: ("I", [high])}
    return {**tags, **(more or {})}, parts


def tiff(*pages: tuple[dict[int, tuple[str, list[int] | bytes]], list[bytes]], order: str = "<") -> bytes:
    """Return a TIFF file of pages by :func:`tiff_page`, byte for byte."""
    out = bytearray((b"II" if order == "<" else b"MM") + struct.pack(order + "H", 42) + bytes(4))
    link = 4
    for tags, parts in pages:
        places = []
        for part in parts:
            places.append(len(out))
            out += part
        entries = b""
        for tag in sorted(tags):
            form, value = tags[tag]
            value = places if tag in (273, 324) else value
            packed = value if isinstance(value, bytes) else struct.pack(f"{order}{len(value)}{form}", *value)
            if len(packed) > 4:
                at, out = len(out), out + packed
                packed = struct.pack(order + "I", at)
            number = {"s": 2, "H": 3, "I": 4}[form]
            entries += struct.pack(order + "HHI", tag, number, len(value)) + packed.ljust(4, b"\0")
        out[link : link + 4] = struct.pack(order + "I", len(out))
        link = len(out) + 2 + len(entries)
        out += struct.pack(order + "H", len(tags)) + entries + bytes(4)
    return bytes(out)
