"""How label maps become files for others: in train ids, in the ids of Cityscapes, or in the user's own ids.

=============  ===================================================================================
``train``      PNG of train ids 0 .. K - 1, 255 for no class; with a palette, in which viewers show the colours
``cityscapes`` grey PNG of the label ids of Cityscapes, 0 for no class
``own``        grey PNG of the ids that the user's own masks have, 16 bits where one is above 255; where
               these masks show their classes by colour alone, a colour PNG
=============  ===================================================================================

Every file carries a :class:`~segadapt.data.masks.stamp.Stamp`, and a legend lies beside them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from segadapt.core.files import read_json, write_json
from segadapt.data.files.writing import encode_index_png, encode_picture
from segadapt.data.masks.stamp import LEGEND_FORMAT, Stamp
from segadapt.errors import RequestError, nearest
from segadapt.labels import CITYSCAPES, IGNORE, LARGEST_ID, Color, LabelMap, LabelSpace

Ids = Literal["train", "cityscapes", "own"]
LEGEND = "legend.json"
_ABOUT = {
    "train": "index masks: 'value' is the value of a pixel, not one of yours; OpenCV reads palette files as colours",
    "cityscapes": "grey masks: 'value' is the value of a pixel, the label id of Cityscapes",
    "own": "grey masks: 'value' is the value of a pixel, as in the masks that the model was trained with",
}
_ABOUT_COLORS = "colour masks: 'color' is the colour of a pixel, as in the masks that the model was trained with"
_IN_MASKS = "pixels of no class"
_FREE = "pixels of no class; the masks that the model was trained with have none, so this is a free value"


@dataclass(frozen=True)
class MaskFormat:
    """The values or colours of one kind of files.

    Attributes:
        space: the classes.
        ids: name of the kind, see the module.
        values: one per class; empty for colour masks.
        ignored: value of pixels of no class.
        ignored_color: their colour.
    """

    space: LabelSpace
    ids: str
    values: tuple[int, ...]
    ignored: int
    ignored_color: Color

    @cached_property
    def table(self) -> npt.NDArray[np.unsignedinteger[Any]]:
        """Look-up from train ids: [256] uint8 or uint16 values, or [256, 3] uint8 colours."""
        if not self.values:
            return self.color_table
        kind = np.uint8 if max(*self.values, self.ignored) <= IGNORE else np.uint16
        table = np.full(256, self.ignored, kind)
        table[: len(self.values)] = self.values
        return table

    @cached_property
    def color_table(self) -> npt.NDArray[np.uint8]:
        """Look-up from train ids: [256, 3] uint8 colours."""
        table = np.array([self.ignored_color] * 256, np.uint8)
        table[: len(self.space)] = self.space.colors
        return table

    @cached_property
    def stamp(self) -> Stamp:
        """The classes by the values or colours of a file."""
        if not self.values:
            return self.color_stamp
        return Stamp({self.ignored: None, **dict(zip(self.values, self.space.names, strict=True))})

    @cached_property
    def color_stamp(self) -> Stamp:
        """The classes by their colours; empty where two share one."""
        if len({*self.space.colors, self.ignored_color}) <= len(self.space):
            return Stamp()
        return Stamp(colors={self.ignored_color: None, **dict(zip(self.space.colors, self.space.names, strict=True))})

    def encode(self, label: LabelMap) -> bytes:
        """Return the content of the PNG file of a label map [H, W] in train ids and IGNORE."""
        if self.ids == "train":
            return self.stamp.into_png(encode_index_png(label, self.space.palette()))
        return self.stamp.into_png(encode_picture(".png", self.table[label]))

    def encode_colors(self, label: LabelMap) -> bytes:
        """Return the content of a colour PNG [H, W, 3] of a label map in train ids and IGNORE."""
        content = encode_picture(".png", self.color_table[label])
        return self.color_stamp.into_png(content) if self.color_stamp.colors else content

    def legend(self, made_by: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return as plain JSON values what the files hold; a classes file of such files, too.

        Args:
            made_by: provenance of the model; its run and stage are told.
        """
        origin = {key: made_by[key] for key in ("run", "stage") if made_by and key in made_by}
        shown = self.values or (None,) * len(self.space)
        return {
            "format": LEGEND_FORMAT,
            "about": _ABOUT[self.ids] if self.values else _ABOUT_COLORS,
            "model": origin,
            "ids": self.ids,
            "classes": [
                {"name": name, "value": value, "own_id": own_id, "color": list(color)}
                for name, value, own_id, color in zip(
                    self.space.names, shown, self.space.ids or (None,) * len(self.space), self.space.colors, strict=True
                )
            ],
            "no_class": {
                "value": self.ignored if self.values else None,
                "color": list(self.ignored_color),
                "note": _IN_MASKS if self._ignores_as_masks else _FREE,
            },
        }

    @property
    def _ignores_as_masks(self) -> bool:
        if self.ids != "own":
            return True
        return self.ignored == self.space.ignore_id if self.values else self.ignored_color == self.space.ignore_color


def mask_format(space: LabelSpace, ids: str) -> MaskFormat:
    """Return how label maps of ``space`` are written.

    Own masks must tell every class: one that has no id there, while others have, gets a free one, and so do pixels of
    no class where these masks have no value for them.

    Raises:
        RequestError: the kind is unknown, a class has no Cityscapes id, or own ids are not known.
    """
    if ids not in get_args(Ids):
        raise RequestError(
            f"ids '{ids}' is unknown{nearest(ids, get_args(Ids))}; there are: {', '.join(get_args(Ids))}"
        )
    black = _free_color(space)
    if ids == "train":
        return MaskFormat(space, ids, tuple(range(len(space))), IGNORE, black)
    if ids == "cityscapes":
        return MaskFormat(space, ids, _cityscapes_ids(space), 0, black)
    if not space.ids:
        raise RequestError(
            f"the model does not hold the ids that your masks have for its classes ({', '.join(space.names[:4])}, "
            "...): it was made by an earlier version; write train ids, which the legend explains"
        )
    if all(i is None for i in space.ids):
        if len(set(space.colors)) < len(space):
            raise RequestError("two classes have the same colour, so own colour masks cannot tell them; use train ids")
        return MaskFormat(space, ids, (), IGNORE, black)
    values = _all_ids(space)
    taken = space.ignore_id is None or space.ignore_id in values
    ignored = _free(range(IGNORE, -1, -1), values) if taken else space.ignore_id
    return MaskFormat(space, ids, values, ignored or 0, black)


def write_legend(folder: Path, legend: Mapping[str, Any], overwrite: bool) -> None:
    """Write the legend beside masks; a legend of other values, and a file that is none, are not replaced silently.

    Raises:
        RequestError: such a file is there.
        RunError: the file cannot be written.
    """
    require_legend_place(folder, legend, overwrite)
    write_json(folder / LEGEND, legend)


def require_legend_place(folder: Path, legend: Mapping[str, Any], overwrite: bool) -> None:
    """Raise RequestError where :func:`write_legend` would replace a file that says otherwise."""
    path = folder / LEGEND
    found = read_json(path)
    if not path.exists():
        return
    if not isinstance(found, dict) or found.get("format") != LEGEND_FORMAT:
        raise RequestError(f"'{path}' is no legend of segadapt and would be replaced; name another output folder")
    if not overwrite and any(found.get(key) != legend[key] for key in ("ids", "classes", "no_class")):
        raise RequestError(
            f"'{path}' is the legend of masks with other classes or ids; name another output folder, or allow "
            "overwriting (--overwrite)"
        )


def _cityscapes_ids(space: LabelSpace) -> tuple[int, ...]:
    strangers = [name for name in space.names if name not in CITYSCAPES.names]
    if strangers:
        raise RequestError(
            f"class '{strangers[0]}' of label space '{space.name}' has no Cityscapes id; write train ids instead"
        )
    return tuple(CITYSCAPES.ids[CITYSCAPES.index(name)] or 0 for name in space.names)


def _all_ids(space: LabelSpace) -> tuple[int, ...]:
    """Return an id for every class: its own, or the smallest that nothing else has."""
    values = list(space.ids)
    for place, value in enumerate(values):
        if value is None:
            values[place] = _free(range(LARGEST_ID), (*values, space.ignore_id, IGNORE))
    return tuple(value for value in values if value is not None)


def _free(candidates: Iterable[int], taken: Iterable[int | None]) -> int:
    used = set(taken)
    return next(value for value in candidates if value not in used)


def _free_color(space: LabelSpace) -> Color:
    """Return the colour of pixels of no class: the user's own, or the darkest grey that no class has."""
    wanted: tuple[Color, ...] = (space.ignore_color,) if space.ignore_color is not None else ()
    greys: list[Color] = [(level, level, level) for level in range(256)]  # more than there can be classes
    return next(color for color in (*wanted, *greys) if color not in space.colors)
