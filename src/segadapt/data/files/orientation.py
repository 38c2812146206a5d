"""Turning pictures as a viewer shows them: the orientation tag (EXIF 0x0112, TIFF 274) is obeyed."""

from __future__ import annotations

import struct
from typing import BinaryIO, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

TAG = 274
_T = TypeVar("_T", bound=np.generic)


def turned(values: npt.NDArray[_T], orientation: int) -> npt.NDArray[_T]:
    """Turn and mirror pixels [H, W, ...] as stored, so that they are upright.

    Args:
        values: the pixels.
        orientation: 1 to 8 (EXIF 2.3, section 4.6.4); any other number is taken for 1.
    """
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    return np.ascontiguousarray(values)


def swaps_sides(orientation: int) -> bool:
    """Return whether an upright picture is as wide as the stored one is high."""
    return orientation in (5, 6, 7, 8)


def orientation_of(image: Image.Image, file: BinaryIO) -> int:
    """Return the orientation tag of an image that Pillow has opened, 1 if it has none that can be read.

    Args:
        image: opened, perhaps not loaded.
        file: its content. A PNG file may have the tag behind its pixels; only then are they decoded.
    """
    try:
        late = image.format == "PNG" and _has_late_tags(file)
        tags = image.getexif() if late else Image.Image.getexif(image)
        orientation = int(tags.get(TAG, 1))
    except Exception:  # tags are written by all kinds of programs; viewers ignore those that they cannot read
        return 1
    return orientation if 1 <= orientation <= 8 else 1


def _has_late_tags(file: BinaryIO) -> bool:
    """Return whether a PNG file has texts or EXIF tags behind its pixels."""
    at, pixels, position = 8, False, file.tell()
    try:
        while True:
            file.seek(at)
            head = file.read(8)
            if len(head) < 8:
                return False
            length, kind = struct.unpack(">I4s", head)
            if pixels and kind in (b"eXIf", b"tEXt", b"zTXt", b"iTXt"):
                return True
            pixels = pixels or kind == b"IDAT"
            at += 12 + length
    finally:
        file.seek(position)
