"""From images opened by Pillow, or bytes decoded by OpenCV, to the numbers that are stored in the file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from segadapt.data.dataset import DamagedFile
from segadapt.data.files.decoded import Decoded, Palette, Values, whole_numbers
from segadapt.data.files.orientation import turned

CHANNELS_OF_16_BITS = ("LA", "RGB", "RGBA", "RGBX")
"""Modes of Pillow with 8 bits per channel in which it may have dropped the lower half of 16."""
_PNM = re.compile(rb"P([1-6])\s(?:\s*#[^\n]*\n)*\s*\d+\s(?:\s*#[^\n]*\n)*\s*\d+\s(?:\s*#[^\n]*\n)*\s*(\d*)")


def upright(found: Decoded, orientation: int) -> Decoded:
    """Return the same content, turned as its orientation tag says."""
    return found if orientation == 1 else found._replace(values=turned(found.values, orientation))


def of_pillow(image: Image.Image, raw: str, path: Path) -> Decoded:
    """Return what a loaded image holds."""
    bits, kind = bits_of(image.mode, raw), image.format or ""
    if image.mode in ("P", "PA"):
        indices = np.asarray(image)
        indices = (indices if indices.ndim == 2 else indices[..., 0]).copy()
        palette = np.array(image.getpalette("RGB") or (), np.uint8).reshape(-1, 3)
        if kind == "GIF" and greys_only(palette) and indices.max(initial=0) < len(palette):
            return Decoded(palette[indices, 0], None, 8, kind)
        return Decoded(indices, palette, bits, kind)
    white = {16: 65535, 32: 65535}.get(bits, (1 << bits) - 1)
    return Decoded(_unstretched(_numbers(image, path), raw), None, bits, kind, white)


def greys_only(palette: Palette) -> bool:
    """Return whether a palette holds no colour. That of a GIF then only stores greys, which it cannot do otherwise."""
    return bool((palette == palette[:, :1]).all())


def raw_mode(image: Image.Image) -> str:
    """Return Pillow's name of the layout of a file that is not loaded yet, e.g. ``L;4`` or ``RGB;16B``."""
    tiles = getattr(image, "tile", None) or [("", None, 0, "")]
    arguments = tiles[0][3]
    raw = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return raw if isinstance(raw, str) else ""


def bits_of(mode: str, raw: str) -> int:
    """Return the bits per channel of a mode and layout of Pillow."""
    if ";16" in raw or mode.startswith("I;16"):
        return 16
    if mode in ("1", "I", "F"):
        return 1 if mode == "1" else 32
    depth = raw.partition(";")[2][:1]
    return int(depth) if mode in ("L", "P") and depth in ("1", "2", "4") else 8


def _unstretched(values: Values, raw: str) -> Values:
    """Return the own values of a grey file of 2 or 4 bits, which Pillow spreads over 0 .. 255."""
    depth = {"L;2": 2, "L;4": 4}.get(raw)
    return values if depth is None else (values // (255 // ((1 << depth) - 1))).astype(np.uint8)


def unscaled(found: Decoded, data: bytes) -> Decoded:
    """Return the own values of a file of the PPM family, which Pillow spreads over 0 .. 255 or 0 .. 65535."""
    head = _PNM.match(data)
    if head is None:
        return found
    if head[1] in (b"1", b"4"):  # 1 is black there
        return found._replace(values=1 - found.values, inverted=True)
    white, full = int(head[2]), 65535 if found.values.dtype == np.uint16 else 255
    if white > full:  # colours of more than 8 bits, of which Pillow keeps 8
        return found
    values = (found.values.astype(np.int64) * (2 * white) + full) // (2 * full)
    return found._replace(values=values.astype(found.values.dtype), bits=8 if full == 255 else 16, white=white)


def _numbers(image: Image.Image, path: Path) -> Values:
    """Return the grey [H, W] or RGB [H, W, 3] values of a loaded image that has no palette."""
    mode = image.mode
    if mode in ("1", "L") or mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16 if mode.startswith("I") else np.uint8)
    if mode in ("I", "F"):
        return whole_numbers(np.asarray(image), (), path)[0]
    if mode in ("LA", "La"):
        return np.array(np.asarray(image)[..., 0], np.uint8)
    if mode not in ("RGB", "RGBA", "RGBX", "RGBa"):
        image = image.convert("RGB")
    return np.array(np.asarray(image)[..., :3], np.uint8)


def by_opencv(data: bytes, path: Path) -> Values:
    """Decode a whole file of 16-bit channels to grey [H, W] or RGB [H, W, 3] uint16."""
    try:
        values: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        values = None
    if values is None:
        raise DamagedFile(f"{path} is not an image that can be decoded; fetch it again, or save it as PNG")
    if values.ndim == 2:
        return np.asarray(values)
    return np.ascontiguousarray(values[..., 2::-1] if values.shape[2] >= 3 else values[..., 0])
