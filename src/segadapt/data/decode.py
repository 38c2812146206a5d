"""Decoding image and label files.

Every function raises :class:`DamagedFile`, naming the file, when it is missing, empty, cut off,
corrupt or no image at all.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from segadapt.data import containers
from segadapt.data.dataset import DamagedFile, Picture
from segadapt.errors import RequestError
from segadapt.labels import LabelMap

_AS_STORED = cv2.IMREAD_UNCHANGED
# Labels have no orientation tag, so that of a photograph is not obeyed either.
_COLOR = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
_HEADER_BYTES = 1 << 16


Values = npt.NDArray[np.unsignedinteger[Any]]
"""Numbers of a file as stored, uint8 or uint16."""


class UnknownLabel(RequestError):
    """A label file holds values or colours that no class has."""


class Stored(NamedTuple):
    """A label file as it is stored.

    Attributes:
        values: [H, W] indices, uint8 or uint16; or [H, W, 3] RGB, uint8 or uint16.
        palette: [n, 3] uint8 RGB colours of the indices of a palette file, else None.
    """

    values: Values
    palette: npt.NDArray[np.uint8] | None = None


def read_bytes(path: Path) -> bytes:
    """The content of a whole, undamaged image file."""
    try:
        data = Path(path).read_bytes()
    except OSError as problem:
        raise DamagedFile(f"{path} cannot be read: {problem.strerror or problem}") from None
    wrong = containers.damage(data)
    if wrong:
        raise DamagedFile(f"{path} {wrong}; fetch it again")
    return data


def read_picture(path: Path) -> Picture:
    """Image file to RGB [H, W, 3] uint8; grey is repeated, transparency dropped, 16 bits become 8."""
    return np.asarray(cv2.cvtColor(_decode(read_bytes(path), _COLOR, path), cv2.COLOR_BGR2RGB), np.uint8)


def read_stored(path: Path) -> Stored:
    """Label file to the numbers it stores; palettes are not expanded to colours.

    Grey files of 1, 2 or 4 bits give their own values (0 .. 15), not stretched ones; transparency
    is dropped.
    """
    data = read_bytes(path)
    split = containers.split_palette(data)
    if split is not None:
        grey, factor, palette = split
        return Stored(_unstretched(_decode(grey, _AS_STORED, path), factor), palette)
    values = _decode(data, _AS_STORED, path)
    if values.dtype not in (np.uint8, np.uint16):
        raise DamagedFile(f"{path} holds {values.dtype} numbers; labels are 8- or 16-bit files")
    if values.ndim == 3 and values.shape[2] >= 3:
        return Stored(np.ascontiguousarray(values[..., 2::-1]))
    if values.ndim == 3:
        values = np.ascontiguousarray(values[..., 0])
    return Stored(_unstretched(values, containers.stretch(containers.grey_depth(data) or 8)))


def as_indices(values: Values) -> Values | None:
    """Stored values as an index map [H, W]; a grey picture saved as RGB is one too. None for colours."""
    if values.ndim == 2:
        return values
    first = values[..., 0]
    return np.ascontiguousarray(first) if (values == first[..., None]).all() else None


def read_index(path: Path) -> LabelMap:
    """Index file (grey or palette) to its indices [H, W] uint8."""
    values = as_indices(read_stored(path).values)
    if values is None:
        raise UnknownLabel(f"{path} is a colour picture, not an index map; its class indices are needed")
    return _as_bytes(values, path)


def read_first_channel(path: Path) -> LabelMap:
    """The red channel [H, W] uint8 of a colour file of 8 or 16 bits, as SYNTHIA stores its classes.

    The other channels may hold numbers above 255 (instances); 16-bit files are read in full.
    """
    values = _decode(read_bytes(path), _AS_STORED, path)
    channel = values[..., 2] if values.ndim == 3 and values.shape[2] >= 3 else values.reshape(values.shape[:2])
    return _as_bytes(np.ascontiguousarray(channel), path)


def picture_size(path: Path) -> tuple[int, int]:
    """(height, width) of an image file, from its header where the format allows."""
    try:
        with Path(path).open("rb") as file:
            head = file.read(_HEADER_BYTES)
    except OSError as problem:
        raise DamagedFile(f"{path} cannot be read: {problem.strerror or problem}") from None
    size = containers.size_of(head)
    if size is None:
        height, width = read_picture(path).shape[:2]
        size = (height, width)
    return size


def _decode(data: bytes, flags: int, path: Path) -> Values:
    picture: Any = None
    with suppress(cv2.error):
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if picture is None:
        raise DamagedFile(f"{path} is not an image that can be decoded; fetch it again, or take it out")
    return np.asarray(picture)


def _unstretched(values: Values, factor: int) -> Values:
    return (values // factor).astype(np.uint8) if factor > 1 else values


def _as_bytes(values: Values, path: Path) -> LabelMap:
    if values.dtype != np.uint8 and values.size and values.max() > 255:
        raise UnknownLabel(f"{path} holds the label {values.max()}; class indices lie between 0 and 255")
    return values.astype(np.uint8, copy=False)
