"""Masks that segadapt wrote, read as masks again: by the names in their stamps, not by the ids of a classes file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from segadapt.core.alike import alike
from segadapt.data.decode import UnknownLabel, Values, as_indices
from segadapt.data.masks.classes_file import MaskClass
from segadapt.data.masks.labelling import IndexLabels, label_colors, some
from segadapt.data.masks.stamp import Stamp, read_stamp
from segadapt.errors import RequestError
from segadapt.labels import IGNORE, LabelMap

_FIX = "it was changed after segadapt wrote it; predict it again, or save it anew without its text chunks"


def stamps_of(masks: Iterable[Path]) -> dict[Path, Stamp]:
    """Return the stamps of those masks that have one; only the heads of the files are read."""
    found = ((mask, read_stamp(mask)) for mask in masks)
    return {mask: stamp for mask, stamp in found if stamp is not None}


def classes_in(stamps: Iterable[Stamp]) -> tuple[MaskClass, ...]:
    """Return the classes that stamps name; where files number them otherwise, in the order of their first mention."""
    different = list({stamp.text(): stamp for stamp in stamps}.values())
    if len(different) == 1:
        values = [(name, value) for value, name in sorted(different[0].values.items()) if name is not None]
        colors = [(name, color) for color, name in sorted(different[0].colors.items()) if name is not None]
        return (
            *(MaskClass(name, ids=(value,)) for name, value in values),
            *(MaskClass(name, colors=(color,)) for name, color in colors),
        )
    names = dict.fromkeys(name for stamp in different for name in stamp.names)
    return tuple(MaskClass(name, (place,)) for place, name in enumerate(names))


def require_known(stamps: Mapping[Path, Stamp], classes: Sequence[MaskClass], name: str) -> None:
    """Refuse masks whose stamp names a class that nothing here names.

    Raises:
        RequestError: names the first file and its classes.
    """
    if any(c.others for c in classes):
        return
    known = [c.name for c in classes if not c.ignored]
    for path, stamp in stamps.items():
        strange = [n for n in stamp.names if n not in known]
        if strange:
            meant = alike(strange[0], known)
            hint = f" (did you mean '{meant}'?)" if meant else ""
            raise RequestError(
                f"{name}: {path} was written by segadapt for the classes {some(stamp.names)}; '{strange[0]}'{hint} is "
                f"none of the classes here ({some(known)}); name the classes alike in the classes file, or add "
                "{ignore: others}"
            )


def notice_of(stamps: Mapping[Path, Stamp], masks: int, name: str) -> str:
    """Say in one line how these masks are read."""
    which = "the masks were" if len(stamps) == masks else f"{len(stamps)} of {masks} masks were"
    return f"{name}: {which} written by segadapt; they are read by the class names in the files, not by ids"


def read_by_names(values: Values, stamp: Stamp, known: Mapping[str, int], others: int | None, path: Path) -> LabelMap:
    """Return the label map [H, W] of a mask by its stamp.

    Args:
        values: stored values [H, W], or colours [H, W, 3].
        stamp: of the file.
        known: class name -> train id or IGNORE.
        others: train id or IGNORE of classes that are not known; None where they are an error.
        path: for messages.

    Raises:
        UnknownLabel: the file holds a value or colour that its stamp has not, or an unknown class.
    """

    def train_id(name: str | None) -> int | None:
        return IGNORE if name is None else known.get(name, others)

    if stamp.colors:
        colors = {color: t for color, name in stamp.colors.items() if (t := train_id(name)) is not None}
        picture = values if values.ndim == 3 else np.repeat(values[..., None], 3, axis=2)
        return label_colors(picture, colors, path, _FIX)
    indices = as_indices(values)
    if indices is None:
        raise UnknownLabel(f"{path} says that it is an index map, but is a colour picture; {_FIX}")
    ids = {value: t for value, name in stamp.values.items() if (t := train_id(name)) is not None}
    return IndexLabels(ids, f"values that its stamp names ({some(sorted(ids))})", fix=_FIX).look_up(indices, path)
