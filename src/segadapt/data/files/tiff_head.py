"""The head of a TIFF file: its layout, whether or not any decoder here knows its kind of pixels."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

from segadapt.core.reading import open_file
from segadapt.core.types import Size
from segadapt.data.files import tiff as tags

_EXTRA = 338
_PLACE = (33550, 33922, 34264, 34735)
"""Tags of GeoTIFF: size of a pixel, tie points, transformation, keys of the coordinate system."""
_RGB, _CMYK, _YCBCR, _LAB = 2, 5, 6, 8
_KINDS = {1: "uint", 2: "int", 3: "float", 4: "uint"}
"""Kinds of numbers; 4 leaves open what they mean."""


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
        with open_file(path) as file:
            if file.read(4) not in tags.HEADS:
                return None
            tiff = tags.Tiff(file)
            page = tiff.pages[0]
            return TiffHead(
                size=(tiff.numbers(page, tags.HEIGHT)[0], tiff.numbers(page, tags.WIDTH)[0]),
                samples=tiff.number(page, tags.SAMPLES, 1),
                bits=max(tiff.numbers(page, tags.BITS), default=1),
                kind=_KINDS.get(max(tiff.numbers(page, tags.SAMPLE_FORMAT), default=1), "other"),
                photometric=tiff.number(page, tags.PHOTOMETRIC, 0),
                extra=tuple(tiff.numbers(page, _EXTRA)),
                planes=tiff.number(page, tags.PLANAR, 1) == 2,
                georeferenced=any(tag in page for tag in _PLACE),
            )
    except (OSError, ValueError, IndexError, struct.error, OverflowError):
        return None
