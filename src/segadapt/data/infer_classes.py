"""Finding out which classes masks hold when no file names them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from segadapt.data.classes_file import MaskClass
from segadapt.data.dataset import DamagedFile
from segadapt.data.decode import as_indices, decode
from segadapt.data.labelling import color_codes, color_of
from segadapt.errors import RequestError
from segadapt.labels import IGNORE, Color

_NAME = re.compile(r"class_\d+|#[0-9a-f]{6}")
MOST_CLASSES = 64
"""Masks with more values or colours than this are taken for photographs."""


class _Found:
    """Values, colours and palette of the masks seen so far."""

    def __init__(self) -> None:
        self.values: set[int] = set()
        self.codes: set[int] = set()
        self.palette: npt.NDArray[np.uint8] | None = None
        self.index_mask: Path | None = None
        self.color_mask: Path | None = None

    def add(self, path: Path) -> None:
        stored = decode(path)
        indices = as_indices(stored.values)
        if stored.values.ndim == 3:
            self.codes.update(_distinct(color_codes(stored.values)))
            if indices is None:
                self.color_mask = self.color_mask or path
        else:
            self.index_mask = self.index_mask or path
        if indices is not None:
            self.values.update(_distinct(indices))
        if self.palette is None:
            self.palette = stored.palette


def infer_classes(masks: Sequence[Path], ignore_ids: Sequence[int], name: str) -> tuple[MaskClass, ...]:
    """Make one class of each value (``class_7``) or colour (``#804080``) that occurs in any of the masks.

    Names say the value, so that masks of another folder that lack a class still agree on the rest.
    Reads every mask once, one at a time. Damaged masks are passed over; reading them later names them.

    Raises:
        DamagedFile: no mask can be read.
        RequestError: a JPEG; more than :data:`MOST_CLASSES` values; values 0 and 255 alone, which may mean
            one class and ignored pixels or two classes; fewer than two classes; colour and index
            masks together.
    """
    _require_lossless(masks, name)
    found = _Found()
    damaged: list[DamagedFile] = []
    for path in masks:
        try:
            found.add(path)
        except DamagedFile as problem:
            damaged.append(problem)
        _few_enough(found, path, name)
    if damaged and len(damaged) == len(masks):
        raise damaged[0]
    if found.color_mask and found.index_mask:
        raise RequestError(
            f"{name}: {found.color_mask} is a colour mask but {found.index_mask} an index mask; "
            "save all masks alike, or give a classes file with id and color of each class"
        )
    if found.color_mask:
        colors = [color_of(code) for code in sorted(found.codes)]
        return tuple(MaskClass(_hex(color), colors=(color,)) for color in colors)
    return _index_classes(found, ignore_ids, name)


def classes_named(names: Sequence[str]) -> tuple[MaskClass, ...]:
    """Return the classes of names by :func:`infer_classes`; none where a name does not say how masks show it."""
    return tuple(_class_named(name) for name in names) if all(map(_NAME.fullmatch, names)) else ()


def _class_named(name: str) -> MaskClass:
    if name.startswith("#"):
        red, green, blue = bytes.fromhex(name[1:])
        return MaskClass(name, colors=((red, green, blue),))
    return MaskClass(name, (int(name.removeprefix("class_")),))


def _index_classes(found: _Found, ignore_ids: Sequence[int], name: str) -> tuple[MaskClass, ...]:
    if found.values == {0, IGNORE} and IGNORE in ignore_ids:
        raise RequestError(
            f"{name}: the masks hold the values 0 and 255 alone, and 255 usually means 'ignore'; if it is a class, "
            "give a classes file with the ids 0 and 255, or --ignore-id none"
        )
    values = sorted(found.values - set(ignore_ids))
    if len(values) < 2:
        shown, left_out = (", ".join(map(str, sorted(some))) for some in (found.values, found.values - set(values)))
        cause = f", of which --ignore-id leaves out {left_out}" if left_out else ""
        raise RequestError(
            f"{name}: the masks hold only {shown}{cause}; at least two classes are needed, so leave out fewer "
            "values, or name each value in a classes file, such as {background: 0, crack: 255}"
        )
    return tuple(MaskClass(f"class_{value}", (value,), _palette_color(found, value)) for value in values)


def _palette_color(found: _Found, value: int) -> tuple[Color] | None:
    """Return the palette's colour of a value, unless the palette is a plain grey ramp."""
    palette = found.palette
    if palette is None or value >= len(palette) or (palette == palette[:, :1]).all():
        return None
    red, green, blue = (int(part) for part in palette[value])
    return ((red, green, blue),)


def _require_lossless(masks: Sequence[Path], name: str) -> None:
    """Refuse JPEG masks: compression changes values, and each new value would become a class."""
    lossy = [path for path in masks if path.suffix.lower() in (".jpg", ".jpeg")]
    if lossy:
        raise RequestError(
            f"{name}: {len(lossy)} masks are JPEG files, which do not keep the values that were saved, the first is "
            f"{lossy[0]}; save masks as PNG, or give a classes file if these files do hold their ids or colours"
        )


def _few_enough(found: _Found, path: Path, name: str) -> None:
    many, kind = (len(found.codes), "colours") if found.color_mask else (len(found.values), "values")
    if many > MOST_CLASSES:
        raise RequestError(
            f"{name}: the masks hold more than {MOST_CLASSES} different {kind} (up to {path}); masks must be saved "
            "without compression loss or smoothing (PNG), or give a classes file"
        )


def _distinct(values: npt.NDArray[np.generic]) -> list[int]:
    """List the distinct values of a map [H, W]; only the first pixel of each horizontal run is looked at."""
    starts = np.ones(values.shape, bool)
    starts[:, 1:] = values[:, 1:] != values[:, :-1]
    return [int(v) for v in np.unique(values[starts])]


def _hex(color: Color) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)
