"""Reading every file of a data set once and listing its problems."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from segadapt.core.files import write_bytes
from segadapt.core.reading import read_file
from segadapt.data.dataset import DamagedFile, Dataset, Picture
from segadapt.data.decode import UnknownLabel
from segadapt.data.files.formats import Unsupported
from segadapt.data.files.writing import encode_picture
from segadapt.data.folder import folder_labels
from segadapt.data.masks.labelling import SizeMismatch
from segadapt.data.masks.mask_values import count_values, shown
from segadapt.data.overlay import contact_picture
from segadapt.data.statistics import count_classes
from segadapt.data.streaming import ordered_map
from segadapt.errors import RequestError
from segadapt.labels import LabelMap

DAMAGED_IMAGE, DAMAGED_LABEL = "damaged image", "damaged label"
UNSUPPORTED_IMAGE, UNSUPPORTED_LABEL = "unsupported image", "unsupported label"
SIZES_DIFFER, UNKNOWN_LABEL = "sizes differ", "unknown label"
DUPLICATE, EMPTY_LABEL, ABSENT_CLASS = "duplicate image", "empty label", "absent class"
OTHER_NUMBER = "other number of images"
_SHOWN = 20
_SIGNS_SHOWN = 256
_JPEG_QUALITY = 90


class Problem(NamedTuple):
    """Something wrong with one file, or worth knowing about it.

    Attributes:
        kind: one of the kinds of this module.
        id: item id, or class name for an absent class.
        message: one line that names the file.
    """

    kind: str
    id: str
    message: str


@dataclass
class CheckReport:
    """The findings of :func:`check_dataset`.

    Attributes:
        name: of the data set.
        images, labels: number of items, and number of items with a label.
        classes: class names.
        sizes: (width, height) -> number of images.
        pixels: [K] pixels of each class.
        images_with: [K] number of images in which a class occurs.
        ignored: pixels that belong to no class.
        errors: files that cannot be used.
        warnings: files that can be used but may not be meant.
        pictures: overlay pictures that were written.
        unknown: share in all pixels of each value or colour that no class has, in the masks with ``UNKNOWN_LABEL``.
        contents: hashes of the images.
    """

    name: str
    images: int
    labels: int
    classes: tuple[str, ...]
    pixels: npt.NDArray[np.int64]
    images_with: npt.NDArray[np.int64]
    ignored: int = 0
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    errors: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)
    unknown: dict[str, float] = field(default_factory=dict)
    contents: Counter[bytes] = field(default_factory=Counter)

    @property
    def ok(self) -> bool:
        """Whether every file can be used."""
        return not self.errors

    def verdict(self) -> str:
        """Return one line: whether the data set can be used, and if not, how many files are wrong and the first."""
        if self.ok:
            return f"{self.name}: all {self.images} images" + (
                " and their labels can be used" if self.labels else " can be used"
            )
        kinds = ", ".join(f"{n} {kind}" for kind, n in _counted(self.errors).items())
        return f"{self.name}: {len(self.errors)} files cannot be used ({kinds}), the first: {self.errors[0].message}"

    def lines(self) -> list[str]:
        """Return the report as a short text."""
        sizes = ", ".join(f"{w} x {h} ({n})" for (w, h), n in self.sizes.most_common(4))
        more = f", {len(self.sizes) - 4} other sizes" if len(self.sizes) > 4 else ""
        out = [
            f"{self.name}: {self.images} images, {self.labels} labels",
            f"sizes (width x height): {sizes or 'none'}{more}",
        ]
        if self.labels:
            total = max(int(self.pixels.sum()) + self.ignored, 1)
            wide = max(len(name) for name in (*self.classes, "(ignored)"))
            shares = 100 * self.pixels / total
            out += [
                f"  {i:3d}  {name:<{wide}}  {shares[i]:6.2f} % of pixels, in {self.images_with[i]} images"
                for i, name in enumerate(self.classes)
            ]
            out.append(f"       {'(ignored)':<{wide}}  {100 * self.ignored / total:6.2f} % of pixels")
        errors = self.errors
        if self.unknown:
            errors = [p for p in errors if p.kind != UNKNOWN_LABEL]
            out.append(f"error: {UNKNOWN_LABEL}: {self._unknown_line()}")
        for title, problems in (("error", errors), ("warning", self.warnings)):
            out += [f"{title}: {p.kind}: {p.message}" for p in problems[:_SHOWN]]
            if len(problems) > _SHOWN:
                out.append(f"... and {len(problems) - _SHOWN} more {title}s")
        return [*out, self.verdict()]

    def _unknown_line(self) -> str:
        wrong = [p for p in self.errors if p.kind == UNKNOWN_LABEL]
        order = sorted(self.unknown.items(), key=lambda item: -item[1])
        found = ", ".join(f"{sign} ({100 * share:.2f} %)" for sign, share in order[:_SIGNS_SHOWN])
        more = f" and {len(order) - _SIGNS_SHOWN} more" if len(order) > _SIGNS_SHOWN else ""
        return (
            f"{len(wrong)} masks hold what no class has, with its share of their pixels: {found}{more}; the first: "
            f"{wrong[0].message}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON values."""
        return {
            "name": self.name,
            "ok": self.ok,
            "verdict": self.verdict(),
            "images": self.images,
            "labels": self.labels,
            "sizes": [{"width": w, "height": h, "images": n} for (w, h), n in self.sizes.most_common()],
            "classes": [
                {"train_id": i, "name": name, "pixels": int(self.pixels[i]), "images": int(self.images_with[i])}
                for i, name in enumerate(self.classes)
            ],
            "ignored_pixels": self.ignored,
            "unknown": self.unknown,
            "error_counts": _counted(self.errors),
            "errors": [p._asdict() for p in self.errors],
            "warning_counts": _counted(self.warnings),
            "warnings": [p._asdict() for p in self.warnings],
            "pictures": self.pictures,
        }


class _Checked(NamedTuple):
    """The findings of one item."""

    errors: list[Problem]
    digest: bytes | None
    size: tuple[int, int] | None
    counts: npt.NDArray[np.int64] | None
    pixels: int
    picture: Picture | None


def check_dataset(
    dataset: Dataset,
    pictures: Path | None = None,
    most_pictures: int = 12,
    progress: Callable[[int, int], None] | None = None,
    threads: int | None = None,
) -> CheckReport:
    """Decode every image and label; collect all problems instead of stopping at the first.

    Errors: damaged or missing files, labels of another size than their image, values that no class
    has. Warnings: byte-identical images, labels without any class, classes that never occur.

    Args:
        dataset: any data set, with labels or without.
        pictures: folder for overlay pictures, or None.
        most_pictures: how many of them, evenly spaced over the data set.
        progress: called with (done, total) after each image.
        threads: decoding threads.

    Raises:
        RunError: an overlay picture cannot be written.
    """
    space = dataset.space
    labels = sum(item.label is not None for item in dataset.items)
    zeros = np.zeros(len(space), np.int64)
    report = CheckReport(dataset.name, len(dataset), labels, space.names, zeros, zeros.copy())
    chosen: set[int] = set()
    if pictures is not None and len(dataset):
        pictures.mkdir(parents=True, exist_ok=True)
        chosen = set(np.linspace(0, len(dataset) - 1, min(most_pictures, len(dataset))).astype(int).tolist())
    first_with: dict[bytes, str] = {}
    results = ordered_map(lambda i: _check_item(dataset, i, i in chosen), range(len(dataset)), threads)
    for index, checked in enumerate(results):
        _add(report, checked, dataset.items[index].id, first_with)
        if checked.picture is not None and pictures is not None:
            file = pictures / f"{index:06d}_{dataset.items[index].id.replace('/', '_')}.jpg"
            write_bytes(file, encode_picture(".jpg", checked.picture, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]))
            report.pictures.append(str(file))
        if progress:
            progress(index + 1, len(dataset))
    report.unknown = _unknown_signs(dataset, {p.id for p in report.errors if p.kind == UNKNOWN_LABEL})
    if labels and report.pixels.any():
        for name, count in zip(space.names, report.pixels.tolist(), strict=True):
            if count == 0:
                report.warnings.append(Problem(ABSENT_CLASS, name, f"the class '{name}' occurs in no label"))
    return report


def _add(report: CheckReport, checked: _Checked, item: str, first_with: dict[bytes, str]) -> None:
    report.errors += checked.errors
    if checked.size is not None:
        report.sizes[checked.size] += 1
    if checked.digest is not None:
        report.contents[checked.digest] += 1
        twin = first_with.setdefault(checked.digest, item)
        if twin != item:
            report.warnings.append(Problem(DUPLICATE, item, f"the images '{twin}' and '{item}' are the same file"))
    if checked.counts is not None:
        report.pixels += checked.counts
        report.images_with += checked.counts > 0
        report.ignored += checked.pixels - int(checked.counts.sum())
        if not checked.counts.any():
            report.warnings.append(
                Problem(EMPTY_LABEL, item, f"the label of '{item}' holds no class, only ignored pixels")
            )


def _check_item(dataset: Dataset, index: int, want_picture: bool) -> _Checked:
    item = dataset.items[index]
    errors: list[Problem] = []
    image: Picture | None = None
    label: LabelMap | None = None
    digest = None
    try:
        image = dataset.image(index)
        content = read_file(item.image) if isinstance(item.image, Path) else image.tobytes()
        digest = hashlib.blake2b(content, digest_size=16).digest()
    except RequestError as problem:
        kind = UNSUPPORTED_IMAGE if isinstance(problem, Unsupported) else DAMAGED_IMAGE
        errors.append(Problem(kind, item.id, str(problem)))
    if item.label is not None:
        try:
            label = dataset.label(index)
        except RequestError as problem:
            # The label is not at fault where its image is damaged, so that sizes cannot be compared.
            if image is not None or str(item.image) not in str(problem):
                errors.append(Problem(_kind(problem), item.id, str(problem)))
    if image is not None and label is not None and label.shape != image.shape[:2]:
        sizes = f"{label.shape[1]} x {label.shape[0]} pixels but its image is {image.shape[1]} x {image.shape[0]}"
        errors.append(Problem(SIZES_DIFFER, item.id, f"{item.label} is {sizes}; export it at the size of the image"))
        label = None
    picture = contact_picture(image, label, dataset.space) if want_picture and image is not None else None
    return _Checked(
        errors,
        digest,
        None if image is None else (image.shape[1], image.shape[0]),
        None if label is None else count_classes(label, len(dataset.space)),
        0 if label is None else label.size,
        picture,
    )


def _unknown_signs(dataset: Dataset, ids: set[str]) -> dict[str, float]:
    """Return the share of each value and colour that no class has in the pixels of the masks of these items."""
    read = folder_labels(dataset)
    masks = [item.label for item in dataset.items if item.id in ids and isinstance(item.label, Path)]
    if read is None or not masks:
        return {}
    found = count_values(masks, colors=not read.ids())
    known = {*read.ids(), *read.colors()}
    return {shown(sign): found.share(sign) for sign in found.counts if sign not in known}


def _kind(problem: RequestError) -> str:
    if isinstance(problem, SizeMismatch):
        return SIZES_DIFFER
    if isinstance(problem, UnknownLabel):
        return UNKNOWN_LABEL
    if isinstance(problem, Unsupported):
        return UNSUPPORTED_LABEL
    return DAMAGED_LABEL if isinstance(problem, DamagedFile) else UNKNOWN_LABEL


def _counted(problems: list[Problem]) -> dict[str, int]:
    return dict(Counter(p.kind for p in problems))
