"""Decoding JPEG files strictly: a picture of which a part is missing or garbled is not handed on.

JPEG has no checksums. libjpeg goes on over most damage and only warns, and neither Pillow nor OpenCV hands its warnings
on; simplejpeg does, with the same pixels. Damage that leaves a valid stream of the right length cannot be told.
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
import simplejpeg

_DAMAGE = re.compile("Corrupt JPEG data|Premature end")
"""The warnings of libjpeg that are about missing or garbled data; others are about unusual headers."""
_SPARE = re.compile(r"(\d+) extraneous bytes before marker 0xd9")
_BUFFERED = 8
"""Bytes behind the last pixel that libjpeg may have read ahead and does not count as spare."""
_ZEROS = bytes(64)
"""Zeros from which on they are looked at; as codes of coefficients they fill almost three blocks."""
_TABLES, _END, _SCAN = 0xC4, 0xD9, 0xDA
_STANDALONE = {0x01, *range(0xD0, 0xD9)}
"""Markers without a segment behind them."""


def decode_strictly(data: bytes) -> tuple[npt.NDArray[np.uint8] | None, str | None]:
    """Decode a JPEG file, and say whether it is whole.

    Returns:
        Grey values [H, W] or RGB [H, W, 3], None where another decoder must make them (four channels, rare codings);
        and what is wrong with the file, None where nothing is known to be wrong.
    """
    try:
        space = simplejpeg.decode_jpeg_header(data)[2]
        wanted = {"Gray": "GRAY", "CMYK": "CMYK", "YCCK": "CMYK"}.get(space, "RGB")
        picture = simplejpeg.decode_jpeg(data, wanted)
    except ValueError as problem:
        text = str(problem)
        spare = _SPARE.search(text)
        damaged = _DAMAGE.search(text) and not (spare and _is_padding(data, int(spare[1])))
        return None, text if damaged else _zeroed(data)
    values = {1: picture[..., 0], 3: picture}.get(picture.shape[2])
    return values, _zeroed(data)


def _is_padding(data: bytes, spare: int) -> bool:
    """Return whether zeros behind the pixels, for which a decoder had no use, only fill a file up."""
    scans = _scans(data)
    body = data[: scans[-1][1] if scans else 0]
    return 0 <= len(body) - len(body.rstrip(b"\0")) - spare <= _BUFFERED


def _zeroed(data: bytes) -> str | None:
    """Return a text where a part of the pixels was overwritten with zeros, as bad disks and copies do.

    Decoders take zeros for codes. The code of zeros alone is the shortest one. Where it means the end of a block, many
    of them show a flat area; else they are dozens of equal coefficients in a row, which occur in no picture.
    """
    if data.find(_ZEROS) < 0:
        return None
    for start, end, flat in _scans(data):
        place = data.find(_ZEROS, start, end)
        if place >= 0 and not flat and data[place:end].strip(b"\0"):
            return f"zeros in place of pixels from byte {place} on"
    return None


def _scans(data: bytes) -> list[tuple[int, int, bool]]:
    """List, of every scan, where its codes start and end, and whether zeros may be the code of a flat area."""
    scans: list[tuple[int, int, bool]] = []
    zero_codes: dict[int, int] = {}
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != _END:
        marker = data[at + 1]
        if marker == 0xFF or marker in _STANDALONE:
            at += 1 if marker == 0xFF else 2
            continue
        body = data[at + 4 : at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")]
        at += 4 + len(body)
        if marker == _TABLES:
            zero_codes |= _zero_codes(body)
        elif marker == _SCAN and len(body) >= 4 + 2 * body[0]:
            start, at = at, _end_of_scan(data, at)
            scans.append((start, at, _may_be_flat(body, zero_codes)))
    return scans


def _may_be_flat(head: bytes, zero_codes: dict[int, int]) -> bool:
    """Return, for the head of a scan, whether zeros may be the code of a flat area in it."""
    channels = head[0]
    last, refined = head[2 + 2 * channels], head[3 + 2 * channels] >> 4
    if last == 0 or refined:  # mean values of blocks alone, or further bits of coefficients
        return True
    tables = (0x10 | (head[2 + 2 * i] & 15) for i in range(channels))
    return all(zero_codes.get(table, 0) & 15 == 0 for table in tables)  # a code without a coefficient


def _zero_codes(body: bytes) -> dict[int, int]:
    """Map each table of a segment of Huffman tables to the symbol whose code consists of zeros."""
    found, at = {}, 0
    while at + 17 < len(body):
        found[body[at]] = body[at + 17]
        at += 17 + sum(body[at + 1 : at + 17])
    return found


def _end_of_scan(data: bytes, at: int) -> int:
    """Return where the codes from ``at`` on end: at the first marker that is not one to restart at."""
    while 0 <= (at := data.find(b"\xff", at)) < len(data) - 1:
        if data[at + 1] != 0 and not 0xD0 <= data[at + 1] <= 0xD7:
            return at
        at += 2
    return len(data)
