"""Writing the labels of a data set, wherever they come from, as index masks with a classes file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from segadapt.core.files import write_bytes, write_text
from segadapt.core.names import require_ids
from segadapt.data.annotations.drawn import DrawnLabels, Painted
from segadapt.data.dataset import Dataset, Drawn
from segadapt.data.files.writing import encode_index_png
from segadapt.data.statistics import count_classes
from segadapt.errors import RequestError
from segadapt.labels import IGNORE, LabelSpace

CLASSES = "classes.yaml"
"""Name of the classes file that is written beside the masks."""


@dataclass
class Conversion:
    """The masks that :func:`convert_labels` wrote, in numbers.

    Attributes:
        out: folder of the masks and of ``classes.yaml``.
        classes: class names; their values in the masks are 0, 1, ...
        pixels: [K] pixels of each class.
        images: number of masks.
        ignored: pixels that belong to no class.
        regions: annotated regions of each class; None where the labels were masks.
        uncovered: pixels that no annotation covers.
        contested: pixels that annotations of several classes cover.
        notes: what was left out or assumed.
    """

    out: Path
    classes: tuple[str, ...]
    pixels: npt.NDArray[np.int64]
    images: int = 0
    ignored: int = 0
    regions: Counter[str] | None = None
    uncovered: int = 0
    contested: int = 0
    notes: tuple[str, ...] = field(default_factory=tuple)

    def lines(self) -> list[str]:
        """Return the result as a short text."""
        total = max(int(self.pixels.sum()) + self.ignored, 1)
        shares = [
            f"{name} {count / total:.1%}" + (f" ({self.regions[name]} regions)" if self.regions else "")
            for name, count in zip(self.classes, self.pixels.tolist(), strict=True)
        ]
        said = (
            f"{self.images} masks and {CLASSES} -> {self.out}: {', '.join(shares)}, ignored {self.ignored / total:.1%}"
        )
        if self.regions is not None:
            said += f"; {self.uncovered / total:.1%} not annotated, {self.contested / total:.1%} in several classes"
        return [*self.notes, said]

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain JSON values."""
        regions = self.regions
        return {
            "out": str(self.out),
            "images": self.images,
            "classes": [
                {"value": i, "name": name, "pixels": count, "regions": None if regions is None else regions[name]}
                for i, (name, count) in enumerate(zip(self.classes, self.pixels.tolist(), strict=True))
            ],
            "ignored_pixels": self.ignored,
            "unannotated_pixels": self.uncovered,
            "contested_pixels": self.contested,
            "notes": list(self.notes),
        }


def convert_labels(dataset: Dataset, out: Path, progress: Callable[[int, int], None] | None = None) -> Conversion:
    """Write ``out/ID.png``, palette masks whose values are the train ids, and ``out/classes.yaml``.

    An id is the path of an image below its folder without suffix, so that the masks pair with their images. 255 belongs
    to no class.

    Args:
        dataset: labelled.
        out: folder of the results.
        progress: called with (done, total) after each image.

    Raises:
        RequestError: a file would be replaced, or a label cannot be read. Then nothing stays behind.
        RunError: a file cannot be written.
    """
    require_ids((item.id for item in dataset.items), dataset.name)
    places = [out / f"{item.id}.png" for item in dataset.items]
    for place in (out / CLASSES, *places):
        if place.exists():
            raise RequestError(f"'{place}' exists; name another output folder (--out), or remove that file")
    try:
        return _written(dataset, out, places, progress)
    except BaseException:
        for place in places:
            place.unlink(missing_ok=True)
        raise


def _written(
    dataset: Dataset, out: Path, places: Sequence[Path], progress: Callable[[int, int], None] | None
) -> Conversion:
    drawn = dataset.read_label if isinstance(dataset.read_label, DrawnLabels) else None
    classes = len(dataset.space)
    made = Conversion(
        out, dataset.space.names, np.zeros(classes, np.int64), notes=tuple(notice.text for notice in dataset.notices)
    )
    made.regions = None if drawn is None else Counter()
    palette = dataset.space.palette()
    for number, (item, place) in enumerate(zip(dataset.items, places, strict=True), 1):
        if drawn is not None and isinstance(item.label, Drawn):
            painted = drawn.paint(item.label)
            label = painted.label
            _count(made, drawn, item.label, painted)
        else:
            label = dataset.label(number - 1)
        counts = count_classes(label, classes)
        made.pixels += counts
        made.ignored += label.size - int(counts.sum())
        made.images += 1
        write_bytes(place, encode_index_png(label, palette))
        if progress:
            progress(number, len(dataset))
    write_text(out / CLASSES, classes_text(dataset.space))
    return made


def _count(made: Conversion, drawn: DrawnLabels, place: Drawn, painted: Painted) -> None:
    if made.regions is not None:
        found = (drawn.train_ids[region.name] for region in drawn.pictures[place.image].regions)
        made.regions.update(made.classes[train_id] for train_id in found if train_id != IGNORE)
    made.uncovered += int((~painted.covered).sum())
    made.contested += int(painted.contested.sum())


def classes_text(space: LabelSpace) -> str:
    """Return the classes file of masks whose values are the train ids of a space."""
    entries: list[dict[str, Any]] = [
        {"name": name, "ids": train_id, **({"color": list(color)} if space.colors.count(color) == 1 else {})}
        for train_id, (name, color) in enumerate(zip(space.names, space.colors, strict=True))
    ]
    entries.append({"name": "ignore", "ids": IGNORE})
    lines = (
        yaml.safe_dump(entry, default_flow_style=True, sort_keys=False, allow_unicode=True, width=2**20)
        for entry in entries
    )
    return "".join(f"- {line}" for line in lines)
