"""The numbers and colours that a mask holds, found by decoding it once; kept by content for the next start.

A set of 25,000 masks takes minutes to decode and a second or two to find again. Threads decode, the processes of a run
do a part each, and what was found is kept in :mod:`segadapt.core.kept`, a file for each folder of masks.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from segadapt.core.content import content_key
from segadapt.core.files import read_json, short_hash, write_json
from segadapt.core.kept import kept_folder
from segadapt.data.dataset import DamagedFile
from segadapt.data.decode import as_indices, decode
from segadapt.data.files.decoded import Palette, Values
from segadapt.data.masks.labelling import color_codes
from segadapt.data.streaming import shared_map
from segadapt.errors import RequestError, RunError

_VERSION = 1
_MOST = 256
"""Colours of a mask that are told apart, and values of a mask that is kept; more are no classes."""


class MaskSigns(NamedTuple):
    """The numbers and colours of one mask.

    Attributes:
        values: distinct numbers of a grey or palette mask, or of a grey picture saved as RGB; None for colours.
        codes: up to 256 distinct colours of an RGB file, see :func:`~segadapt.data.masks.labelling.color_codes`.
        rgb: whether it is an RGB file.
        palette, bits, format, white, no_data: see :class:`~segadapt.data.files.decoded.Decoded`.
        solid: the values that have a pixel with four neighbours of the same value.
    """

    values: tuple[int, ...] | None
    codes: tuple[int, ...]
    rgb: bool
    palette: Palette | None
    bits: int
    format: str
    white: int
    no_data: int | None
    solid: tuple[int, ...]


def signs_of(path: Path, ignore_ids: Sequence[int]) -> MaskSigns:
    """Decode a mask and return what it holds; DamagedFile where it cannot be read."""
    stored = decode(path, ignore_ids)
    rgb, indices = stored.values.ndim == 3, as_indices(stored.values)
    return MaskSigns(
        values=None if indices is None else distinct(indices),
        codes=distinct(color_codes(stored.values))[:_MOST] if rgb else (),
        rgb=rgb,
        palette=stored.palette,
        bits=stored.bits,
        format=stored.format,
        white=stored.white,
        no_data=stored.no_data,
        solid=() if rgb else _solid(stored.values),
    )


def look_at_masks(masks: Sequence[Path], ignore_ids: Sequence[int]) -> Iterator[tuple[Path, MaskSigns | DamagedFile]]:
    """Yield every mask with what it holds, or why it cannot be read, in order.

    Masks that are the same as when they were looked at before are not decoded.
    """
    file = _file(masks, ignore_ids)
    kept = _load(file)
    found: dict[str, MaskSigns] = {}

    def work(path: Path) -> tuple[str, MaskSigns | DamagedFile]:
        try:
            key = content_key(path)
            return key, kept[key] if key in kept else signs_of(path, ignore_ids)
        except DamagedFile as problem:
            return "", problem
        except RequestError as problem:  # of a file that is not there
            return "", DamagedFile(str(problem))

    for path, (key, signs) in zip(masks, shared_map(work, masks), strict=True):
        if not isinstance(signs, DamagedFile) and len(signs.values or ()) <= _MOST:
            found[key] = signs
        yield path, signs
    if file is not None and not found.keys() <= kept.keys():
        _save(file, {**kept, **found} if len(kept) <= 4 * len(found) else found)


def distinct(values: npt.NDArray[np.generic]) -> tuple[int, ...]:
    """Return the distinct values of a map [H, W]; only the first pixel of each horizontal run is looked at."""
    starts = np.ones(values.shape, bool)
    starts[:, 1:] = values[:, 1:] != values[:, :-1]
    return tuple(int(v) for v in np.unique(values[starts]))


def _solid(values: Values) -> tuple[int, ...]:
    inner = values[1:-1, 1:-1]
    same = (inner == values[:-2, 1:-1]) & (inner == values[2:, 1:-1])
    same &= (inner == values[1:-1, :-2]) & (inner == values[1:-1, 2:])
    return tuple(int(value) for value in np.flatnonzero(np.bincount(inner[same])))


# ---- keeping ----


def _file(masks: Sequence[Path], ignore_ids: Sequence[int]) -> Path | None:
    """Return the file for what is known of the masks of a folder; None where nothing is kept."""
    folder = kept_folder("masks")
    if folder is None or not masks:
        return None
    around = os.path.commonpath([path.absolute().parent for path in masks])
    return folder / f"{short_hash([_VERSION, around, list(ignore_ids)])}.json"


def _load(file: Path | None) -> dict[str, MaskSigns]:
    """Return what a file says of masks, by the key of their content; nothing where it is missing or damaged."""
    held: Any = read_json(file) if file is not None else None
    with suppress(KeyError, TypeError, ValueError, IndexError):
        if held["check"] == short_hash(held["masks"]):
            palettes = [np.array(colors, np.uint8).reshape(-1, 3) for colors in held["masks"]["palettes"]]
            return {key: _signs(row, palettes) for key, row in held["masks"]["by_key"].items()}
    return {}


def _signs(row: Sequence[Any], palettes: Sequence[Palette]) -> MaskSigns:
    one = MaskSigns(*row)
    place: Any = one.palette
    return one._replace(
        values=None if one.values is None else tuple(one.values),
        codes=tuple(one.codes),
        palette=None if place is None else palettes[place],
        solid=tuple(one.solid),
    )


def _save(file: Path, signs: dict[str, MaskSigns]) -> None:
    """Write what is known of masks, each palette once; where that fails, masks are decoded again."""
    places: dict[bytes, int] = {}
    rows = {}
    for key, one in signs.items():
        place = None if one.palette is None else places.setdefault(one.palette.tobytes(), len(places))
        rows[key] = [*one._replace(palette=None)]
        rows[key][MaskSigns._fields.index("palette")] = place
    palettes = [list(colors) for colors in places]
    content = {"palettes": palettes, "by_key": rows}
    with suppress(RunError):
        write_json(file, {"masks": content, "check": short_hash(content)})
