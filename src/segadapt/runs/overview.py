"""Overview of the data of a run before it trains: sizes, classes and their shares in each part."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segadapt.core.spacing import evenly_spaced
from segadapt.core.text import printable
from segadapt.data.check import DAMAGED_IMAGE, UNSUPPORTED_IMAGE, CheckReport, check_dataset
from segadapt.data.dataset import Dataset, Held
from segadapt.data.folder import folder_labels, mask_signs
from segadapt.data.masks.labelling import some
from segadapt.data.masks.mask_values import MaskValues, count_values
from segadapt.errors import RequestError

CHECKED_AT_START = 1000
"""Data sets of up to so many images are read whole before a run starts."""
SAMPLED = 200
"""Of larger ones so many images are read, evenly spaced."""
_MASKS_COUNTED = 64
_CLASSES_SHOWN = 40
_WIDEST_NAME = 48


@dataclass(frozen=True)
class PartRead:
    """Images and labels of one part of the data, as far as they were read.

    Attributes:
        part: ``source``, ``target``, ``labelled`` or ``test``; of the target, its images alone.
        dataset: its data set.
        report: findings of the images that were read.
        values: what a sample of its masks holds as stored; None where they are not masks in a folder.
        own: whether the data are somebody's own, not a published data set that a reader knows.
    """

    part: str
    dataset: Dataset
    report: CheckReport
    values: MaskValues | None = None
    own: bool = True

    @property
    def labelled(self) -> bool:
        """Whether labels were read."""
        return self.report.labels > 0

    @property
    def total(self) -> int:
        """Number of images of the data set, of which ``report`` may cover a sample."""
        return len(self.dataset)

    @property
    def pixels(self) -> int:
        """Number of pixels of all labels that were read."""
        return int(self.report.pixels.sum()) + self.report.ignored

    @property
    def shares(self) -> list[float]:
        """[K] share of each class in the pixels of all labels."""
        return [count / max(self.pixels, 1) for count in self.report.pixels.tolist()]

    @property
    def ignored(self) -> float:
        """Share of the pixels of no class."""
        return self.report.ignored / max(self.pixels, 1)

    @property
    def absent(self) -> list[str]:
        """Classes without a pixel."""
        return [n for n, count in zip(self.report.classes, self.report.pixels.tolist(), strict=True) if not count]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        signs = mask_signs(self.dataset)
        found = {
            "images": self.total,
            "read": self.report.images,
            "sizes": [{"width": w, "height": h, "images": n} for (w, h), n in self.report.sizes.most_common()],
            "notices": [notice.text for notice in self.dataset.notices],
        }
        if not self.labelled:
            return found
        classes = [
            {"train_id": i, "name": name, "in_masks": signs.get(name), "share": share, "images": int(images)}
            for i, (name, share, images) in enumerate(
                zip(self.report.classes, self.shares, self.report.images_with, strict=True)
            )
        ]
        return {**found, "classes": classes, "ignored": self.ignored, "absent": self.absent}


def read_parts(
    datasets: Mapping[str, Dataset], own: Mapping[str, bool], skip_damaged: bool, warn: Callable[[str], None]
) -> list[PartRead]:
    """Read the files of every data set before hours are spent on them; of large ones an evenly spaced sample.

    Args:
        datasets: by their part in the run; labels of a data set without labels are not looked for.
        own: by the same parts, whether the data are somebody's own.
        skip_damaged: only warn of damaged images.
        warn: told about them.

    Raises:
        RequestError: a file is bad, or labels hold no class at all.
    """
    return [_read(part, dataset, own[part], skip_damaged, warn) for part, dataset in datasets.items()]


def _read(part: str, dataset: Dataset, own: bool, skip_damaged: bool, warn: Callable[[str], None]) -> PartRead:
    sample = dataset
    if len(dataset) > CHECKED_AT_START:
        sample = dataset.subset(evenly_spaced(len(dataset), SAMPLED))
    report = check_dataset(sample)
    wrong = [e for e in report.errors if not (skip_damaged and e.kind in (DAMAGED_IMAGE, UNSUPPORTED_IMAGE))]
    if wrong:
        lists = "" if isinstance(dataset.items[0].image, Held) else "; 'segadapt data check' lists them"
        more = f" (and {len(wrong) - 1} more{lists})" if len(wrong) > 1 else ""
        raise RequestError(f"{part}: {wrong[0].message}{more}")
    if report.labels and not report.pixels.any():
        raise RequestError(
            f"{part}: no mask holds a pixel of any class, all are ignored; check the values of the masks against "
            f"the classes ({some(dataset.space.names)})"
        )
    for problem in report.errors:
        warn(f"{part}: {problem.message}")
    return PartRead(part, dataset, report, _values(sample), own)


def _values(dataset: Dataset) -> MaskValues | None:
    """Count what a sample of the masks in a folder holds as stored."""
    masks = [item.label for item in dataset.items if isinstance(item.label, Path)]
    if not masks or folder_labels(dataset) is None:
        return None
    return count_values([masks[i] for i in evenly_spaced(len(masks), _MASKS_COUNTED)])


def overview(parts: Sequence[PartRead]) -> list[str]:
    """Return what was read as lines for a person: a line for each part, and one table of the classes."""
    wide = max(7, *(len(p.part) + 1 for p in parts))
    lines = [f"{p.part:<{wide}}{_images(p)}, {_sizes(p.report)}" for p in parts]
    labelled = [p for p in parts if p.labelled]
    return [*lines, *_table(labelled)] if labelled else lines


def _images(part: PartRead) -> str:
    if part.report.images < part.total:
        return f"{part.total} images (what follows is of a sample of {part.report.images})"
    return f"{part.total} image{'s' * (part.total != 1)}"


def _sizes(report: CheckReport) -> str:
    if len(report.sizes) <= 1:
        return "".join(f"{w} x {h} pixels" for w, h in report.sizes) or "none of which can be read"
    (width, height), count = report.sizes.most_common(1)[0]
    smallest, largest = (choose(report.sizes, key=lambda size: size[0] * size[1]) for choose in (min, max))
    return (
        f"{len(report.sizes)} sizes from {smallest[0]} x {smallest[1]} to {largest[0]} x {largest[1]} pixels, mostly "
        f"{width} x {height} ({count})"
    )


def _table(parts: Sequence[PartRead]) -> list[str]:
    """Return the classes with their shares, those of the parts side by side; of many classes the most frequent."""
    names = parts[0].report.classes
    signs = {name: sign for part in reversed(parts) for name, sign in mask_signs(part.dataset).items()}
    shown = [_name(i, name, signs.get(name, "")) for i, name in enumerate(names)]
    order = list(range(len(names)))
    if len(names) > _CLASSES_SHOWN:
        order = sorted(order, key=lambda i: -max(part.shares[i] for part in parts))[:_CLASSES_SHOWN]
    wide = max(len("(ignored)"), *(len(shown[i]) for i in order))
    head = "".join(f"  {part.part:>9}  images" for part in parts)
    lines = [f"{'class':<{wide}}{head}"]
    for i in order:
        cells = [_cell(part.shares[i], str(int(part.report.images_with[i]))) for part in parts]
        lines.append(f"{shown[i]:<{wide}}{''.join(cells)}".rstrip())
    if len(order) < len(names):
        lines.append(f"... and {len(names) - len(order)} classes more, see data.json in the folder of the run")
    return [*lines, f"{'(ignored)':<{wide}}{''.join(_cell(part.ignored, '') for part in parts)}".rstrip()]


def _cell(share: float, images: str) -> str:
    return f"  {100 * share:7.2f} %  {images if share else 'none' if images else '':>6}"


def _name(train_id: int, name: str, sign: str) -> str:
    """Return a class with its train id and how masks show it, shortened where it is long."""
    text = printable(f"{train_id:3d}  {name}" + (f" ({sign.removesuffix(' in the masks')})" if sign else ""))
    return text if len(text) <= _WIDEST_NAME else f"{text[: _WIDEST_NAME - 3]}..."
