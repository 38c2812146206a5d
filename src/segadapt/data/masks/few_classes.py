"""Refusing masks of one class, with the advice that fits what the masks hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segadapt.data.dataset import DamagedFile
from segadapt.data.decode import as_indices, decode
from segadapt.data.masks.classes_file import MaskClass
from segadapt.data.masks.labelling import color_codes, color_of
from segadapt.errors import RequestError
from segadapt.labels import IGNORE, LabelSpace

_LOOKED_AT = 30
"""Masks that are read for the advice, evenly spaced."""
_LISTED = 6


def require_two(space: LabelSpace, where: str) -> None:
    """Raise RequestError for a single class: every pixel would be it, and every score 100."""
    if len(space) < 2:
        raise RequestError(
            f"{where}: there is one class, '{space.names[0]}'; at least two are needed, such as "
            f"{{{_other_than(space.names[0])}: 0, {space.names[0]}: 1}}"
        )


def require_two_classes(classes: Sequence[MaskClass], masks: Sequence[Path], name: str) -> None:
    """Raise RequestError where fewer than two classes are not ignored; it shows a classes file that fits the masks."""
    kept = [c for c in classes if not c.ignored]
    if len(kept) > 1:
        return
    left_out = sorted({i for c in classes if c.ignored for i in c.ids or ()})
    cause = f", as the classes file ignores {_several(left_out)}" if left_out else ""
    only = kept[0]
    advice = _advice(only, masks)
    raise RequestError(
        f"{name}: there is one class, '{only.name}'{cause}; one class alone can be neither trained nor scored, so give "
        f"the other pixels a class, too: {advice}"
    )


def _advice(only: MaskClass, masks: Sequence[Path]) -> str:
    values, colors = _content(masks)
    if only.colors and not only.ids:
        shown = [f"{_list(color)}" for color in sorted(colors - set(only.colors))]
        own = _list(only.colors[0]) if len(only.colors) == 1 else f"{{colors: [{', '.join(map(_list, only.colors))}]}}"
        rest = shown[0] if len(shown) == 1 else f"{{colors: [{', '.join(shown)}]}}"
    else:
        ids = only.ids or ()
        numbers = sorted(values - set(ids) - {IGNORE}) or sorted(values - set(ids))
        shown = [str(i) for i in numbers]
        own = _several(ids)
        rest = _several(numbers)
    if not shown or len(shown) > _LISTED:
        rest = "others"
    seen = "" if shown else f" (the masks hold nothing but {own} in the first {min(len(masks), _LOOKED_AT)} looked at)"
    return f"{{{_other_than(only.name)}: {rest}, {only.name}: {own}}}{seen}"


def _other_than(name: str) -> str:
    return "background" if name != "background" else "object"


def _several(ids: Sequence[int]) -> str:
    listed = ", ".join(map(str, ids))
    return listed if len(ids) == 1 else f"{{ids: [{listed}]}}"


def _list(color: Sequence[int]) -> str:
    return f"[{', '.join(map(str, color))}]"


def _content(masks: Sequence[Path]) -> tuple[set[int], set[tuple[int, int, int]]]:
    """Return the values and the colours of some of the masks."""
    values: set[int] = set()
    colors: set[tuple[int, int, int]] = set()
    chosen = np.linspace(0, len(masks) - 1, min(len(masks), _LOOKED_AT)).astype(int).tolist()
    for path in (masks[i] for i in dict.fromkeys(chosen)):
        try:
            stored = decode(path).values
        except DamagedFile:
            continue
        indices = as_indices(stored)
        if indices is not None:
            values.update(np.unique(indices).tolist())
        if stored.ndim == 3 and len(colors) <= _LISTED:
            colors.update(color_of(code) for code in np.unique(color_codes(stored)).tolist()[: 2 * _LISTED])
    return values, colors
