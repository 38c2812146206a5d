"""The content of a file: stored numbers with the facts that say what they mean, and pixels without data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from segadapt.data.dataset import DamagedFile

Values = npt.NDArray[np.unsignedinteger[Any]]
"""Numbers of a file as stored, uint8 or uint16."""
Palette = npt.NDArray[np.uint8]
"""[n, 3] RGB colours of the indices 0 .. n - 1."""
_LARGEST = 65535


class Decoded(NamedTuple):
    """The content of an image or label file as it is stored, upright.

    Attributes:
        values: [H, W] grey values or palette indices, or [H, W, 3] RGB; uint8, or uint16 for more than 8 bits. Grey
            values of 1, 2 or 4 bits are 0 .. 1, 0 .. 3 or 0 .. 15.
        palette: colours of the indices of a palette file, else None.
        bits: bits per channel: 1, 2, 4, 8, 16 or, for files of whole numbers that need not be positive, 32.
        format: Pillow's name of the format, judged by the content and not by the suffix, e.g. ``PNG`` or ``JPEG``.
        white: the grey value that is shown as white.
        inverted: whether 0 is shown as white and ``white`` as black (tag WhiteIsZero; PBM).
        no_data: the value of the pixels without data, where a file has some.
    """

    values: Values
    palette: Palette | None
    bits: int
    format: str
    white: int = 255
    inverted: bool = False
    no_data: int | None = None


def whole_numbers(values: npt.NDArray[Any], no_data: Sequence[float], path: Path) -> tuple[Values, int | None]:
    """Return numbers of any type as uint8 or uint16, where that loses nothing.

    Args:
        values: [H, W] or [H, W, 3].
        no_data: numbers that stand for pixels without data; NaN always does.
        path: for messages.

    Returns:
        The numbers, and the one of them that stands for no data: the first of ``no_data`` that occurs, or an unused one
        where those cannot be numbers of ids, such as -9999; None where every pixel has data.

    Raises:
        DamagedFile: other numbers that are not whole or lie outside 0 .. 65535.
    """
    if values.dtype in (np.uint8, np.uint16):
        ids = [int(number) for number in no_data if float(number).is_integer() and 0 <= number <= _LARGEST]
        return values, next((i for i in ids if (values == i).any()), None)
    void = np.isnan(values) if values.dtype.kind == "f" else np.zeros(values.shape, bool)
    for number in no_data:
        with np.errstate(over="ignore"):  # the largest number of single precision, written with fewer digits
            void |= values == (values.dtype.type(number) if values.dtype.kind == "f" else number)
    kept = np.where(void, 0, values)
    wrong = (kept < 0) | (kept > _LARGEST) | (kept != np.floor(kept))
    if wrong.any():
        first = kept[wrong][0].item()
        raise DamagedFile(
            f"{path} holds {values.dtype} numbers such as {first:g} ({int(wrong.sum())} pixels); labels are whole "
            "numbers from 0 to 65535, and a negative number that means no data is ignored with --ignore-id, or where "
            f"the file says so: gdal_edit.py -a_nodata {first:g} {quote(path.name)}"
        )
    narrow = kept.astype(np.uint16)
    if not void.any():
        return narrow, None
    used = set(np.unique(narrow[~void]).tolist())
    free = next(i for i in range(_LARGEST, -1, -1) if i not in used)
    narrow[void] = free
    return narrow, free
