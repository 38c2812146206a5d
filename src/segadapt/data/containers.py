"""Image files as bytes: are they whole, how large is the image, and palettes kept as indices.

Decoders replace the missing end of a truncated JPEG or PNG by grey and only print a warning, so
wholeness is checked on the bytes before anything is decoded.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_PNG_PALETTE, _PNG_GREY = 3, 0
_JPEG_SCAN = 0xDA
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_BARE = frozenset({0x01, *range(0xD0, 0xD9)})
"""Markers without a length: TEM, RST0-7 and SOI."""


def damage(data: bytes) -> str | None:
    """What is wrong with the bytes of an image file, in words, or None when they look whole.

    PNG: every chunk complete with a matching checksum, up to the end chunk. JPEG: an end marker
    after the image data; anything may follow it. BMP and WebP: as long as their header says.
    Other formats are left to the decoder.
    """
    if not data:
        return "is empty"
    if not any(data):
        return "holds nothing but zero bytes"
    if data.startswith(PNG_SIGNATURE):
        return _png_damage(data)
    if data.startswith(_JPEG_START):
        return _jpeg_damage(data)
    if data.startswith(b"BM") and len(data) >= 6:
        return _shorter(data, struct.unpack_from("<I", data, 2)[0])
    if data.startswith(b"RIFF") and len(data) >= 8:
        return _shorter(data, struct.unpack_from("<I", data, 4)[0] + 8)
    return None


def size_of(data: bytes) -> tuple[int, int] | None:
    """(height, width) from the header of a PNG or JPEG file; None for other formats."""
    if data.startswith(PNG_SIGNATURE) and len(data) >= 24:
        width, height = struct.unpack_from(">II", data, 16)
        return height, width
    if data.startswith(_JPEG_START):
        for marker, start, _ in _jpeg_segments(data):
            if marker in _JPEG_FRAMES and start + 5 <= len(data):
                height, width = struct.unpack_from(">HH", data, start + 1)
                return (height, width) if height else None
    return None


def split_palette(data: bytes) -> tuple[bytes, int, npt.NDArray[np.uint8]] | None:
    """A palette PNG as a grey PNG of its indices, or None for any other file.

    Returns:
        the bytes of the grey PNG; the factor by which a decoder stretches its values (17 for 4 bits
        a pixel and so on, 1 for 8 bits); the palette [n, 3] in RGB.
    """
    if not data.startswith(PNG_SIGNATURE) or len(data) < 33 or data[25] != _PNG_PALETTE:
        return None
    depth = data[24]
    grey, palette = [PNG_SIGNATURE], np.zeros((0, 3), np.uint8)
    for kind, body, whole in _png_chunks(data):
        if kind == b"IHDR":
            grey.append(_png_chunk(kind, bytes(body[:9]) + bytes([_PNG_GREY]) + bytes(body[10:])))
        elif kind == b"PLTE":
            palette = np.frombuffer(bytes(body[: len(body) // 3 * 3]), np.uint8).reshape(-1, 3)
        elif kind in (b"IDAT", b"IEND"):
            grey.append(bytes(whole))
    return b"".join(grey), stretch(depth), palette


def grey_depth(data: bytes) -> int | None:
    """Bits a pixel of a grey PNG, or None for any other file."""
    return data[24] if data.startswith(PNG_SIGNATURE) and len(data) >= 33 and data[25] == _PNG_GREY else None


def stretch(depth: int) -> int:
    """The factor by which decoders stretch grey values of ``depth`` bits to the range 0 .. 255."""
    return 255 // ((1 << depth) - 1) if depth < 8 else 1


def _shorter(data: bytes, expected: int) -> str | None:
    return f"is cut off ({len(data)} of {expected} bytes)" if len(data) < expected else None


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, memoryview, memoryview]]:
    """(type, body, whole chunk) of each complete chunk, in order."""
    view, at = memoryview(data), len(PNG_SIGNATURE)
    while at + 12 <= len(data):
        length = int.from_bytes(view[at : at + 4], "big")
        end = at + 12 + length
        if end > len(data):
            return
        yield bytes(view[at + 4 : at + 8]), view[at + 8 : end - 4], view[at:end]
        at = end


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _png_damage(data: bytes) -> str | None:
    for kind, _, whole in _png_chunks(data):
        if zlib.crc32(whole[4:-4]) != int.from_bytes(whole[-4:], "big"):
            return f"is damaged (PNG checksum of a {kind.decode('latin-1')} chunk does not match)"
        if kind == b"IEND":
            return None
    return "is cut off (PNG without its end)"


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, start of the body, end) of each segment before the image data, and its first scan."""
    at = len(_JPEG_START)
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker in _JPEG_BARE:
            at += 2
            continue
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        yield marker, at + 4, end
        if marker == _JPEG_SCAN:
            return
        at = end


def _jpeg_damage(data: bytes) -> str | None:
    # A thumbnail in the header has its own end marker, so the search starts behind the first scan header.
    for marker, _, end in _jpeg_segments(data):
        if marker == _JPEG_SCAN:
            return None if data.find(_JPEG_END, end) >= 0 else "is cut off (JPEG without its end)"
    return "is cut off (JPEG without image data)"
