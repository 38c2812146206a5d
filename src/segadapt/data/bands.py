"""Images of any number of bands and any depth, as pictures of 8 bits per band.

Ordinary images (8 bits, or 16 bits over their full range; grey, RGB, palette) are what a viewer shows, see
:func:`~segadapt.data.decode.read_picture`. A set of others gets a :class:`BandReader`: which bands are read, in
which order, and the range of each, measured over the set (:mod:`segadapt.data.scaling`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BeforeValidator, PositiveInt

from segadapt.core.settings import Shown
from segadapt.data.dataset import DamagedFile, Dataset, Picture
from segadapt.data.decode import read_picture
from segadapt.data.files import raster_picture
from segadapt.data.files.raster import ALPHA, UNDEFINED, Bands, Raster, Window
from segadapt.data.files.stored import Stored, read_stored, stored
from segadapt.data.files.tiff_head import tiff_head
from segadapt.data.scaling import Range, conventional, measured_range, to_bytes
from segadapt.errors import RequestError

RGB = (1, 2, 3)
_SAMPLED = 200
"""Most files of a set that are looked at and measured, evenly spaced."""
_SIDE = 128
"""Most rows and columns of a file that are measured, evenly spaced."""
_MOST_BANDS = 65535
_DTYPES = frozenset(f"{kind}{bits}" for kind in ("uint", "int", "float") for bits in (8, 16, 32, 64))
_BETWEEN = 0.2
"""Share of half transparent pixels from which on a band that is named alpha is taken for measurements."""
_VEILED = 5
"""Most files that are looked at for that."""


def _checked(bands: object) -> object:
    numbers = [bands] if isinstance(bands, int) and not isinstance(bands, bool) else bands
    if numbers is None or numbers == "all" or (isinstance(numbers, list | tuple) and len(numbers)):
        return tuple(numbers) if isinstance(numbers, list) else numbers
    raise ValueError("must be null, 'all', or a list of band numbers from 1, e.g. [4, 3, 2]")


BandChoice = Annotated[
    Literal["all"] | tuple[PositiveInt, ...] | None,
    BeforeValidator(_checked),
    Shown("null | all | list of integers >= 1"),
]
"""Bands to read: numbers from 1 in the order wanted, ``all``, or None for what a viewer shows as RGB."""


@dataclass(frozen=True)
class BandReader:
    """Reads chosen bands of files, each brought to 8 bits by one range for all files; ``read_image`` of a data set.

    Args:
        bands: numbers of the bands, from 1, in the order of the picture.
        scale: the range of each.
        dtype: type of the numbers in the files.
        described: what the set looked like and how it is read, for people.
    """

    bands: tuple[int, ...]
    scale: Range
    dtype: str
    described: str = ""

    @property
    def key(self) -> list[Any]:
        """Everything that decides the pictures of the same files."""
        return [self.bands, *self.scale, self.dtype]

    @property
    def shows_rgb(self) -> bool:
        """Whether the pictures are what a viewer shows of ordinary images, so that these can be read as well."""
        whole = {"uint8": 255.0, "uint16": 65535.0}.get(self.dtype)
        return self.bands in (RGB, (1, 1, 1)) and set(self.scale.low) == {0.0} and set(self.scale.high) == {whole}

    def __call__(self, path: Path) -> Picture:
        """Read the picture [H, W, C] of a file; 0 where it has no data.

        Raises:
            DamagedFile: the file cannot be read, lacks a band, or has numbers of another type.
        """
        found = stored(path)
        if found is None or (found.ordinary and found.dtype == "uint8" and self.shows_rgb):
            return read_picture(path)
        self._require(found.bands, found.dtype, path)
        return self.picture(read_stored(path, self.bands))

    def picture(self, read: Bands) -> Picture:
        """Return the picture of bands that were read from a file, or from a window of it, in the order of ``bands``."""
        return to_bytes(read.values, self.scale, read.valid)

    def window(self, raster: Raster, window: Window | None = None) -> raster_picture.Shown:
        """Read the picture of a window of an open raster, or of all of it."""
        if self.shows_rgb and raster.dtype == np.uint8:
            return raster_picture.Viewer(raster)(raster, window)
        self._require(raster.bands, str(raster.dtype), raster.path)
        read = raster.read(window, self.bands)
        return raster_picture.Shown(self.picture(read), read.valid)

    def takes(self, values: npt.NDArray[Any]) -> bool:
        """Tell whether an array is [H, W, C] of the type and the number of bands that the range was measured for."""
        return values.ndim == 3 and values.shape[2] == len(self.bands) and str(values.dtype) == self.dtype

    def valid(self, path: Path) -> npt.NDArray[np.bool_] | None:
        """Read where a file has data, [H, W]; None where it has data everywhere."""
        found = stored(path)
        if found is None or not found.masked:
            return None
        self._require(found.bands, found.dtype, path)
        return read_stored(path, self.bands).valid

    def _require(self, bands: int, dtype: str, path: Path) -> None:
        """Refuse a file that lacks a band or has numbers of another type than those that were measured."""
        lacking = [band for band in self.bands if band > bands]
        if lacking:
            raise DamagedFile(f"{path} has {_count(bands)}, but band {lacking[0]} is read; take it out")
        if dtype != self.dtype:
            raise DamagedFile(
                f"{path} holds {dtype} numbers, but the range of its bands is that of {self.dtype} images; give "
                "images of one type"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, for a model file."""
        low, high = map(list, self.scale)
        return {"bands": list(self.bands), "low": low, "high": high, "dtype": self.dtype}


def reader_of(kept: Mapping[str, Any] | None) -> BandReader | None:
    """Return the reader that :meth:`BandReader.to_dict` described; None for None, which is ordinary images.

    Raises:
        RequestError: no reader is described, as in a damaged model file.
    """
    if kept is None:
        return None
    parts: list[Any] = [kept.get(key) for key in ("bands", "low", "high")]
    told: list[list[Any]] = [list(part) if isinstance(part, list | tuple) else [None] for part in parts]
    bands, low, high = told
    numbers = [*bands, *low, *high]
    if (
        not all(isinstance(n, int | float) and math.isfinite(n) for n in numbers)
        or not all(isinstance(band, int) and 0 < band <= _MOST_BANDS for band in bands)
        or not 0 < len(bands) == len(low) == len(high)
        or str(kept.get("dtype")) not in _DTYPES
    ):
        raise RequestError("the model file does not say how its images are read: 'provenance.input' is damaged")
    return BandReader(tuple(bands), Range(tuple(low), tuple(high)), kept["dtype"])


def in_bands(dataset: Dataset, choice: BandChoice, like: BandReader | None = None) -> Dataset:
    """Return a data set of files with the bands that are wanted, measured over the set; an ordinary one as it is.

    Args:
        dataset: a data set as its reader opened it.
        choice: bands to read.
        like: reads the files instead, e.g. as those of the training; then only ``choice``, where given, decides which
            bands.

    Raises:
        RequestError: the files have different bands or types, lack a band, or the reader of the data set decodes
            images itself.
    """
    if dataset.read_image is not read_picture:
        if choice is not None:
            raise RequestError(f"{dataset.name}: its reader decodes images itself, so leave out 'bands'")
        return dataset
    if like is not None:
        return _with(dataset, like if choice is None or choice == "all" else replace(like, bands=choice))
    found = _looked_at(dataset)
    if choice is not None or any(ALPHA in one.colours and tiff_head(path) is not None for path, one in found.items()):
        found = _unveiled(found)
    if not found or (choice is None and _as_shown(found)):
        return dataset
    if choice in (RGB, "all") and all(s.ordinary and s.dtype == "uint8" and s.bands == 3 for s in found.values()):
        return dataset
    bands = _chosen(dataset.name, found, choice)
    kinds = {s.dtype: path for path, s in found.items()}
    if len(kinds) > 1:
        (one, a), (other, b) = list(kinds.items())[:2]
        raise RequestError(
            f"{dataset.name}: images hold {one} numbers ({a}) and {other} numbers ({b}); one range is measured over "
            "all of them, so convert them to one type, or give them apart"
        )
    scale = _measured(dataset.name, found, bands)
    return _with(dataset, BandReader(bands, scale, next(iter(kinds)), _described(found, bands, choice, scale)))


def reader_in(dataset: Dataset) -> BandReader | None:
    """Return how a data set reads bands; None where it has ordinary images."""
    return dataset.read_image if isinstance(dataset.read_image, BandReader) else None


def as_rgb(picture: Picture) -> Picture:
    """Return what can be shown of a picture [H, W, C]: its first three bands, or its first one as grey."""
    if picture.shape[2] == len(RGB):
        return picture
    return np.ascontiguousarray(picture[..., :3] if picture.shape[2] > 3 else np.repeat(picture[..., :1], 3, axis=2))


# ---- looking at a set ----


def _with(dataset: Dataset, reader: BandReader) -> Dataset:
    return replace(dataset, read_image=reader, read_valid=reader.valid, bands=len(reader.bands))


def _looked_at(dataset: Dataset) -> dict[Path, Stored]:
    """Return what is stored in evenly spaced files of a data set; without those that cannot be opened."""
    paths = [item.image for item in dataset.items if isinstance(item.image, Path)]
    places = np.linspace(0, len(paths) - 1, min(_SAMPLED, len(paths))).astype(int).tolist()
    found = {paths[place]: stored(paths[place]) for place in places}
    return {path: s for path, s in found.items() if s is not None}


def _as_shown(found: Mapping[Path, Stored]) -> bool:
    """Tell whether a viewer shows all that the images hold: those of more than 8 bits use their range."""
    if not all(s.ordinary for s in found.values()):
        return False
    deep = {path: s for path, s in found.items() if s.dtype != "uint8"}
    if not deep:
        return True
    read = [_sample(path, s, s.channels) for path, s in deep.items()]
    numbers = np.concatenate([x.ravel() for x in read])
    return bool(numbers.size) and conventional([numbers]) is not None


def _unveiled(found: Mapping[Path, Stored]) -> dict[Path, Stored]:
    """Return what files hold, with a band that is only named alpha for what it is.

    Many writers name any fourth band alpha, e.g. infrared. Transparency is all or nothing almost everywhere.
    """
    named = [path for path, one in found.items() if ALPHA in one.colours]
    alphas = [_sample(path, found[path], (found[path].colours.index(ALPHA) + 1,)) for path in named[:_VEILED]]
    between = [float(((band > 0) & (band < band.max())).mean()) for band in alphas if band.size]
    if not between or max(between) < _BETWEEN:
        return dict(found)
    return {
        path: replace(one, colours=tuple(UNDEFINED if c == ALPHA else c for c in one.colours), ordinary=False)
        if ALPHA in one.colours
        else one
        for path, one in found.items()
    }


def _chosen(name: str, found: Mapping[Path, Stored], choice: BandChoice) -> tuple[int, ...]:
    """Return the numbers of the bands to read, which every file has."""
    if isinstance(choice, tuple):
        for path, one in found.items():
            if max(choice) > one.bands:
                raise RequestError(f"{name}: band {max(choice)} is asked for, and {path} has {_count(one.bands)}")
        return choice
    wanted = {one.channels if choice == "all" else _red_green_blue(one): path for path, one in found.items()}
    if len(wanted) > 1:
        paths = list(wanted.values())
        counts = [f"{path} has {_count(len(found[path].channels))}" for path in paths[:2]]
        raise RequestError(
            f"{name}: {' and '.join(counts)}; say which bands to read of all images, e.g. data.{name}.bands=[1]"
        )
    return next(iter(wanted))


def _red_green_blue(one: Stored) -> tuple[int, ...]:
    """Return the bands that a viewer shows: those named red, green, blue, or the first three, or one as grey."""
    bands = raster_picture.colour_bands(one.colours, one.channels)
    return bands if len(bands) == len(RGB) else bands * 3


def _sample(path: Path, one: Stored, bands: Sequence[int]) -> npt.NDArray[Any]:
    """Return the numbers [N, C] of evenly spaced pixels of a file that have data; none if it cannot be read."""
    shape = (min(one.size[0], _SIDE), min(one.size[1], _SIDE))
    try:
        read = read_stored(path, bands, shape)
    except DamagedFile:
        return np.zeros((0, len(bands)), one.dtype)  # named where the image is needed
    values = read.values.reshape(-1, len(bands))
    if read.valid is not None:
        values = values[read.valid.ravel()]
    return values[np.isfinite(values).all(1)] if values.dtype.kind == "f" else values


def _measured(name: str, found: Mapping[Path, Stored], bands: Sequence[int]) -> Range:
    if all(one.dtype == "uint8" for one in found.values()):
        return Range((0.0,) * len(bands), (255.0,) * len(bands))
    apart = sorted(set(bands))
    numbers = np.concatenate([_sample(path, one, apart) for path, one in found.items()])
    if not len(numbers):
        raise RequestError(f"{name}: no pixel of the images that were measured holds data; check their no-data number")
    scale = measured_range([numbers[:, place] for place in range(len(apart))])
    order = [apart.index(band) for band in bands]
    return Range(tuple(scale.low[i] for i in order), tuple(scale.high[i] for i in order))


def _described(found: Mapping[Path, Stored], bands: Sequence[int], choice: BandChoice, scale: Range) -> str:
    """Say in one line what the images are and how they are read."""
    first = next(iter(found.values()))
    numbers = ", ".join(map(str, bands))
    said = f"images have {_count(first.bands)} of {first.dtype}"
    if choice is None and len(set(bands)) == 1:
        said += f"; band {bands[0]} is read as grey"
    elif choice is None:
        said += f"; {numbers} are read as red, green, blue"
    else:
        said += f"; read: {numbers}"
    if choice is None and len(first.channels) not in (1, 3):
        said += "; --bands all takes all of them"
    if len(first.channels) < first.bands and choice in (None, "all"):
        alpha = next(n for n in range(1, first.bands + 1) if n not in first.channels)
        said += f"; band {alpha} is marked as transparency (--bands takes it only by its number)"
    if first.dtype == "uint8":
        return said
    ends = dict(zip(bands, zip(scale.low, scale.high, strict=True), strict=True))
    ranges = ", ".join(dict.fromkeys(f"{low:.6g} .. {high:.6g}" for low, high in ends.values()))
    return f"{said}; scaled to 8 bits from {ranges}"


def _count(bands: int) -> str:
    return f"{bands} band{'s' * (bands != 1)}"
