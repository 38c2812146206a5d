"""From a label file to train ids: small callables that a :class:`Dataset` keeps as ``read_label``.

They are plain values rather than closures, so a data set can be sent to decoding processes. Each
has a ``key``, a text that says how it labels; cached statistics depend on it.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from shlex import quote
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt

from segadapt.data.dataset import DamagedFile
from segadapt.data.decode import UnknownLabel, Values, picture_size, read_index, stored_otherwise
from segadapt.errors import RequestError
from segadapt.labels import IGNORE, Color, LabelMap

ReadLabel = Callable[[Any], LabelMap]
_UNKNOWN = IGNORE + 1


def label_key(read_label: ReadLabel) -> str | None:
    """Return a text that changes when the same file would be labelled otherwise; None if that cannot be told."""
    if hasattr(read_label, "key"):
        return cast("str | None", read_label.key)
    try:
        return hashlib.sha256(pickle.dumps(read_label)).hexdigest()
    except (pickle.PicklingError, AttributeError, TypeError):
        return None


def no_labels(path: Path) -> LabelMap:
    """Raise RequestError; the ``read_label`` of a data set that was opened without labels."""
    raise RequestError(f"{path}: this data set was opened without labels")


class SizeMismatch(DamagedFile):
    """A label has another size than its image."""


@dataclass(frozen=True)
class IndexLabels:
    """Index files whose values are looked up.

    Args:
        ids: raw value -> train id or IGNORE; any other value is an error.
        expected: description of the values that should be there, for the message, e.g. ``Cityscapes label ids``.
        read: decodes the file to raw values [H, W] uint8.
        fix: advice on other values, for the message.
        others: train id or IGNORE of every other value, which then is no error.
    """

    ids: Mapping[int, int]
    expected: str
    read: ReadLabel = read_index
    fix: str = "is it the right file?"
    others: int | None = None

    @property
    def key(self) -> str:
        """How raw values become train ids."""
        return f"index {sorted(self.ids.items())}" + ("" if self.others is None else f" others {self.others}")

    def __call__(self, path: Path) -> LabelMap:
        """Read the label map [H, W] of one file."""
        return self.look_up(self.read(path), path)

    def look_up(self, raw: Values, path: Path) -> LabelMap:
        """Look up the label map of the raw values [H, W] of a file."""
        table = np.full(np.iinfo(raw.dtype).max + 1, _UNKNOWN if self.others is None else self.others, np.uint16)
        for value, train_id in self.ids.items():
            if 0 <= value < len(table):
                table[value] = train_id
        label = table[raw]
        if label.size and label.max() == _UNKNOWN:
            wrong = np.unique(raw[label == _UNKNOWN])
            raise UnknownLabel(f"{path} holds {some(wrong.tolist())}, which are not {self.expected}; {self.fix}")
        return label.astype(np.uint8)


@dataclass(frozen=True)
class SizedLabels:
    """Labels that must fit their image.

    Args:
        read: decodes a label file.
        images: label file -> image file.
        resize: bring a label of another size to the size of its image (nearest) instead of
            raising SizeMismatch.
    """

    read: ReadLabel
    images: Mapping[Path, Path]
    resize: bool = False

    @property
    def key(self) -> str | None:
        """The key of the labels within, and whether they are resized."""
        inner = label_key(self.read)
        return inner and f"{inner} resize={self.resize}"

    def __call__(self, path: Path) -> LabelMap:
        """Read the label map of one file, at the size of its image."""
        label = self.read(path)
        image = self.images[path]
        height, width = picture_size(image)
        if label.shape == (height, width):
            return label
        if self.resize:
            return np.asarray(cv2.resize(label, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)
        if label.shape == (width, height) and stored_otherwise(image):
            raise SizeMismatch(
                f"{path} fits {image.name} as stored but not as seen: a tag turns the image to {width} x {height}; "
                f"turn the label too, or remove the tag before labelling: exiftool -Orientation= {quote(image.name)}"
            )
        raise SizeMismatch(
            f"{path} is {label.shape[1]} x {label.shape[0]} pixels but its image {image.name} is {width} x {height}; "
            "export the label at the size of the image"
        )


@dataclass(frozen=True)
class Relabelled:
    """Labels looked up once more, into another label space."""

    read: ReadLabel
    table: tuple[int, ...]

    @property
    def key(self) -> str | None:
        """The key of the labels within, and the table."""
        inner = label_key(self.read)
        return inner and f"{inner} then {self.table}"

    def __call__(self, path: Path) -> LabelMap:
        """Read the label map of one file, in the other space."""
        return np.array(self.table, np.uint8)[self.read(path)]


def label_colors(
    picture: Values, colors: Mapping[Color, int], path: Path, fix: str, others: int | None = None
) -> LabelMap:
    """Turn colour-coded labels [H, W, 3] RGB into train ids, by exact colour.

    Args:
        picture: the label file, decoded.
        colors: RGB -> train id or IGNORE.
        path: for messages.
        fix: advice on a colour that is not listed, for the message.
        others: train id or IGNORE of the colours that are not listed.

    Raises:
        UnknownLabel: the picture has a colour that is not listed, and nothing says what the others are.
    """
    if picture.dtype != np.uint8:
        raise UnknownLabel(
            f"{path} has {picture.dtype.itemsize * 8}-bit colours; colour-coded labels have 8 bits per channel"
        )
    codes = color_codes(picture)
    label = _color_table(tuple(sorted(colors.items())))[codes]
    if label.size and label.max() == _UNKNOWN:
        wrong = label == _UNKNOWN
        if others is not None:
            return np.where(wrong, others, label).astype(np.uint8)
        found = [color_of(code) for code in np.unique(codes[wrong])[:4].tolist()]
        raise UnknownLabel(
            f"{path} has colours that belong to no class, such as {some(found)} ({int(wrong.sum())} pixels); {fix}"
        )
    return label.astype(np.uint8)


def color_codes(picture: Values) -> npt.NDArray[np.int32]:
    """Turn RGB [..., 3] into one number per pixel, R * 65536 + G * 256 + B."""
    parts = picture.astype(np.int32)
    return (parts[..., 0] << 16) | (parts[..., 1] << 8) | parts[..., 2]


def color_of(code: int) -> Color:
    """Return the colour of a number by :func:`color_codes`."""
    return code >> 16, (code >> 8) & 255, code & 255


def some(values: Sequence[object]) -> str:
    """Return up to four values as a text, with dots when there are more."""
    return ", ".join(str(v) for v in values[:4]) + (", ..." if len(values) > 4 else "")


@lru_cache(maxsize=4)
def _color_table(colors: tuple[tuple[Color, int], ...]) -> npt.NDArray[np.uint16]:
    """Return the train id of each of the 2^24 colours: 32 MB, but one look-up per pixel."""
    table = np.full(1 << 24, _UNKNOWN, np.uint16)
    for color, train_id in colors:
        table[(color[0] << 16) | (color[1] << 8) | color[2]] = train_id
    return table
