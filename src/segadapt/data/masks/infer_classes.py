"""Finding out which classes masks hold when no file names them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from segadapt.data.dataset import DamagedFile
from segadapt.data.masks.classes_file import MaskClass
from segadapt.data.masks.labelling import color_of, some
from segadapt.data.masks.mask_signs import look_at_masks
from segadapt.data.masks.mask_storage import Signs, different_palettes
from segadapt.errors import RequestError
from segadapt.labels import IGNORE, Color, hex_color

_NAME = re.compile(r"class_\d+|#[0-9a-f]{6}")
MOST_CLASSES = 64
"""Masks with more values or colours than this are taken for photographs."""


def infer_classes(masks: Sequence[Path], ignore_ids: Sequence[int], name: str) -> tuple[MaskClass, ...]:
    """Make one class of each value (``class_7``) or colour (``#804080``) that occurs in any of the masks.

    Names say the value, so that masks of another folder that lack a class still agree on the rest.
    Looks at every mask (:mod:`segadapt.data.masks.mask_signs`). Damaged ones are passed over; reading them later names
    them.

    Palettes count as numbers, unless they differ in a way that shows that colours tell the classes, or others of the
    masks are RGB.

    Raises:
        DamagedFile: no mask can be read.
        RequestError: more than :data:`MOST_CLASSES` values; values 0 and 255 alone, which may
            mean one class and ignored pixels or two classes; fewer than two classes; colour and index masks together;
            palettes or depths that do not fit together; smoothed edges.
    """
    found, solid = Signs(), set[int]()
    damaged: list[DamagedFile] = []
    for path, signs in look_at_masks(masks, ignore_ids):
        if isinstance(signs, DamagedFile):
            damaged.append(signs)
            continue
        found.add(path, signs)
        solid.update(signs.solid)
        _few_enough(found, path, name)
    if damaged and len(damaged) == len(masks):
        raise damaged[0]
    clash = found.clash()
    if clash and not found.color_mask and (found.plain_mask or not found.colors_move()):
        raise different_palettes(clash, name)
    if found.color_mask and found.plain_mask:
        raise RequestError(
            f"{name}: {found.color_mask} is a colour mask but {found.plain_mask} an index mask; "
            "save all masks alike, or give a classes file with id and color of each class"
        )
    if found.color_mask or clash:
        colors = [color_of(code) for code in sorted(found.codes | found.by_palette())]
        return tuple(MaskClass(hex_color(color), colors=(color,)) for color in colors)
    found.require_one_scale(name)
    _require_sharp(found, solid, name)
    return _index_classes(found, ignore_ids, name)


def classes_named(names: Sequence[str]) -> tuple[MaskClass, ...]:
    """Return the classes of names by :func:`infer_classes`; none where a name does not say how masks show it."""
    return tuple(_class_named(name) for name in names) if all(map(_NAME.fullmatch, names)) else ()


def _class_named(name: str) -> MaskClass:
    if name.startswith("#"):
        red, green, blue = bytes.fromhex(name[1:])
        return MaskClass(name, colors=((red, green, blue),))
    return MaskClass(name, (int(name.removeprefix("class_")),))


def _index_classes(found: Signs, ignore_ids: Sequence[int], name: str) -> tuple[MaskClass, ...]:
    if found.values == {0, IGNORE} and IGNORE in ignore_ids:
        raise RequestError(
            f"{name}: the masks hold the values 0 and 255 alone, and 255 usually means 'ignore'; if it is a class, "
            "give a classes file with the ids 0 and 255, or --ignore-id none"
        )
    values = sorted(found.values - set(ignore_ids))
    if len(values) < 2:
        shown, left_out = (", ".join(map(str, sorted(some))) for some in (found.values, found.values - set(values)))
        cause = f", of which --ignore-id leaves out {left_out}" if left_out else ""
        cause += " beside pixels that the files declare to be without data" if found.void else ""
        raise RequestError(
            f"{name}: the masks hold only {shown}{cause}; at least two classes are needed, so leave out fewer "
            "values, or name each value in a classes file, such as {background: 0, crack: 255}"
        )
    return tuple(MaskClass(f"class_{value}", (value,), _palette_color(found, value)) for value in values)


def _palette_color(found: Signs, value: int) -> tuple[Color] | None:
    """Return the palette's colour of a value, unless the palette is a plain grey ramp."""
    palette = found.palette
    if palette is None or value >= len(palette) or (palette == palette[:, :1]).all():
        return None
    red, green, blue = (int(part) for part in palette[value])
    return ((red, green, blue),)


def _require_sharp(found: Signs, solid: set[int], name: str) -> None:
    """Refuse masks most of whose values are thin lines between areas of two other ones, as smoothing makes them."""
    thin = {v for v in found.values - solid if solid and min(solid) < v < max(solid)}
    if found.palette is None and len(thin) > max(2, len(solid)):
        raise RequestError(
            f"{name}: {len(thin)} of {len(found.values)} values in the masks ({some(sorted(thin))}) occur in thin "
            f"lines alone, between areas of {some(sorted(solid))}; masks were smoothed when they were resized or "
            "turned, so save them without (nearest neighbour), or give a classes file that names the values"
        )


def _few_enough(found: Signs, path: Path, name: str) -> None:
    many, kind = (len(found.codes), "colours") if found.color_mask else (len(found.values), "values")
    many = max(many, len(found.by_palette()) if found.clash() else 0)
    if many > MOST_CLASSES:
        raise RequestError(
            f"{name}: the masks hold more than {MOST_CLASSES} different {kind} (up to {path}); masks must be saved "
            "without compression loss or smoothing (PNG), or give a classes file"
        )
