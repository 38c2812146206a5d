"""How large an image may be that is decoded as a whole: a file of one megabyte may unfold to gigabytes.

The limit is an environment variable, so that processes that decode images have it, however they were started.
"""

from __future__ import annotations

import os
from pathlib import Path

from segadapt.errors import RequestError

VARIABLE = "SEGADAPT_MAX_PIXELS"
MOST_PIXELS = 1 << 28
"""Pixels of the largest image unless somebody says otherwise: 16384 x 16384."""
BYTES_PER_PIXEL = 10
"""Memory that decoding an RGB image takes at its peak, measured on PNG files: pixels, and rows on the way to them."""
_OUTSIDE = os.environ.get(VARIABLE)


def limit_pixels(most: int | None) -> None:
    """Limit from now on, in this process and those that it starts, how many pixels an image may have.

    Args:
        most: pixels; None for what the environment says, or else :data:`MOST_PIXELS`.
    """
    value = _OUTSIDE if most is None else str(most)
    if value is None:
        os.environ.pop(VARIABLE, None)
    else:
        os.environ[VARIABLE] = value


def most_pixels() -> int:
    """Return how many pixels an image may have that is decoded as a whole.

    Raises:
        RequestError: the environment does not say a number.
    """
    text = os.environ.get(VARIABLE, "")
    if text and not (text.isascii() and text.isdigit() and 0 < len(text) < 16):
        raise RequestError(f"{VARIABLE} is '{text[:40]}'; set it to a number of pixels, or to nothing")
    return int(text) if text else MOST_PIXELS


def over_limit(width: int, height: int, path: Path) -> str | None:
    """Return the line that refuses an image of this size; None where it may be decoded."""
    most = most_pixels()
    if width * height <= most:
        return None
    return (
        f"{path} has {width} x {height} pixels, which take about {width * height * BYTES_PER_PIXEL / 1e9:.1f} GB to "
        f"decode; the limit is {most:,} pixels: cut it into tiles (segadapt data tile IMAGES --out TILES), or raise "
        "the limit (--max-pixels, in a run data.max_pixels)"
    )
