"""Decoding image and label files, by one rule for all of them: :func:`decode`.

Every function raises :class:`DamagedFile`, naming the file, when the file is missing, empty, cut off, corrupt or not
an image at all, and its kind :class:`~segadapt.data.formats.Unsupported` when the file is whole but of a kind that is
not read.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from segadapt.core.types import Size
from segadapt.data import tiff as tags
from segadapt.data.dataset import DamagedFile, Picture
from segadapt.data.formats import HEAD, Unsupported, looks_like_an_image, open_image, other_kind
from segadapt.data.jpeg import decode_strictly
from segadapt.data.orientation import TAG, orientation_of, swaps_sides, turned
from segadapt.data.whole import Values, whole_numbers
from segadapt.errors import RequestError
from segadapt.labels import LabelMap

_JPEG_END = b"\xff\xd9"
_TIFF_HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MOST_PIXELS = 1 << 30
"""Most pixels of one image; its RGB values then take 3 GiB."""
# Pillow warns of images above 89 megapixels; aerial mosaics are larger. Headers are checked against _MOST_PIXELS here;
# a TIFF file of 16-bit colours goes through Pillow as a grey image of six bytes per pixel.
Image.MAX_IMAGE_PIXELS = 6 * _MOST_PIXELS
# Pillow keeps a few blocks of 16 MiB for its next images. Asking the system for new pages takes longer than decoding.
_PILLOW: Any = Image.core  # type: ignore[attr-defined]
_PILLOW.set_blocks_max(max(4, _PILLOW.get_blocks_max()))

Palette = npt.NDArray[np.uint8]
"""[n, 3] RGB colours of the indices 0 .. n - 1."""
_R = TypeVar("_R")


class UnknownLabel(RequestError):
    """A label file holds values or colours that belong to no class."""


class Decoded(NamedTuple):
    """The content of an image or label file as it is stored, upright.

    Attributes:
        values: [H, W] grey values or palette indices, or [H, W, 3] RGB; uint8, or uint16 for more than 8 bits. Grey
            values of 1, 2 or 4 bits are 0 .. 1, 0 .. 3 or 0 .. 15.
        palette: colours of the indices of a palette file, else None.
        bits: bits per channel: 1, 2, 4, 8, 16 or, for files of whole numbers that need not be positive, 32.
        format: Pillow's name of the format, judged by the content and not by the suffix, e.g. ``PNG`` or ``JPEG``.
        white: the grey value that is shown as white.
        inverted: whether 0 is shown as white and ``white`` as black (tag WhiteIsZero; PBM).
        no_data: the value of the pixels without data, where a file has some.
    """

    values: Values
    palette: Palette | None
    bits: int
    format: str
    white: int = 255
    inverted: bool = False
    no_data: int | None = None


def decode(path: Path, no_data: Sequence[int] = ()) -> Decoded:
    """Decode any image or label file.

    This is the only rule by which files become numbers. Numbers are those that are stored: palette files give their
    indices, and WhiteIsZero inverts nothing. Pixels lie as a viewer shows them: orientation tags are obeyed in every
    format. Transparency and a fourth band are dropped, three bands are red, green and blue whatever tags call them;
    CMYK, YCbCr and other models become RGB. Files of several pages or frames are refused, as there is no telling which
    one is meant; overviews, masks and previews beside the picture are no pages.

    Args:
        path: a file of one of :data:`~segadapt.data.formats.IMAGE_SUFFIXES`, with any suffix.
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
    """Return (height, width) of an image file, upright, from its header; the pixels are not looked at."""
    height, width, orientation = _stored_size(path)
    return (width, height) if swaps_sides(orientation) else (height, width)


def stored_otherwise(path: Path) -> bool:
    """Return whether an orientation tag turns an image file, so that height and width are not those stored."""
    return swaps_sides(_stored_size(path)[2])


def read_picture(path: Path) -> Picture:
    """Read an image file as RGB [H, W, 3] uint8, as a viewer shows it; grey is repeated, 16 bits become 8."""
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
    if data[:4] in _TIFF_HEADS:
        return _guarded(lambda: _of_tiff(data, path, no_data, picture), data, path)
    return _guarded(lambda: _of_other(data, path), data, path)


def _content(path: Path) -> bytes:
    try:
        data = Path(path).read_bytes()
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
        with Path(path).open("rb") as file:
            head = file.read(HEAD)
            file.seek(0)
            return _guarded(lambda: _sizes(file, head, path), head, path)
    except OSError as problem:
        raise DamagedFile(f"{path} cannot be read: {problem.strerror or problem}") from None


def _sizes(file: Any, head: bytes, path: Path) -> tuple[int, int, int]:
    if head[:4] in _TIFF_HEADS:
        tiff = tags.Tiff(file)
        page = tiff.pages[0]
        return tiff.number(page, tags.HEIGHT, 0), tiff.number(page, tags.WIDTH, 0), tiff.number(page, TAG, 1)
    image = open_image(file, head, path)
    _require_size(image.width, image.height, path)
    return image.height, image.width, orientation_of(image, file)


def _require_size(width: int, height: int, path: Path) -> None:
    if width * height > _MOST_PIXELS:
        raise Unsupported(f"{path} has {width} x {height} pixels, too many to decode; cut it into tiles")


def _require_one(pages: int, path: Path, frames: bool = False) -> None:
    """Refuse a file of several pages or frames."""
    if pages > 1:
        what = "frames, it is an animation" if frames else "pages"
        raise Unsupported(
            f"{path} has {pages} {what}, and only single pictures are read; split it: "
            f"magick {path.name}{' -coalesce' if frames else ''} {path.stem}_%04d.png, or take it out"
        )


# ---- TIFF ----


def _of_tiff(data: bytes, path: Path, no_data: Sequence[int], picture: bool) -> Decoded:
    tiff = tags.Tiff(io.BytesIO(data))
    page = tiff.pages[0]
    kind = tags.layout(tiff, page)
    _require_one(tiff.count(), path)
    _require_size(kind.width, kind.height, path)
    if not kind.plain:
        return _turned(_by_pillow(data, path, tiff, page), tiff.number(page, TAG, 1))
    if kind.bands > 4 or (picture and (kind.form != "u" or kind.bits > 16)):
        numbers = {"u": "", "i": " signed", "f": " floating point"}[kind.form]
        raise Unsupported(
            f"{path} has {kind.bands} band{'s' * (kind.bands > 1)} of {kind.bits}-bit{numbers} numbers; files have 1 to "
            f"4 bands{', images of 8 or 16 bits' if picture else ''}; convert it: gdal_translate -b 1"
            f"{' -b 2 -b 3' if kind.bands > 2 else ''} -scale -ot Byte {path.name} {path.stem}_8bit.tif"
        )
    numbers = tags.stored(data, tiff, page)
    bands = numbers[..., :3] if kind.bands > 2 else numbers[..., 0]
    declared = tiff.no_data(page)
    values, void = whole_numbers(bands, [*no_data, *([] if declared is None else [declared])], path)
    bits = kind.bits if kind.form == "u" and kind.bits <= 16 else 32
    white = 255 if bits == 8 else 65535
    inverted = kind.photometric == tags.WHITE_IS_ZERO
    return _turned(Decoded(values, None, bits, "TIFF", white, inverted, void), tiff.number(page, TAG, 1))


def _by_pillow(data: bytes, path: Path, tiff: tags.Tiff, page: tags.Page) -> Decoded:
    """Decode a TIFF page of small depth, with a palette, or compressed as a picture."""
    kind = tags.layout(tiff, page)
    wrong = tags.damage_of_jpeg(data, tiff, page) if kind.compression == tags.JPEG_IN_TIFF else None
    if wrong:
        raise DamagedFile(f"{path} is cut off or damaged inside ({wrong}); fetch it again")
    image = Image.open(io.BytesIO(tags.upright_tag(data, tiff, page)), formats=("TIFF",))
    raw = _raw_mode(image)
    image.load()
    found = _of_pillow(image, raw.replace("R", "").replace("I", ""), path)
    if kind.photometric == tags.WHITE_IS_ZERO and found.palette is None and found.values.ndim == 2:
        stored = (found.white - found.values).astype(found.values.dtype)  # Pillow has inverted it
        return found._replace(values=stored, inverted=True)
    return found


# ---- other formats ----


def _of_other(data: bytes, path: Path) -> Decoded:
    image = _verified(data, path)
    raw = _raw_mode(image)
    orientation = orientation_of(image, io.BytesIO(data))
    if image.format in ("JPEG", "MPO"):
        values, wrong = decode_strictly(data)
        if wrong:
            raise DamagedFile(f"{path} is cut off or damaged inside ({wrong}); fetch it again")
        if values is not None:
            return _turned(Decoded(values, None, 8, image.format), orientation)
    if _bits(image.mode, raw) == 16 and image.mode in _CHANNELS_OF_16_BITS:
        return _turned(Decoded(_by_opencv(data, path), None, 16, image.format or "", 65535), orientation)
    image.load()
    found = _of_pillow(image, raw, path)
    return _turned(_unscaled(found, data) if image.format == "PPM" else found, orientation)


def _verified(data: bytes, path: Path) -> Image.Image:
    """Open a file and check it in ways that decoding does not: checksums of PNG, and the end of JPEG.

    A JPEG whose later part is zeros decodes without complaint.
    """
    file = io.BytesIO(data)
    image = open_image(file, data[:HEAD], path)
    _require_size(image.width, image.height, path)
    if image.format not in ("MPO", "HEIF"):  # phones keep previews and other views behind the picture that is shown
        _require_one(image.n_frames if getattr(image, "is_animated", False) else 1, path, frames=True)
    if (
        image.format in ("JPEG", "MPO") and data.find(_JPEG_END, file.tell()) < 0
    ):  # Pillow has read up to the first scan
        raise DamagedFile(f"{path} is cut off (JPEG without its end); fetch it again")
    if image.format != "PNG":
        return image
    image.verify()
    return open_image(io.BytesIO(data), data[:HEAD], path)


# ---- pixels ----

_CHANNELS_OF_16_BITS = ("LA", "RGB", "RGBA", "RGBX")
"""Modes of Pillow with 8 bits per channel in which it may have dropped the lower half of 16."""
_PNM = re.compile(rb"P([1-6])\s(?:\s*#[^\n]*\n)*\s*\d+\s(?:\s*#[^\n]*\n)*\s*\d+\s(?:\s*#[^\n]*\n)*\s*(\d*)")


def _turned(found: Decoded, orientation: int) -> Decoded:
    return found if orientation == 1 else found._replace(values=turned(found.values, orientation))


def _of_pillow(image: Image.Image, raw: str, path: Path) -> Decoded:
    """Return what a loaded image holds."""
    bits, kind = _bits(image.mode, raw), image.format or ""
    if image.mode in ("P", "PA"):
        indices = np.asarray(image)
        indices = (indices if indices.ndim == 2 else indices[..., 0]).copy()
        return Decoded(indices, np.array(image.getpalette("RGB") or (), np.uint8).reshape(-1, 3), bits, kind)
    white = {16: 65535, 32: 65535}.get(bits, (1 << bits) - 1)
    return Decoded(_unstretched(_numbers(image, path), raw), None, bits, kind, white)


def _raw_mode(image: Image.Image) -> str:
    """Return Pillow's name of the layout of a file that is not loaded yet, e.g. ``L;4`` or ``RGB;16B``."""
    tiles = getattr(image, "tile", None) or [("", None, 0, "")]
    arguments = tiles[0][3]
    raw = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return raw if isinstance(raw, str) else ""


def _bits(mode: str, raw: str) -> int:
    if ";16" in raw or mode.startswith("I;16"):
        return 16
    if mode in ("1", "I", "F"):
        return 1 if mode == "1" else 32
    depth = raw.partition(";")[2][:1]
    return int(depth) if mode in ("L", "P") and depth in ("1", "2", "4") else 8


def _unstretched(values: Values, raw: str) -> Values:
    """Return the own values of a grey file of 2 or 4 bits, which Pillow spreads over 0 .. 255."""
    depth = {"L;2": 2, "L;4": 4}.get(raw)
    return values if depth is None else (values // (255 // ((1 << depth) - 1))).astype(np.uint8)


def _unscaled(found: Decoded, data: bytes) -> Decoded:
    """Return the own values of a file of the PPM family, which Pillow spreads over 0 .. 255 or 0 .. 65535."""
    head = _PNM.match(data)
    if head is None:
        return found
    if head[1] in (b"1", b"4"):  # 1 is black there
        return found._replace(values=1 - found.values, inverted=True)
    white, full = int(head[2]), 65535 if found.values.dtype == np.uint16 else 255
    if white > full:  # colours of more than 8 bits, of which Pillow keeps 8
        return found
    values = (found.values.astype(np.int64) * (2 * white) + full) // (2 * full)
    return found._replace(values=values.astype(found.values.dtype), bits=8 if full == 255 else 16, white=white)


def _numbers(image: Image.Image, path: Path) -> Values:
    """Return the grey [H, W] or RGB [H, W, 3] values of a loaded image that has no palette."""
    mode = image.mode
    if mode in ("1", "L") or mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16 if mode.startswith("I") else np.uint8)
    if mode in ("I", "F"):
        return whole_numbers(np.asarray(image), (), path)[0]
    if mode in ("LA", "La"):
        return np.array(np.asarray(image)[..., 0], np.uint8)
    if mode not in ("RGB", "RGBA", "RGBX", "RGBa"):
        image = image.convert("RGB")
    return np.array(np.asarray(image)[..., :3], np.uint8)


def _by_opencv(data: bytes, path: Path) -> Values:
    """Decode a whole file of 16-bit channels to grey [H, W] or RGB [H, W, 3] uint16."""
    try:
        values: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        values = None
    if values is None:
        raise DamagedFile(f"{path} is not an image that can be decoded; fetch it again, or save it as PNG")
    if values.ndim == 2:
        return np.asarray(values)
    return np.ascontiguousarray(values[..., 2::-1] if values.shape[2] >= 3 else values[..., 0])


def _as_bytes(values: Values, path: Path) -> LabelMap:
    if values.dtype != np.uint8 and values.size and values.max() > 255:
        raise UnknownLabel(f"{path} holds the label {values.max()}; class indices lie between 0 and 255")
    return values.astype(np.uint8, copy=False)
