"""The values or colours that masks hold, as stored, whether a class has them or not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segadapt.data.dataset import DamagedFile
from segadapt.data.decode import as_indices, decode, read_picture
from segadapt.data.masks.labelling import color_codes, color_of
from segadapt.data.streaming import ordered_map
from segadapt.labels import Color, hex_color

Sign = int | Color
"""How masks show a class: a value, or a colour (red, green, blue)."""
MOST_SIGNS = 1 << 16
"""Most values and colours that are told apart; smoothed masks have millions."""


@dataclass
class SignCount:
    """How often a value or colour occurs.

    Attributes:
        pixels: in all masks together.
        masks: number of masks with it.
        place: index of the mask that has most of it.
        most: pixels of it there.
    """

    pixels: int = 0
    masks: int = 0
    place: int = 0
    most: int = 0


@dataclass
class MaskValues:
    """The values and colours of several masks.

    Attributes:
        counts: by value or colour, in increasing order.
        pixels: of all masks together.
        masks: number of masks that could be read.
    """

    counts: dict[Sign, SignCount] = field(default_factory=dict)
    pixels: int = 0
    masks: int = 0

    def share(self, sign: Sign) -> float:
        """Return the share of a value or colour in all pixels, in [0, 1]."""
        return self.counts[sign].pixels / max(self.pixels, 1) if sign in self.counts else 0.0

    @property
    def values(self) -> list[int]:
        """The values of index masks, in increasing order."""
        return [sign for sign in self.counts if isinstance(sign, int)]


def shown(sign: Sign) -> str:
    """Return a value or colour as a text: ``7`` or ``#804080``."""
    return str(sign) if isinstance(sign, int) else hex_color(sign)


def count_values(masks: Sequence[Path], threads: int | None = None, colors: bool = False) -> MaskValues:
    """Count the values of index masks and the colours of colour masks; damaged masks are passed over.

    Grey masks saved as RGB count as index masks, palette files by their indices.

    Args:
        masks: files of any kind that can be decoded.
        threads: decoding threads.
        colors: whether to count the colours that palette and grey masks show, instead of their values.
    """
    found = MaskValues()
    for place, counted in enumerate(ordered_map(lambda i: _counted(masks[i], colors), range(len(masks)), threads)):
        if counted is None:
            continue
        found.masks += 1
        for sign, pixels in counted:
            found.pixels += pixels
            if sign not in found.counts and len(found.counts) >= MOST_SIGNS:
                continue
            entry = found.counts.setdefault(sign, SignCount())
            entry.pixels += pixels
            entry.masks += 1
            if pixels > entry.most:
                entry.place, entry.most = place, pixels
    found.counts = dict(sorted(found.counts.items(), key=lambda item: (isinstance(item[0], tuple), item[0])))
    return found


def sign_map(path: Path, sign: Sign) -> npt.NDArray[np.bool_]:
    """Return where a mask has a value or colour, [H, W] bool."""
    values = decode(path).values
    if isinstance(sign, int):
        indices = as_indices(values)
        return np.zeros(values.shape[:2], bool) if indices is None else np.asarray(indices == sign)
    return np.asarray((values == np.array(sign)).all(axis=2)) if values.ndim == 3 else np.zeros(values.shape, bool)


def _counted(path: Path, colors: bool) -> list[tuple[Sign, int]] | None:
    try:
        if colors:
            return list(_of(color_codes(read_picture(path)), True))
        values = decode(path).values
    except DamagedFile:
        return None
    indices = as_indices(values)
    return list(_of(indices if indices is not None else color_codes(values), indices is None))


def _of(codes: npt.NDArray[np.integer[Any]], colors: bool) -> Iterator[tuple[Sign, int]]:
    for code, pixels in zip(*(part.tolist() for part in np.unique(codes, return_counts=True)), strict=True):
        yield (color_of(code) if colors else code), pixels
