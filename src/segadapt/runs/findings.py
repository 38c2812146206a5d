"""Findings about the data of a run that are dubious: one small function for each kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from segadapt.data.folder import folder_labels
from segadapt.data.folders.masks_among import all_look_like_masks
from segadapt.data.masks.labelling import some
from segadapt.errors import RequestError
from segadapt.labels import IGNORE
from segadapt.runs.overview import PartRead

MUCH_IGNORED_255 = 0.3
"""Share of the pixels from which on it is dubious that 255 means none of the classes."""
MUCH_IGNORED = 0.6
"""The same for whatever is ignored."""
SIZES_APART = 4.0
"""Times by which the median longest sides of source and target may differ."""
LONGEST_SHAPE = 20.0
"""Times by which the sides of an image may differ."""
MANY_CLASSES, FEW_OF_THEM = 8, 0.25
"""From so many classes on it is dubious that at most this share of them occurs."""
_MOST_GREYS = 18


class Finding(NamedTuple):
    """Something dubious about the data of a run.

    Attributes:
        kind: a few words, the same for all findings of its kind.
        part: part of the run.
        message: one line: what, where, and how to mend it.
        asked: whether a run asks before it goes on; else it only says so.
    """

    kind: str
    part: str
    message: str
    asked: bool = True


def find(parts: Sequence[PartRead]) -> list[Finding]:
    """Return all findings about the parts and between them.

    Raises:
        RequestError: fewer than two classes to train occur, or target images are masks of the source.
    """
    by_part = {part.part: part for part in parts}
    _require_images(by_part)
    found = [finding for part in parts for look in OF_ONE for finding in look(part)]
    return found + [finding for look in OF_ALL for finding in look(by_part)]


def _require_images(parts: Mapping[str, PartRead]) -> None:
    """Refuse a source with fewer than two classes, and images that are masks of the source."""
    source, target = parts.get("source"), parts.get("target")
    if source is not None and source.labelled and source.own and len(source.report.classes) > 0:
        present = [name for name in source.report.classes if name not in source.absent]
        if len(present) < 2:
            raise RequestError(
                f"source: '{present[0]}' alone has pixels, of all its classes ({some(source.report.classes)}); a model "
                "needs two classes to tell apart: give the background a class too"
            )
    if source is not None and target is not None:
        masks = {item.label for item in source.dataset.items if isinstance(item.label, Path)}
        same = [item.image for item in target.dataset.items if item.image in masks]
        if same:
            raise RequestError(
                f"target: {len(same)} of {target.total} images are masks of the source, the first is {same[0]}; give "
                "the folder of the target's images"
            )


# ---- one part ----


def left_out(part: PartRead) -> Iterator[Finding]:
    """Find what opening the data set left out, where that may well not be meant."""
    for notice in part.dataset.notices:
        if notice.dubious:
            yield Finding("files left out", part.part, f"{part.part}: {notice.text}")


def masks_as_images(part: PartRead) -> Iterator[Finding]:
    """Find images that all look like masks."""
    images = [item.image for item in part.dataset.items if isinstance(item.image, Path)]
    if images and all_look_like_masks(images):
        yield Finding(
            "masks as images",
            part.part,
            f"{part.part}: all images look like masks, the first is {images[0]}; give the folder of the images",
        )


def ignored_255(part: PartRead) -> Iterator[Finding]:
    """Find that 255 is ignored by default, where it seems to be a class: it is much, or one of evenly spaced greys."""
    read, values = folder_labels(part.dataset), part.values
    if read is None or values is None or IGNORE not in values.values or _written_here(part):
        return
    if read.ids().get(IGNORE) != IGNORE or any(c.ignored and IGNORE in (c.ids or ()) for c in read.classes):
        return
    share = values.share(IGNORE)
    even = evenly_spaced(values.values)
    if share <= MUCH_IGNORED_255 and not even:
        return
    beside = f", and stands among evenly spaced greys ({', '.join(map(str, values.values))})" if even else ""
    yield Finding(
        "255 ignored",
        part.part,
        f"{part.part}: the value 255 is {100 * share:.0f} % of the masks' pixels{beside}, but is ignored; if it is a "
        "class, give it one in a classes file, or --ignore-id none",
    )


def much_ignored(part: PartRead) -> Iterator[Finding]:
    """Find that most pixels belong to no class."""
    if not part.labelled or part.ignored <= MUCH_IGNORED or _written_here(part) or any(ignored_255(part)):
        return
    read = folder_labels(part.dataset)
    yield Finding(
        "much ignored",
        part.part,
        f"{part.part}: {100 * part.ignored:.0f} % of the pixels belong to no class and are ignored; check the classes "
        "file, or give the background a class",
        asked=read is not None and not any(c.ignored for c in read.classes),  # who says what is ignored means it
    )


def few_classes(part: PartRead) -> Iterator[Finding]:
    """Find that only a few of many classes occur in the source."""
    total = len(part.report.classes)
    present = total - len(part.absent)
    if part.part == "source" and part.labelled and total >= MANY_CLASSES and present <= FEW_OF_THEM * total:
        yield Finding(
            "few classes",
            part.part,
            f"{part.part}: only {present} of {total} classes occur; absent are {some(part.absent)}; check the "
            "values in the classes file against 'segadapt data check'",
        )


def same_images(part: PartRead) -> Iterator[Finding]:
    """Find that all images are copies of one."""
    contents = part.report.contents
    if part.report.images > 1 and len(contents) == 1:
        yield Finding(
            "equal images",
            part.part,
            f"{part.part}: all {part.report.images} images are the same; give different images",
            asked=False,
        )


def odd_shapes(part: PartRead) -> Iterator[Finding]:
    """Find images that are strips."""
    if not part.report.sizes:
        return
    width, height = max(part.report.sizes, key=lambda size: part.report.sizes[size])
    if max(width, height) > LONGEST_SHAPE * min(width, height):
        message = f"{part.part}: images of {width} x {height} pixels are strips; cut them into pieces"
        yield Finding("strips", part.part, message, asked=False)


def one_image(part: PartRead) -> Iterator[Finding]:
    """Find that there is a single image to train on."""
    if part.total == 1 and part.part != "test":
        message = f"{part.part}: there is only one image; check the folder if there should be more"
        yield Finding("one image", part.part, message, asked=False)


# ---- between parts ----


def missing_in_source(parts: Mapping[str, PartRead]) -> Iterator[Finding]:
    """Find classes that the source lacks; it is asked about where the test images have them."""
    source, test = parts.get("source"), parts.get("test")
    if source is None or not source.labelled or not source.absent:
        return
    tested = [name for name in source.absent if test is not None and name not in test.absent]
    if tested:
        yield Finding(
            "classes missing in the source",
            "source",
            f"source: no pixel of {len(tested)} classes that the test images have ({some(tested)}), so they cannot be "
            "learned and count as 0 in the mean; check the classes file, or leave them out of it",
        )
    elif not any(few_classes(source)):
        message = f"source: no pixel of {some(source.absent)}; a model cannot learn what it never sees"
        yield Finding("absent classes", "source", message, asked=False)


def sizes_apart(parts: Mapping[str, PartRead]) -> Iterator[Finding]:
    """Find that the images of source and target, or of target and test, differ in size by more than four times."""
    for one, other in (("source", "target"), ("target", "test")):
        if one not in parts or other not in parts or not (parts[one].report.sizes and parts[other].report.sizes):
            continue
        sides = {part: longest_side(parts[part]) for part in (one, other)}
        if max(sides.values()) > SIZES_APART * min(sides.values()):
            yield Finding(
                "sizes apart",
                other,
                f"{other}: its images are {sides[other]:.0f} pixels long and those of the {one} {sides[one]:.0f}, more "
                f"than {SIZES_APART:.0f} times apart; bring them to one scale, or cut the larger ones into pieces",
            )


def _shared(one: PartRead, other: PartRead) -> int:
    """Count the images of one part that are, by their content, images of another one too."""
    return len(one.report.contents.keys() & other.report.contents.keys())


def tested_on_source(parts: Mapping[str, PartRead]) -> Iterator[Finding]:
    """Find images of the source, whose labels are trained on, among the test images."""
    if "source" in parts and "test" in parts:
        shared = _shared(parts["source"], parts["test"])
        if shared:
            yield Finding(
                "tested on the source",
                "test",
                f"test: {shared} of {parts['test'].report.images} images are also images of the source, whose labels "
                "are trained on; give images of the target to score on",
                asked=False,
            )


def tested_on_labelled(parts: Mapping[str, PartRead]) -> Iterator[Finding]:
    """Find labelled target images, whose labels are trained on, among the test images."""
    if "labelled" in parts and "test" in parts:
        shared = _shared(parts["labelled"], parts["test"])
        if shared:
            yield Finding(
                "tested on labelled images",
                "test",
                f"test: {shared} of {parts['test'].report.images} images are also labelled target images, whose labels "
                "are trained on, so the scores are too high; give other images to score on",
            )


def source_as_target(parts: Mapping[str, PartRead]) -> Iterator[Finding]:
    """Find images of the source or of the test among those of the target; it is said, not asked about."""
    target = parts.get("target")
    for other in ("source", "test"):
        if target is not None and other in parts:
            shared = _shared(target, parts[other])
            if shared:
                message = f"target: {shared} of {target.report.images} images are also images of the {other}"
                yield Finding(f"target images in the {other}", "target", message, asked=False)


OF_ONE: tuple[Callable[[PartRead], Iterable[Finding]], ...] = (
    left_out,
    masks_as_images,
    ignored_255,
    much_ignored,
    few_classes,
    same_images,
    odd_shapes,
    one_image,
)
"""Findings about one part of the data."""
OF_ALL: tuple[Callable[[Mapping[str, PartRead]], Iterable[Finding]], ...] = (
    missing_in_source,
    sizes_apart,
    tested_on_source,
    tested_on_labelled,
    source_as_target,
)
"""Findings between the parts."""


# ---- numbers ----


def evenly_spaced(values: Sequence[int]) -> bool:
    """Return whether values divide 0 .. 255 into equal steps, give or take one: 0, 128, 255 or 0, 85, 170, 255."""
    steps = len(values) - 1
    if not 2 <= steps < _MOST_GREYS:
        return False
    return all(abs(value - 255 * i / steps) <= 1 for i, value in enumerate(sorted(values)))


def _written_here(part: PartRead) -> bool:
    """Return whether segadapt wrote the masks: in pseudo labels much is ignored, as it should be."""
    read = folder_labels(part.dataset)
    return read is not None and part.dataset.items[0].label in read.stamps


def longest_side(part: PartRead) -> float:
    """Return the median of the longest sides of the images, in pixels."""
    return float(median(max(size) for size, count in part.report.sizes.items() for _ in range(count)))
