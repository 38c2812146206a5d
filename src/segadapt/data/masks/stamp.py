"""The stamp of masks that segadapt writes: which class each value or colour of the file is, inside the file.

Whoever named the classes may number them otherwise than the file does (a prediction holds train ids). The stamp says
which class a value is, so that such a file is read by names, wherever it was copied to. In a PNG it is a text chunk in
front of the pixels, in a TIFF the image description; programs that save the file anew leave it out.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from segadapt.core.reading import open_file
from segadapt.data.files import tiff as tags
from segadapt.labels import Color, hex_color

KEY = "segadapt-classes"
"""Keyword of the text chunk, and first word of a TIFF's image description."""
LEGEND_FORMAT = "segadapt-legend-1"
"""Format of the legend beside masks, see :mod:`segadapt.data.masks.mask_format`."""
_VERSION = 1
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEAD_END = 33
"""Where the first chunk of a PNG, its header, ends."""
_LARGEST = 1 << 20
"""Bytes of the largest stamp; 255 long names take some 30 000."""


@dataclass(frozen=True)
class Stamp:
    """The classes of one file.

    Attributes:
        values: value of an index mask -> name of its class; None marks pixels of no class.
        colors: the same by the colours of a colour mask; one of the two is empty.
    """

    values: Mapping[int, str | None] = field(default_factory=dict)
    colors: Mapping[Color, str | None] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the classes, in order of values or colours."""
        return tuple(n for known in (self.values, self.colors) for _, n in sorted(known.items()) if n is not None)

    def text(self) -> str:
        """Return the stamp as ASCII text; in a TIFF it is the image description."""
        told = {
            "version": _VERSION,
            "values": {str(value): name for value, name in self.values.items()},
            "colors": {hex_color(color): name for color, name in self.colors.items()},
        }
        return f"{KEY} {json.dumps(told)}"

    def into_png(self, content: bytes) -> bytes:
        """Return the content of a PNG file with the stamp behind its header."""
        text = zlib.compress(self.text().removeprefix(f"{KEY} ").encode("ascii"))
        body = b"zTXt" + KEY.encode("ascii") + b"\0\0" + text
        chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
        return content[:_HEAD_END] + chunk + content[_HEAD_END:]


def read_stamp(path: Path) -> Stamp | None:
    """Return the stamp of a file; None where it has none or cannot be read. The pixels are not looked at."""
    try:
        with open_file(path) as file:
            head = file.read(len(_SIGNATURE))
            text = _of_png(file) if head == _SIGNATURE else _of_tiff(file) if head[:4] in tags.HEADS else None
            return None if text is None else _parsed(text)
    except (OSError, ValueError, struct.error, zlib.error, AttributeError, TypeError):
        return None  # damaged; decoding it will say so


def _of_png(file: BinaryIO) -> str | None:
    """Search the chunks in front of the pixels."""
    mark = KEY.encode("ascii") + b"\0\0"
    while True:
        length, kind = struct.unpack(">I4s", file.read(8))
        if kind in (b"IDAT", b"IEND"):
            return None
        if kind == b"zTXt" and length < _LARGEST:
            body = file.read(length)
            file.seek(4, 1)
            if body.startswith(mark):
                return zlib.decompressobj().decompress(body[len(mark) :], _LARGEST).decode("ascii")
        else:
            file.seek(length + 4, 1)


def _of_tiff(file: BinaryIO) -> str | None:
    tiff = tags.Tiff(file)
    said = tiff.text(tiff.pages[0], tags.DESCRIPTION).rstrip(b"\0").decode("ascii", "replace")
    return said.removeprefix(f"{KEY} ") if said.startswith(f"{KEY} ") else None


def _parsed(text: str) -> Stamp | None:
    told = json.loads(text)
    if told.get("version") != _VERSION:
        return None
    colors = {_color(color): _name(name) for color, name in told["colors"].items()}
    return Stamp({int(value): _name(name) for value, name in told["values"].items()}, colors)


def _color(text: str) -> Color:
    red, green, blue = bytes.fromhex(text.removeprefix("#"))
    return red, green, blue


def _name(name: object) -> str | None:
    return None if name is None else str(name)
