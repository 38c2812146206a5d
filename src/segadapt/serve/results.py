"""The results of images: what the page draws of them, what can be downloaded, and how many are kept."""

from __future__ import annotations

import json
import secrets
import threading
import zipfile
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from segadapt.core.files import replacing
from segadapt.core.types import Size
from segadapt.data.bands import as_rgb
from segadapt.data.dataset import Picture
from segadapt.data.files.writing import encode_index_png, encode_picture
from segadapt.evaluation.results import JPEG_QUALITY, Look, Prediction
from segadapt.labels import IGNORE, LabelMap
from segadapt.serve.models import Served
from segadapt.serve.uploads import archived_name

DRAWN = 1 << 21
"""Most pixels that the page draws of an image; what is downloaded has all of them."""
THUMB = 192
"""Longest side of the small picture."""
FLOWS = 8
"""Changes from one class to another that are told, the largest ones."""
_COUNTED = 1 << 20
"""Pixels whose changes are counted at a time."""
KINDS = {"color": "_color.png", "index": ".png", "confidence": "_confidence.png"}
"""Kinds of downloads, and how their names end."""


@dataclass(frozen=True)
class Result:
    """All that is kept of an image.

    Attributes:
        name: as it was sent.
        facts: what the page says of it, plain JSON values.
        drawn: pictures that the page draws, by name, as files.
        predicted: train ids and confidence of each model as PNG files, at the size of the image, by key and kind.
    """

    name: str
    facts: dict[str, Any]
    drawn: dict[str, bytes]
    predicted: dict[str, dict[str, bytes]]

    @property
    def size(self) -> int:
        """Bytes that it takes."""
        files = [*self.drawn.values(), *(file for files in self.predicted.values() for file in files.values())]
        return sum(map(len, files))

    def download(self, served: Served, key: str, kind: str) -> bytes:
        """Return the PNG file of a kind, see :data:`KINDS`, of the prediction of one model."""
        files = self.predicted[key]
        if kind == "confidence":
            return files[kind]
        labels = np.asarray(cv2.imdecode(np.frombuffer(files["index"], np.uint8), cv2.IMREAD_UNCHANGED), np.uint8)
        return served.masks.encode_colors(labels) if kind == "color" else served.masks.encode(labels)


def result_of(name: str, image: Picture, predictions: Sequence[Prediction], served: Served) -> Result:
    """Make what is kept of an image [H, W, C] and the predictions of each model."""
    labels = [made.labels for made in predictions]
    sure = [np.rint(np.clip(made.confidence, 0, 1) * 255).astype(np.uint8) for made in predictions]
    rows, columns = _places(labels[0].shape)
    look = Look(served.masks)
    drawn = {
        "image.jpg": _jpeg(image, (len(rows), len(columns))),
        "thumb.jpg": _jpeg(image, _within(labels[0].shape, THUMB / max(labels[0].shape))),
        "labels.png": _stacked([label[np.ix_(rows, columns)] for label in labels]),
        "confidence.png": _stacked([values[np.ix_(rows, columns)] for values in sure]),
    }
    predicted = {
        model.key: {"index": encode_index_png(made.labels), "confidence": look.encoded("confidence", image, made)}
        for model, made in zip(served.models, predictions, strict=True)
    }
    facts = {
        "name": name,
        "base": archived_name(name),
        "height": labels[0].shape[0],
        "width": labels[0].shape[1],
        **_counted(labels, len(served.space)),
        "sure": [round(float(made.confidence.mean()), 4) for made in predictions],
    }
    return Result(name, facts, drawn, predicted)


def _counted(labels: Sequence[LabelMap], classes: int) -> dict[str, Any]:
    """Count the classes of label maps [H, W], and where the last one differs from the first.

    Returns:
        ``shares``, of each class by map; ``differing``, of the pixels; ``flows``, [from, to, share] of the largest
        changes from one class to another.
    """
    total = max(labels[0].size, 1)
    shares = [np.bincount(label.ravel(), minlength=256)[:classes] / total for label in labels]
    counts = np.zeros((256, 256), np.int64)
    step = max(1, _COUNTED // labels[0].shape[1])
    for top in range(0, labels[0].shape[0], step):
        pairs = labels[0][top : top + step].astype(np.int64) * 256 + labels[-1][top : top + step]
        counts += np.bincount(pairs.ravel(), minlength=counts.size).reshape(counts.shape)
    np.fill_diagonal(counts, 0)
    inside = counts[:classes, :classes]
    largest = [divmod(int(place), classes) for place in np.argsort(-inside, axis=None, kind="stable")[:FLOWS]]
    return {
        "shares": [[round(float(share), 6) for share in row] for row in shares],
        "differing": round(float(counts.sum()) / total, 6),
        "flows": [[a, b, round(float(inside[a, b]) / total, 6)] for a, b in largest if inside[a, b]],
    }


def _within(size: Size, scale: float) -> Size:
    """Return a (height, width) that is scaled down, never up."""
    height, width = (max(1, round(side * min(1.0, scale))) for side in size)
    return height, width


def _places(size: Size) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the rows and columns that the page draws of an image: evenly spaced, all of a small one."""
    drawn = _within(size, (DRAWN / (size[0] * size[1])) ** 0.5)
    rows, columns = (((np.arange(n) + 0.5) * side / n).astype(np.int64) for n, side in zip(drawn, size, strict=True))
    return rows, columns


def _jpeg(image: Picture, size: Size) -> bytes:
    shown = as_rgb(image)
    if shown.shape[:2] != size:
        shown = np.asarray(cv2.resize(shown, size[::-1], interpolation=cv2.INTER_AREA), np.uint8)
    return encode_picture(".jpg", shown, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])


def _stacked(maps: Sequence[npt.NDArray[np.uint8]]) -> bytes:
    """Return a PNG file whose red is the first map [H, W] and whose green is the last one, which a browser can read."""
    blue = np.full_like(maps[0], IGNORE)
    return encode_picture(".png", np.stack([maps[0], maps[-1], blue], axis=2))


class Store:
    """Results by ids that nobody can guess; where it is full, the one that was not asked for longest makes room.

    Args:
        most: results that are kept.
        most_bytes: that they take; one result is kept whatever it takes.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Result] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, result: Result) -> str:
        """Keep a result; return its id."""
        key = secrets.token_urlsafe(16)
        with self._lock:
            self._kept[key] = result
            while len(self._kept) > 1 and (len(self._kept) > self._most or self._bytes() > self._most_bytes):
                self._kept.popitem(last=False)
        return key

    def get(self, key: str) -> Result | None:
        """Return a result; None where it is not, or no longer, kept."""
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
            return found

    def _bytes(self) -> int:
        return sum(result.size for result in self._kept.values())


def write_archive(path: Path, results: Sequence[Result], served: Served) -> None:
    """Write a ZIP file of all downloads of results, in a folder for each model, with a legend and a summary.

    Raises:
        RunError: the file cannot be written, e.g. because the disk is full.
    """
    with replacing(path, flush=False) as part, zipfile.ZipFile(part, "w") as archive:
        names = _distinct(results)
        for model in served.models:
            for name, result in zip(names, results, strict=True):
                for kind, ending in KINDS.items():
                    archive.writestr(f"{model.key}/{name}{ending}", result.download(served, model.key, kind))
            legend = served.masks.legend(model.loaded.provenance)
            archive.writestr(f"{model.key}/legend.json", json.dumps(legend, indent=1))
        told = [{"file": name, **result.facts} for name, result in zip(names, results, strict=True)]
        about = {"title": served.title, "models": [m.key for m in served.models], "classes": served.space.names}
        archive.writestr("summary.json", json.dumps({**about, "images": told}, indent=1))


def _distinct(results: Sequence[Result]) -> list[str]:
    """Return a name for each result; those that would be one on some system get a number."""
    taken: set[str] = set()
    names = []
    for result in results:
        name = base = result.facts["base"]
        number = 1
        while taken & (files := {f"{name}{ending}".casefold() for ending in KINDS.values()}):
            number += 1
            name = f"{base}-{number}"
        taken |= files
        names.append(name)
    return names
