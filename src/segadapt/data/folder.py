"""A folder of images and, next to it, a folder of masks: the data set of somebody with their own data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from segadapt.data.annotations.drawn import DrawnLabels, open_annotated
from segadapt.data.annotations.find import annotations_at
from segadapt.data.dataset import Dataset, Item, Notice
from segadapt.data.decode import Decoded, UnknownLabel, Values, as_indices, decode, read_picture, show_palette
from segadapt.data.folders.gathering import images_in, unused_masks
from segadapt.data.folders.listing import chosen
from segadapt.data.folders.pair_pattern import PairPattern
from segadapt.data.folders.pairing import having_masks, image_ids, images_by, left_out_by, masks_by, masks_of
from segadapt.data.masks.classes_file import MaskClass, read_classes, space_of
from segadapt.data.masks.few_classes import require_two_classes
from segadapt.data.masks.infer_classes import classes_named, infer_classes
from segadapt.data.masks.labelling import IndexLabels, SizedLabels, label_colors, no_labels
from segadapt.data.masks.mask_storage import require_lossless, settle
from segadapt.data.masks.own_output import classes_in, notice_of, read_by_names, require_known, stamps_of
from segadapt.data.masks.stamp import Stamp
from segadapt.errors import RequestError
from segadapt.labels import IGNORE, Color, LabelMap, LabelSpace


@dataclass(frozen=True)
class FolderLabels:
    """Masks to train ids; those that segadapt wrote by the names in them.

    Args:
        classes: each with its value or colour in masks; train ids follow their order.
        ignore_ids: further values of index masks that belong to no class.
        stamps: of the masks that segadapt wrote.
    """

    classes: tuple[MaskClass, ...]
    ignore_ids: tuple[int, ...]
    stamps: Mapping[Path, Stamp] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """How values and colours become train ids."""
        return f"{self.classes} {self.ignore_ids}"

    def __call__(self, path: Path) -> LabelMap:
        """Read the label map [H, W] of one mask."""
        stored = decode(path, self.ignore_ids)
        stamp = self.stamps.get(path)
        if stamp is not None:
            known = {c.name: train_id for c, train_id in self._trained()}
            return read_by_names(stored.values, stamp, known, self.others(), path)
        ids, colors, others = self.ids(), self.colors(), self.others()
        if stored.values.ndim == 2:
            if ids:
                self._require_palette_agrees(stored, path)
                return self._from_indices(stored.values, path, stored.no_data)
            return self._from_colors(_expanded(stored, path), path, others)
        indices = as_indices(stored.values) if ids else None
        if colors:
            try:  # a colour that no class has may be the id of one
                return self._from_colors(stored.values, path, others if indices is None else None)
            except UnknownLabel:
                if indices is None:
                    raise
        if indices is not None:
            return self._from_indices(indices, path)
        raise UnknownLabel(
            f"{path} is a colour mask, but nothing names the classes of its colours; "
            "give each class its color [r, g, b] in the classes file"
        )

    def _require_palette_agrees(self, stored: Decoded, path: Path) -> None:
        """Refuse a file whose palette gives its values the colours of other classes than the classes file does."""
        colors, ids = self.colors(), self.ids()
        if stored.palette is None or not colors:
            return
        seen = {value: tuple(stored.palette[value].tolist()) for value in self._values_in(stored)}
        if not all(color in colors for color in seen.values()):
            return  # colours of the program that wrote it
        names = {train_id: c.name for c, train_id in self._trained()}
        for value, color in seen.items():
            if value in ids and ids[value] != colors[color]:
                raise UnknownLabel(
                    f"{path}: its palette shows value {value} in the colour of '{names[colors[color]]}', but the "
                    f"classes file gives {value} to '{names.get(ids[value], 'no class')}'; give the classes the ids of "
                    "these masks"
                )

    def _values_in(self, stored: Decoded) -> list[int]:
        size = 0 if stored.palette is None else len(stored.palette)
        present = np.flatnonzero(np.bincount(stored.values.ravel())).tolist()
        return [value for value in present if value < size and value not in self.ignore_ids]

    def _from_indices(self, values: Values, path: Path, no_data: int | None = None) -> LabelMap:
        ids = self.ids() if no_data is None else {no_data: IGNORE, **self.ids()}
        known = ", ".join(str(i) for i in sorted(ids))
        fix = "give them a class in the classes file, such as 'background: 0', or leave them out with --ignore-id"
        read = IndexLabels(ids, f"ids of this data set ({known})", fix=fix, others=self.others())
        return read.look_up(values, path)

    def _from_colors(self, picture: Values, path: Path, others: int | None) -> LabelMap:
        fix = "add them to the classes file, or save masks without smoothing as PNG"
        return label_colors(picture, self.colors(), path, fix, others)

    def ids(self) -> dict[int, int]:
        """Map values of index masks to train ids; empty when classes are told by colour alone."""
        own = {i: train_id for c, train_id in self._trained() for i in c.ids or ()}
        if not own:
            return {}
        return {**dict.fromkeys(self.ignore_ids, IGNORE), **own}

    def colors(self) -> dict[Color, int]:
        """Map colours of colour masks to train ids; empty when classes are told by value alone."""
        return {color: train_id for c, train_id in self._trained() for color in c.colors or ()}

    def others(self) -> int | None:
        """Return the train id of all that no class names; None where that is an error."""
        return next((train_id for c, train_id in self._trained() if c.others), None)

    def _trained(self) -> Iterator[tuple[MaskClass, int]]:
        """Yield each class with its train id, IGNORE for the ignored ones."""
        train_id = 0
        for c in self.classes:
            yield c, IGNORE if c.ignored else train_id
            train_id += not c.ignored


def open_folder(
    images: Path,
    labels: Path | None = None,
    classes: Path | None = None,
    ignore_ids: Sequence[int] = (IGNORE,),
    name: str = "folder",
    like: Sequence[str] = (),
    part: str | None = None,
    list_file: Path | None = None,
    pair: str | None = None,
    unannotated: str | None = None,
    partly: bool = False,
) -> Dataset:
    """Open a folder of images and their masks or annotations as a data set.

    Both are searched with their sub-folders. A mask has the name of its image, perhaps with one of
    :data:`~segadapt.data.folders.pairing.MASK_ENDINGS` behind it, in the same sub-folder (or, if names are unique,
    anywhere).
    Index masks (grey, 8 or 16 bits, or palette) and colour masks are understood.

    Args:
        images: folder of .jpg, .png, .bmp, .tif or .webp files.
        labels: folder of masks; or a file or folder of annotations, see :mod:`segadapt.data.annotations`; None leaves
            the data set without labels.
        classes: classes file, see :mod:`segadapt.data.masks.classes_file`. Without one, all masks are
            read once and every value or colour found becomes a class.
        ignore_ids: values of index masks that belong to no class, unless the classes file names them.
        name: for messages.
        like: class names of another data set. Where they were inferred from masks, and there is no classes file, the
            masks here are read with the same classes and no others.
        part: part of the run whose ids in the classes file count, see :func:`read_classes`.
        list_file: file that names the images to use, one per line; see :func:`~segadapt.data.folders.listing.chosen`.
        pair: pattern of the names of images and masks, see
            :class:`~segadapt.data.folders.pair_pattern.PairPattern`; other files are left out, which the notes of the
            data set say.
        unannotated: class of what no annotation covers, see :func:`~segadapt.data.annotations.drawn.classes_of`.
        partly: images without mask or annotation are left out, instead of refused; masks without image are dubious.

    Raises:
        RequestError: folder missing or empty, image without mask, ambiguous or unusable masks, wrong list.
    """
    pattern = PairPattern(pair) if pair else None
    annotations = annotations_at(labels, images) if labels is not None else None
    if annotations and pattern:
        raise RequestError(f"{name}: a pair pattern is for masks, but {labels} holds annotations; leave it out")
    notices: tuple[Notice, ...] = ()
    if pattern is not None:
        every = images_by(pattern, images, labels, name)
    else:
        every, notices, _ = images_in(images, None if annotations else labels, name)
    found = chosen(list_file, images, every, name) if list_file is not None else every
    if annotations and labels is not None:
        known = read_classes(classes, part) if classes else None
        wanted = dict(zip(found, image_ids(images, found), strict=True))
        drawn = open_annotated(name, images, every, wanted, annotations, labels, known, unannotated, partly)
        return replace(drawn, notices=(*notices, *drawn.notices))
    if unannotated is not None and labels is not None:
        raise RequestError(f"{name}: {labels} holds masks, where every pixel has a value; leave out 'unannotated'")
    ids = image_ids(images, found)
    if partly and labels is not None:
        kept = having_masks(images, found, labels, name, pattern)
        ids, found = [i for i, path in zip(ids, found, strict=True) if path in kept], [p for p in found if p in kept]
    if labels is None:
        names = read_classes(classes, part or "source") if classes else ()  # their order is the same in every part
        space = space_of(name, names) if classes else LabelSpace(name, ("unlabelled",), ((0, 0, 0),))
        notices = left_out_by(pattern, images, every) if pattern else notices
        items = _sorted(Item(i, p) for i, p in zip(ids, found, strict=True))
        return Dataset(name, space, items, read_picture, no_labels, notices)
    if pattern is None:
        masks = masks_of(images, found, labels, name)
        notices = (*notices, *unused_masks(labels, masks, every, dubious=partly))
    else:
        masks = masks_by(pattern, images, found, labels, name)
        notices = left_out_by(pattern, images, every, masks, labels) if list_file is None else ()
    return _masked(name, found, ids, masks, classes, ignore_ids, like, part, notices)


def _masked(
    name: str,
    found: Sequence[Path],
    ids: Sequence[str],
    masks: Sequence[Path],
    classes: Path | None,
    ignore_ids: Sequence[int],
    like: Sequence[str],
    part: str | None,
    notices: tuple[Notice, ...],
) -> Dataset:
    """Return the data set of images with a mask each; see :func:`open_folder`."""
    stamps = stamps_of(masks)
    plain = [mask for mask in masks if mask not in stamps]
    storages = require_lossless(plain, name)
    known = read_classes(classes, part) if classes else _classes_of(masks, stamps, ignore_ids, name, like)
    settled = settle(plain, storages, known, ignore_ids, name)
    require_two_classes(known, masks, name)
    require_known(stamps, known, name)
    items = _sorted(Item(i, p, m) for i, p, m in zip(ids, found, masks, strict=True))
    read = SizedLabels(FolderLabels(settled, tuple(ignore_ids), stamps), dict(zip(masks, found, strict=True)))
    if stamps:
        notices = (*notices, Notice(notice_of(stamps, len(masks), name)))
    return Dataset(name, space_of(name, known, ignore_ids), items, read_picture, read, notices)


def _classes_of(
    masks: Sequence[Path], stamps: Mapping[Path, Stamp], ignore_ids: Sequence[int], name: str, like: Sequence[str]
) -> tuple[MaskClass, ...]:
    """Return the classes of masks that no file names: as another data set has them, or as the masks tell."""
    plain = [mask for mask in masks if mask not in stamps]
    return classes_named(like) or (infer_classes(plain, ignore_ids, name) if plain else classes_in(stamps.values()))


def folder_labels(dataset: Dataset) -> FolderLabels | None:
    """Return how the masks of a folder become train ids, below whatever was laid on top; None for other data."""
    read: Any = dataset.read_label
    while read is not None and not isinstance(read, FolderLabels):
        read = getattr(read, "read", None)
    return read


def mask_signs(dataset: Dataset) -> dict[str, str]:
    """Return how the masks of a folder show each class, by its name there, e.g. ``value 7 in the masks``."""
    read = folder_labels(dataset)
    return {c.name: _shown(c).strip(" ()") for c in read.classes} if read is not None else {}


def describe_classes(dataset: Dataset) -> str:
    """Return the classes of a data set as a text, one per line: train id, name, and how masks show it."""
    read = folder_labels(dataset)
    classes = read.classes if read is not None else ()
    drawn = dataset.read_label if isinstance(dataset.read_label, DrawnLabels) else None
    own = drawn.described() if drawn is not None else {c.name: _shown(c) for c in classes}
    lines = [f"{dataset.name}: {len(dataset.space)} classes"]
    lines += [f"  {train_id:3d}  {name}{own.get(name, '')}" for train_id, name in enumerate(dataset.space.names)]
    return "\n".join([*lines, *(f"       {c.name}{_shown(c)}" for c in classes if c.ignored)])


def _shown(c: MaskClass) -> str:
    """Return in brackets how masks show a class."""
    values, colors = [str(i) for i in c.ids or ()], ["{} {} {}".format(*color) for color in c.colors or ()]
    ways = [
        f"{kind}{'s' * (len(found) > 1)} {', '.join(found)}"
        for kind, found in (("value", values), ("colour", colors))
        if found
    ] + ["all others"] * c.others
    return f"  ({'; '.join(ways)} in the masks)" if ways else ""


def _sorted(items: Iterator[Item]) -> tuple[Item, ...]:
    return tuple(sorted(items, key=lambda item: item.id))


def _expanded(stored: Decoded, path: Path) -> Values:
    """Return the colours [H, W, 3] that a palette or grey file shows."""
    if stored.palette is None:
        grey = stored.values * (255 // stored.white) if stored.bits < 8 else stored.values
        return np.repeat(grey[..., None], 3, axis=2)
    if stored.values.size and stored.values.max() >= len(stored.palette):
        raise UnknownLabel(
            f"{path} has the index {stored.values.max()} but only {len(stored.palette)} palette colours; save it again"
        )
    return show_palette(stored.values, stored.palette)
