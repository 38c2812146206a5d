"""Decoding image and label files, by one rule for all of them: :func:`decode`.

Every function raises :class:`DamagedFile`, naming the file, when the file is missing, empty, cut off, corrupt or not
an image at all, and its kind :class:`~segadapt.data.files.formats.Unsupported` when the file is whole but of a kind
that is not read.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from segadapt.core.reading import open_file, read_file
from segadapt.core.types import Size
from segadapt.data.dataset import DamagedFile, Picture
from segadapt.data.files import tiff as tags
from segadapt.data.files.decode_tiff import decode_tiff
from segadapt.data.files.decoded import Decoded as Decoded
from segadapt.data.files.decoded import Palette
from segadapt.data.files.decoded import Values as Values
from segadapt.data.files.formats import (
    HEAD,
    Unsupported,
    looks_like_an_image,
    open_image,
    other_kind,
    require_one,
    require_size,
)
from segadapt.data.files.jpeg import decode_strictly
from segadapt.data.files.orientation import TAG, orientation_of, swaps_sides, turned
from segadapt.data.files.pixels import CHANNELS_OF_16_BITS, bits_of, by_opencv, of_pillow, raw_mode, unscaled, upright
from segadapt.data.files.raster import has_rasterio
from segadapt.data.files.raster_picture import read_raster
from segadapt.data.files.tiff_head import tiff_head
from segadapt.errors import RequestError
from segadapt.labels import LabelMap

_JPEG_END = b"\xff\xd9"
# Pillow warns of images above 89 megapixels; aerial mosaics are larger. Headers are checked here, by core/limits.py.
Image.MAX_IMAGE_PIXELS = None
# Pillow keeps a few blocks of 16 MiB for its next images. Asking the system for new pages takes longer than decoding.
_PILLOW: Any = Image.core  # type: ignore[attr-defined]
_PILLOW.set_blocks_max(max(4, _PILLOW.get_blocks_max()))

_R = TypeVar("_R")


class UnknownLabel(RequestError):
    """A label file holds values or colours that belong to no class."""


def decode(path: Path, no_data: Sequence[int] = ()) -> Decoded:
    """Decode any image or label file.

    This is the only rule by which files become numbers. Numbers are those that are stored: palette files give their
    indices (but a GIF of greys, which cannot be without a palette, its greys), and WhiteIsZero inverts nothing. Pixels
    lie as a viewer shows them: orientation tags are obeyed in every format. Transparency and a fourth band are dropped,
    three bands are red, green and blue whatever tags call them; CMYK, YCbCr and other models become RGB. Files of
    several pages or frames are refused, as there is no telling which one is meant; overviews, masks and previews beside
    the picture are no pages.

    Args:
        path: a file of one of :data:`~segadapt.data.files.formats.IMAGE_SUFFIXES`, with any suffix.
        no_data: numbers below 0 that stand for pixels without data, beside the one that a GeoTIFF file names and NaN.

    Returns:
        The stored values, the palette, and facts of the file.

    Raises:
        Unsupported: several pages, more than four bands, too many pixels, a kind that needs another program.
        DamagedFile: the file cannot be read in whole, is not an image, or holds numbers that are not whole or lie
            outside 0 .. 65535.
    """
    return _decoded(path, no_data, False)


def picture_size(path: Path) -> Size:
    """Return (height, width) of an image file, upright, from its header; the pixels are not looked at.

    Raises:
        Unsupported: it has more pixels than are decoded as a whole.
        DamagedFile: its header cannot be read.
    """
    height, width, orientation = _stored_size(path)
    require_size(width, height, path)
    return (width, height) if swaps_sides(orientation) else (height, width)


def stored_orientation(path: Path) -> int:
    """Return the orientation tag of an image file, 1 to 8; see :func:`segadapt.data.files.orientation.turned`."""
    return _stored_size(path)[2]


def stored_otherwise(path: Path) -> bool:
    """Return whether an orientation tag turns an image file, so that height and width are not those stored."""
    return swaps_sides(_stored_size(path)[2])


def read_picture(path: Path) -> Picture:
    """Read an image file as RGB [H, W, 3] uint8, as a viewer shows it; grey is repeated, 16 bits become 8."""
    raster = tiff_head(path)
    if raster is not None and not raster.plain and has_rasterio():
        return _guarded(lambda: _of_raster(path), b"", path)
    stored = _decoded(path, (), True)
    values = stored.values
    if stored.palette is not None:
        return show_palette(values, stored.palette)
    if values.dtype == np.uint16 and stored.white == 65535:
        values = (values >> 8).astype(np.uint8)
    elif stored.white != 255:
        values = ((values.astype(np.uint32) * 510 + stored.white) // (2 * stored.white)).clip(0, 255).astype(np.uint8)
    if stored.inverted:
        values = 255 - values
    if values.ndim == 3:
        return np.asarray(values, np.uint8)
    return np.repeat(np.asarray(values, np.uint8)[..., None], 3, axis=2)


def show_palette(values: Values, palette: Palette) -> Picture:
    """Return the colours [H, W, 3] of palette indices [H, W]; indices beyond the palette are black."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(palette)] = palette
    return np.asarray(table[values])


def as_indices(values: Values) -> Values | None:
    """Return stored values as an index map [H, W], also of a grey picture saved as RGB; None for colours."""
    if values.ndim == 2:
        return values
    first = values[..., 0]
    return np.ascontiguousarray(first) if (values == first[..., None]).all() else None


def read_index(path: Path) -> LabelMap:
    """Read an index file (grey or palette) as indices [H, W] uint8."""
    values = as_indices(decode(path).values)
    if values is None:
        raise UnknownLabel(f"{path} is a colour picture, not an index map; its class indices are needed")
    return _as_bytes(values, path)


def read_first_channel(path: Path) -> LabelMap:
    """Read the red channel [H, W] uint8 of a colour file of 8 or 16 bits, which holds the classes of SYNTHIA.

    The other channels may hold numbers above 255 (instances); 16-bit files are read in full.
    """
    values = decode(path).values
    return _as_bytes(np.ascontiguousarray(values[..., 0] if values.ndim == 3 else values), path)


# ---- files ----


def _decoded(path: Path, no_data: Sequence[int], picture: bool) -> Decoded:
    data = _content(path)
    if data[:4] in tags.HEADS:
        return _guarded(lambda: decode_tiff(data, path, no_data, picture), data, path)
    return _guarded(lambda: _of_other(data, path), data, path)


def _content(path: Path) -> bytes:
    try:
        data = read_file(Path(path))
    except OSError as problem:
        raise DamagedFile(f"{path} cannot be read: {problem.strerror or problem}") from None
    if not any(data):
        raise DamagedFile(f"{path} {'holds nothing but zero bytes' if data else 'is empty'}; fetch it again")
    return data


def _guarded(work: Callable[[], _R], head: bytes, path: Path) -> _R:
    """Return the result of ``work`` on a file; whatever a decoder complains of becomes a DamagedFile."""
    try:
        return work()
    except (MemoryError, RequestError):
        raise
    # Decoders of damaged files raise OSError, SyntaxError, ValueError, struct.error and others.
    except Exception as problem:
        if isinstance(problem, UnidentifiedImageError):
            if kind := other_kind(head[:HEAD], path):
                raise Unsupported(f"{path} {kind}") from None
            if not looks_like_an_image(head):
                raise DamagedFile(
                    f"{path} is not an image that can be decoded; fetch it again, or take it out"
                ) from None
            detail = "only its header can be read"
        else:
            detail = " ".join(str(problem).split()) or type(problem).__name__
        raise DamagedFile(
            f"{path} is cut off, damaged or of a kind that is not supported ({detail}); fetch it again, or save it as "
            "PNG"
        ) from None


def _stored_size(path: Path) -> tuple[int, int, int]:
    """Return height and width as stored, and the orientation tag."""
    try:
        with open_file(Path(path)) as file:
            head = file.read(HEAD)
            file.seek(0)
            return _guarded(lambda: _sizes(file, head, path), head, path)
    except OSError as problem:
        raise DamagedFile(f"{path} cannot be read: {problem.strerror or problem}") from None


def _sizes(file: Any, head: bytes, path: Path) -> tuple[int, int, int]:
    if head[:4] in tags.HEADS:
        tiff = tags.Tiff(file)
        page = tiff.pages[0]
        height, width = tiff.number(page, tags.HEIGHT, 0), tiff.number(page, tags.WIDTH, 0)
        return height, width, tiff.number(page, TAG, 1)
    image = open_image(file, head, path)
    return image.height, image.width, orientation_of(image, file)


def _of_raster(path: Path) -> Picture:
    """Return the picture of a raster, which rasterio reads."""
    with open_file(Path(path)) as file:
        tiff = tags.Tiff(file)
        require_one(tiff.count(), path)
        orientation = tiff.number(tiff.pages[0], TAG, 1)
    return turned(read_raster(path).picture, orientation)


# ---- other formats ----


def _of_other(data: bytes, path: Path) -> Decoded:
    image = _verified(data, path)
    raw = raw_mode(image)
    orientation = orientation_of(image, io.BytesIO(data))
    if image.format in ("JPEG", "MPO"):
        values, wrong = decode_strictly(data)
        if wrong:
            raise DamagedFile(f"{path} is cut off or damaged inside ({wrong}); fetch it again")
        if values is not None:
            return upright(Decoded(values, None, 8, image.format), orientation)
    if bits_of(image.mode, raw) == 16 and image.mode in CHANNELS_OF_16_BITS:
        return upright(Decoded(by_opencv(data, path), None, 16, image.format or "", 65535), orientation)
    image.load()
    found = of_pillow(image, raw, path)
    return upright(unscaled(found, data) if image.format == "PPM" else found, orientation)


def _verified(data: bytes, path: Path) -> Image.Image:
    """Open a file and check it in ways that decoding does not: checksums of PNG, and the end of JPEG.

    A JPEG whose later part is zeros decodes without complaint.
    """
    file = io.BytesIO(data)
    image = open_image(file, data[:HEAD], path)
    require_size(image.width, image.height, path)
    if image.format not in ("MPO", "HEIF"):  # phones keep previews and other views behind the picture that is shown
        animated: Any = image if getattr(image, "is_animated", False) else None
        require_one(animated.n_frames if animated else 1, path, frames=True)
    if (
        image.format in ("JPEG", "MPO") and data.find(_JPEG_END, file.tell()) < 0
    ):  # Pillow has read up to the first scan
        raise DamagedFile(f"{path} is cut off (JPEG without its end); fetch it again")
    if image.format != "PNG":
        return image
    image.verify()
    return open_image(io.BytesIO(data), data[:HEAD], path)


def _as_bytes(values: Values, path: Path) -> LabelMap:
    if values.dtype != np.uint8 and values.size and values.max() > 255:
        raise UnknownLabel(f"{path} holds the label {values.max()}; class indices lie between 0 and 255")
    return values.astype(np.uint8, copy=False)
