"""Label maps that are drawn from annotations when they are asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from segadapt.data.annotations.regions import Annotated, Annotations, Mask, require_near
from segadapt.data.dataset import Dataset, Drawn, Item, Notice
from segadapt.data.decode import picture_size, read_picture
from segadapt.data.folders.listing import IMAGE_SUFFIXES
from segadapt.data.masks.classes_file import MaskClass, space_of
from segadapt.data.masks.labelling import SizeMismatch, some
from segadapt.errors import RequestError, nearest
from segadapt.labels import IGNORE, LabelMap

BACKGROUND = "background"
"""Name of the class of all that no annotation covers, unless settings or a classes file say otherwise."""


_ENDINGS = (*IMAGE_SUFFIXES, ".gif", ".jfif", ".ppm", ".heic", ".avif")


class Painted(NamedTuple):
    """One label map, and how it came about.

    Attributes:
        label: [H, W] train ids and IGNORE.
        covered: [H, W], whether a region covers a pixel.
        contested: [H, W], whether regions of several classes do.
    """

    label: LabelMap
    covered: Mask
    contested: Mask


@dataclass(frozen=True)
class DrawnLabels:
    """Annotations to train ids.

    Args:
        tool: whose annotations they are.
        pictures: what they say, by path of the image.
        classes: of the data set; train ids follow their order.
        train_ids: train id or IGNORE of each class name in the annotations.
        rest: train id or IGNORE of what no annotation covers.
    """

    tool: str
    pictures: Mapping[Path, Annotated]
    classes: tuple[MaskClass, ...]
    train_ids: Mapping[str, int]
    rest: int

    @property
    def key(self) -> str:
        """How names become train ids; the regions count by the digests of their places."""
        return f"{self.tool} {sorted(self.train_ids.items())} {self.rest}"

    def __call__(self, place: Drawn) -> LabelMap:
        """Draw the label map [H, W] of one image."""
        return self.paint(place).label

    def described(self) -> dict[str, str]:
        """Return, in brackets, how annotations show each class."""
        kept = [c.name for c in self.classes if not c.ignored]
        names: dict[int, list[str]] = {i: [] for i in range(len(kept))}
        for name, train_id in self.train_ids.items():
            if train_id != IGNORE and name != kept[train_id]:
                names[train_id].append(f"'{name}'")
        if self.rest != IGNORE:
            names[self.rest].append("all that no annotation covers")
        return {kept[i]: f"  ({', '.join(shown)})" for i, shown in names.items() if shown}

    def paint(self, place: Drawn) -> Painted:
        """Draw the label map of one image, and say what the regions cover.

        Raises:
            SizeMismatch: the annotations are of an image of another size.
        """
        picture, size = self.pictures[place.image], picture_size(place.image)
        if picture.size not in (None, size):
            self._refuse_size(place, picture, size)
        label = np.full(size, self.rest, np.uint8)
        covered, contested = np.zeros(size, bool), np.zeros(size, bool)
        for region in picture.regions:
            require_near(region.reach, size, f"{place}: a region of '{region.name}'")
            mask, train_id = region.draw(size), self.train_ids[region.name]
            contested |= mask & covered & (label != train_id)
            label[mask] = train_id
            covered |= mask
        return Painted(label, covered, contested)

    def _refuse_size(self, place: Drawn, picture: Annotated, size: tuple[int, int]) -> None:
        height, width = picture.size or size
        turned = "; the image was turned since" if (width, height) == size else ""
        raise SizeMismatch(
            f"{place.file} is about {width} x {height} pixels but its image {place.image.name} is {size[1]} x {size[0]}"
            f"{turned}; annotate the image as it is"
        )


def open_annotated(
    name: str,
    folder: Path,
    images: Sequence[Path],
    ids: Mapping[Path, str],
    found: Annotations,
    labels: Path,
    known: Sequence[MaskClass] | None = None,
    unannotated: str | None = None,
    partly: bool = False,
) -> Dataset:
    """Open a data set whose labels are drawn from annotations.

    Args:
        name: for messages.
        folder: of the images.
        images: all images in it.
        ids: id of each image that is wanted.
        found: by :func:`~segadapt.data.annotations.find.annotations_at`.
        labels: the annotation file or folder that was named.
        known: classes of a classes file, to which the names in the annotations belong.
        unannotated: class of what no annotation covers; ``ignore`` for none; None finds one, see :func:`classes_of`.
        partly: images without an entry are left out, whatever that means of their tool.

    Raises:
        RequestError: the annotations are of other images, or name unknown classes, or fewer than two.
    """
    classes, train_ids, rest = classes_of(found, known, unannotated, labels)
    pictures, notes = _of_images(found, folder, images, ids, labels, partly)
    items = tuple(
        Item(ids[image], image, Drawn(image, picture.file, picture.digest)) for image, picture in pictures.items()
    )
    kept = [c.name for c in classes if not c.ignored]
    if len(kept) < 2:
        raise RequestError(
            f"{labels} gives {len(kept)} classes ({some(kept)}); at least two are needed: what is not annotated can be "
            "one (--unannotated background)"
        )
    empty = [item.id for item in items if not pictures[item.label.image].regions]  # type: ignore[union-attr]
    if empty:
        meaning = kept[rest] if rest != IGNORE else "no class"
        notes.append(f"{len(empty)} of {len(items)} images have no annotation and are all '{meaning}': {some(empty)}")
    notices = tuple(Notice(note) for note in (*found.notes, *notes))
    read = DrawnLabels(found.tool, pictures, classes, train_ids, rest)
    items = tuple(sorted(items, key=lambda item: item.id))
    return Dataset(name, space_of(name, classes), items, read_picture, read, notices)


# ---- classes ----


def classes_of(
    found: Annotations, known: Sequence[MaskClass] | None, unannotated: str | None, labels: Path
) -> tuple[tuple[MaskClass, ...], dict[str, int], int]:
    """Return the classes, the train id of each name in the annotations, and that of what they leave uncovered.

    Without a classes file, every name is a class, behind ``background``. With one, a name belongs to the class of that
    name, or to the class that lists it among its ``labels``, or to the class of all others. What no annotation covers
    is ``unannotated``; else the class that is called background; else the class of all others; else a class
    ``background`` is added in front.

    Raises:
        RequestError: a name belongs to no class of the file, or there is no class ``unannotated``.
    """
    if any(not name.strip() or not name.isprintable() for name in found.names):
        raise RequestError(f"{labels} has a class without a name that can be printed; give it one")
    classes = list(known) if known is not None else [MaskClass(n) for n in found.names if not _ignored(n)]
    names = [c.name for c in classes]
    rest = next((c for c in classes if c.name == unannotated), None)
    if rest is None and _background(unannotated or BACKGROUND):
        rest = next((c for c in classes if _background(c.name)), None)
    if rest is None and unannotated is None:
        rest = next((c for c in classes if c.others), None)
    elif rest is None and unannotated and known and not _ignored(unannotated) and not _background(unannotated):
        raise RequestError(f"there is no class '{unannotated}'{nearest(unannotated, names)} for what is not annotated")
    if rest is None and (unannotated is None or not _ignored(unannotated)):
        rest = MaskClass(unannotated or BACKGROUND)
        classes.insert(0, rest)
    classes = _with_ids(classes, known)
    ids = {c.name: i for i, c in enumerate(c for c in classes if not c.ignored)}
    used = {r.name for picture in found.pictures.values() for r in picture.regions}
    owner = _owners(found, classes if known is None else known)
    train_ids = {}
    for name in found.names:
        if owner[name] is None and not _ignored(name) and name in used:
            raise RequestError(
                f"{labels} names the class '{name}'{nearest(name, names)}, which the classes file lacks "
                f"({some(names)}); add it, list it among the labels of a class (labels: ['{name}']), or say "
                "'ignore: others'"
            )
        train_ids[name] = ids.get(owner[name] or "", IGNORE)
    return tuple(classes), train_ids, ids.get(rest.name, IGNORE) if rest is not None else IGNORE


def _owners(found: Annotations, classes: Sequence[MaskClass]) -> dict[str, str | None]:
    """Return the class of each name in annotations: by name, by number where there is no name, else that of all others.

    Raises:
        RequestError: a number is the id of the background, as in masks.
    """
    others = next((c.name for c in classes if c.others), None)
    by_name = {label: c.name for c in classes for label in (*c.labels, c.name)}
    by_id = {i: c.name for c in classes for i in c.ids or ()}
    owners: dict[str, str | None] = {}
    for name in found.names:
        owners[name] = by_name.get(name, None if _ignored(name) else others)
        number = found.numbers.get(name)
        if name not in by_name and number in by_id:
            owners[name] = by_id[number]
            if _background(by_id[number]):
                raise RequestError(
                    f"number {number} of {found.tool} is '{by_id[number]}' in the classes file, but its numbers are "
                    "those of objects; give the numbers as ids there, and 'ids: []' for the background"
                )
    return owners


def _with_ids(classes: Sequence[MaskClass], known: Sequence[MaskClass] | None) -> list[MaskClass]:
    """Return the classes with an id each: those of the classes file, and the next free ones."""
    taken = {i for c in known or () for i in c.ids or ()}
    free = (i for i in range(len(classes) + len(taken)) if i not in taken)
    if known is None:
        return [MaskClass(c.name, (next(free),)) for c in classes]
    return [c if c in known else MaskClass(c.name, (next(free),)) for c in classes]


def _background(name: str) -> bool:
    return name.strip("_").lower() == BACKGROUND


def _ignored(name: str) -> bool:
    return MaskClass(name.strip("_")).ignored


# ---- images ----


def _of_images(
    found: Annotations, folder: Path, images: Sequence[Path], ids: Mapping[Path, str], labels: Path, partly: bool
) -> tuple[dict[Path, Annotated], list[str]]:
    """Return the annotations of each wanted image, ``partly``: some may have none, and notes on those without image.

    Raises:
        RequestError: two entries are of one image, or an image that is wanted has none and needs one.
    """
    by_path, by_end = _places(folder, images)
    pictures: dict[Path, Annotated] = {}
    owner: dict[Path, str] = {}
    lost: list[str] = []
    for key, picture in found.pictures.items():
        places = by_path.get(key) or by_path.get(_bare(key)) or by_end.get(key.rpartition("/")[2]) or []
        places = places or by_end.get(_bare(key.rpartition("/")[2])) or []
        if not places:
            lost.append(key)
            continue
        if len(places) > 1:
            raise RequestError(f"{labels}: '{key}' may be {places[0]} or {places[1]}; give images different names")
        if places[0] in pictures:
            raise RequestError(
                f"{labels}: '{owner[places[0]]}' and '{key}' are both of the image {places[0]}; remove one"
            )
        pictures[places[0]], owner[places[0]] = picture, key
    if lost and not pictures:
        raise RequestError(
            f"{labels}: none of its {len(lost)} images is in {folder}, the first is '{lost[0]}'; check both"
        )
    notes = [f"{len(lost)} annotated images are not in {folder}: {some(lost)}"] if lost else []
    if partly:
        return {image: pictures[image] for image in ids if image in pictures}, notes
    lacking = [image for image in ids if image not in pictures]
    if lacking and not found.absent_is_empty:
        raise RequestError(
            f"{labels}: {len(lacking)} of {len(ids)} images have no {found.tool} annotation, the first is {lacking[0]};"
            " annotate them, or name those to use in a list file (list_file)"
        )
    for image in lacking:
        pictures[image] = Annotated(labels, (), None, "")
    return {image: pictures[image] for image in ids}, notes


def _places(folder: Path, images: Sequence[Path]) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    """Return images by path below the folder, and by file name, both with suffix and without."""
    by_path: dict[str, list[Path]] = {}
    by_end: dict[str, list[Path]] = {}
    for image in images:
        inside = image.relative_to(folder)
        for found, with_suffix in ((by_path, inside.as_posix()), (by_end, inside.name)):
            for key in (with_suffix, _bare(with_suffix)):
                found.setdefault(key, []).append(image)
    return by_path, by_end


def _bare(key: str) -> str:
    """Return a path without the ending of an image."""
    return key[: -len(suffix)] if (suffix := Path(key).suffix).lower() in _ENDINGS else key
