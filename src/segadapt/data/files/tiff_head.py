"""The head of a TIFF file: its layout, whether or not any decoder here knows its kind of pixels."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

from segadapt.core.types import Size

_HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First bytes; the last two are those of BigTIFF."""
_HEIGHT, _WIDTH, _BITS, _PHOTOMETRIC, _SAMPLES, _PLANES, _EXTRA, _FORMAT = 257, 256, 258, 262, 277, 284, 338, 339
_PLACE = (33550, 33922, 34264, 34735)
"""Tags of GeoTIFF: size of a pixel, tie points, transformation, keys of the coordinate system."""
_UNSIGNED = 1
_RGB, _CMYK, _YCBCR, _LAB = 2, 5, 6, 8
_KINDS = {1: "uint", 2: "int", 3: "float", 4: "uint"}
"""Kinds of numbers; 4 leaves open what they mean."""
_NUMBERS = {1: "B", 3: "H", 4: "I", 16: "Q"}
"""Types of tags that hold whole numbers, and the letters by which struct knows them."""
_MOST_TAGS = 4096


class TiffHead(NamedTuple):
    """The layout of the first page.

    Attributes:
        size: (height, width).
        samples: numbers per pixel.
        bits: bits of each number.
        kind: ``uint``, ``int``, ``float`` or ``other``.
        photometric: meaning of the numbers, as TIFF counts it.
        extra: meaning of the samples that are no colours: 1 or 2 for alpha, 0 for anything else.
        planes: whether the samples lie one after the other and not side by side.
        georeferenced: whether the file says where on Earth it lies.
    """

    size: Size
    samples: int
    bits: int
    kind: str
    photometric: int
    extra: tuple[int, ...]
    planes: bool
    georeferenced: bool

    @property
    def plain(self) -> bool:
        """Whether it is a picture as cameras and drawing programs write it: grey, palette, RGB, CMYK, YCbCr, Lab.

        Anything else is a raster: several bands without the meaning of colours, more than four samples, numbers with a
        sign, fractions, more than 16 bits, or more than 8 bits at a place on Earth, which are measurements.
        """
        if self.kind != "uint" or self.bits > (8 if self.georeferenced else 16):
            return False
        if self.planes and self.bits > 8:
            return False  # Pillow cannot
        colours = {_RGB: 3, _CMYK: 4, _YCBCR: 3, _LAB: 3}.get(self.photometric, 1)
        more = self.samples - colours
        return more == 0 or (more == 1 and all(meaning in (1, 2) for meaning in self.extra))

    def __str__(self) -> str:
        return f"{self.samples} band{'s' if self.samples > 1 else ''} of {self.bits}-bit {self.kind}"


def tiff_head(path: Path) -> TiffHead | None:
    """Return the layout of a TIFF file, judged by its content and not its suffix; None for other and damaged files."""
    try:
        with path.open("rb") as file:
            start = file.read(16)
            return _head(_tags(file, start)) if start[:4] in _HEADS else None
    except (OSError, KeyError, struct.error, OverflowError):
        return None


def _tags(file: BinaryIO, start: bytes) -> dict[int, tuple[int, ...]]:
    """Return the whole numbers of the first page's tags; of other tags that they are there."""
    order = "<" if start[:2] == b"II" else ">"
    big = 43 in start[2:4]
    offset, count, entry = ("Q", "Q", "HHQ8s") if big else ("I", "H", "HHI4s")
    file.seek(struct.unpack_from(order + offset, start, 8 if big else 4)[0])
    (number,) = struct.unpack(order + count, file.read(struct.calcsize(count)))
    entries = file.read(min(number, _MOST_TAGS) * struct.calcsize(order + entry))
    found: dict[int, tuple[int, ...]] = {}
    for tag, kind, values, place in struct.iter_unpack(order + entry, entries):
        letter = _NUMBERS.get(kind)
        if letter is None or values > _MOST_TAGS:
            found[tag] = ()
            continue
        layout = f"{order}{values}{letter}"
        if struct.calcsize(layout) > len(place):
            file.seek(struct.unpack(order + offset, place)[0])
            place = file.read(struct.calcsize(layout))
        found[tag] = struct.unpack_from(layout, place)
    return found


def _head(tags: dict[int, tuple[int, ...]]) -> TiffHead:
    kind = max(tags.get(_FORMAT, (_UNSIGNED,)))
    return TiffHead(
        size=(tags[_HEIGHT][0], tags[_WIDTH][0]),
        samples=tags.get(_SAMPLES, (1,))[0],
        bits=max(tags.get(_BITS, (1,))),
        kind=_KINDS.get(kind, "other"),
        photometric=tags.get(_PHOTOMETRIC, (0,))[0],
        extra=tags.get(_EXTRA, ()),
        planes=tags.get(_PLANES, (1,))[0] == 2,
        georeferenced=any(tag in tags for tag in _PLACE),
    )
