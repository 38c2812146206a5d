"""Decoding image and label files, by one rule for all of them: :func:`decode`.

Every function raises :class:`DamagedFile`, naming the file, when the file is missing, empty, cut off, corrupt or not
an image at all.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from segadapt.core.types import Size
from segadapt.data.dataset import DamagedFile, Picture
from segadapt.errors import RequestError
from segadapt.labels import LabelMap

_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_HEAD = 16
"""Bytes by which formats are told apart."""
_JPEG_END = b"\xff\xd9"
_MOST_PIXELS = 1 << 30
"""Most pixels of one image; its RGB values then take 3 GiB."""
# Pillow warns of images above 89 megapixels; aerial mosaics are larger. Headers are checked against _MOST_PIXELS here.
Image.MAX_IMAGE_PIXELS = _MOST_PIXELS
# Pillow keeps a few blocks of 16 MiB for its next images. Asking the system for new pages takes longer than decoding.
_PILLOW: Any = Image.core  # type: ignore[attr-defined]
_PILLOW.set_blocks_max(max(4, _PILLOW.get_blocks_max()))

Values = npt.NDArray[np.unsignedinteger[Any]]
"""Numbers of a file as stored, uint8 or uint16."""
Palette = npt.NDArray[np.uint8]
"""[n, 3] RGB colours of the indices 0 .. n - 1."""
_R = TypeVar("_R")


class UnknownLabel(RequestError):
    """A label file holds values or colours that belong to no class."""


class Decoded(NamedTuple):
    """The content of an image or label file as it is stored.

    Attributes:
        values: [H, W] grey values or palette indices, or [H, W, 3] RGB; uint8, or uint16 for more than 8 bits. Grey
            values of 1, 2 or 4 bits are 0 .. 1, 0 .. 3 or 0 .. 15.
        palette: colours of the indices of a palette file, else None.
        bits: bits per channel: 1, 2, 4, 8, 16 or, for grey files of whole numbers, 32.
        format: Pillow's name of the format, judged by the content and not by the suffix, e.g. ``PNG`` or ``JPEG``.
    """

    values: Values
    palette: Palette | None
    bits: int
    format: str


def decode(path: Path) -> Decoded:
    """Decode any image or label file.

    This is the only rule by which files become numbers. Pillow decodes everything, except that OpenCV decodes colours
    of 16 bits, of which Pillow keeps 8. Palette files give their indices, but a GIF, which cannot be without a palette,
    gives the greys where it shows nothing else. Transparency is dropped; CMYK, YCbCr and other models become RGB. The
    orientation tag of photographs is not obeyed, see :func:`_upright`. Of several frames or pages the first counts.

    Args:
        path: a BMP, GIF, JPEG, PNG, PPM, TIFF or WebP file with any suffix.

    Returns:
        The stored values, the palette, and facts of the file.

    Raises:
        DamagedFile: the file cannot be read in whole, is not an image, or holds numbers that are not whole or lie
            outside 0 .. 65535.
    """
    data = _content(path)
    image = _guarded(lambda: _verified(data, path), data, path)
    raw = _raw_mode(image)
    bits = _bits(image.mode, raw)
    kind = image.format or ""
    if bits == 16 and image.mode in _CHANNELS_OF_16_BITS:
        return Decoded(_by_opencv(data, path), None, bits, kind)
    _guarded(image.load, data, path)
    image = _upright(image)
    if image.mode in ("P", "PA"):
        indices, palette = np.asarray(image), _palette_of(image)
        indices = (indices if indices.ndim == 2 else indices[..., 0]).copy()
        if kind == "GIF" and _greys_only(indices, palette):
            return Decoded(np.ascontiguousarray(palette[indices, 0]), None, 8, kind)
        return Decoded(indices, palette, bits, kind)
    return Decoded(_unstretched(_numbers(image, path), raw), None, bits, kind)


def picture_size(path: Path) -> Size:
    """Return (height, width) of an image file from its header; the pixels are not looked at."""
    try:
        with Path(path).open("rb") as file:
            head = file.read(_HEAD)
            file.seek(0)
            width, height = _upright(_guarded(lambda: _opened(file, path), head, path)).size
    except OSError as problem:
        raise DamagedFile(f"{path} cannot be read: {problem.strerror or problem}") from None
    return height, width


def read_picture(path: Path) -> Picture:
    """Read an image file as RGB [H, W, 3] uint8; grey is repeated, transparency dropped, 16 bits become 8."""
    values, palette, bits, _ = decode(path)
    if bits > 16:
        raise DamagedFile(f"{path} holds {bits}-bit numbers; images have 8 or 16 bits per channel")
    if palette is not None:
        return show_palette(values, palette)
    if values.dtype == np.uint16:
        values = (values >> 8).astype(np.uint8)
    if values.ndim == 3:
        return np.asarray(values, np.uint8)
    grey = values * (255 // ((1 << bits) - 1)) if bits < 8 else values
    return np.repeat(np.asarray(grey, np.uint8)[..., None], 3, axis=2)


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
            if not _looks_like_an_image(head):
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


def _looks_like_an_image(head: bytes) -> bool:
    """Return whether a file begins as one of the known formats does."""
    Image.init()
    tests = [Image.OPEN[name][1] for name in _FORMATS if name in Image.OPEN]
    return any(accept is not None and accept(head[:_HEAD]) for accept in tests)


def _opened(file: BinaryIO, path: Path) -> Image.Image:
    image = Image.open(file, formats=_FORMATS)
    if image.width * image.height > _MOST_PIXELS:
        raise DamagedFile(f"{path} has {image.width} x {image.height} pixels, too many to decode; cut it into tiles")
    return image


def _verified(data: bytes, path: Path) -> Image.Image:
    """Open a file and check it in ways that decoding does not: checksums of PNG, and the end of JPEG.

    A JPEG whose later part is zeros decodes without complaint.
    """
    file = io.BytesIO(data)
    image = _opened(file, path)
    if (
        image.format in ("JPEG", "MPO") and data.find(_JPEG_END, file.tell()) < 0
    ):  # Pillow has read up to the first scan
        raise DamagedFile(f"{path} is cut off (JPEG without its end); fetch it again")
    if image.format != "PNG":
        return image
    image.verify()
    return _opened(io.BytesIO(data), path)


def _upright(image: Image.Image) -> Image.Image:
    """Return the image as stored; ``ImageOps.exif_transpose(image)`` here would obey the orientation tag."""
    return image


# ---- pixels ----

_CHANNELS_OF_16_BITS = ("LA", "RGB", "RGBA", "RGBX")
"""Modes of Pillow with 8 bits per channel in which it may have dropped the lower half of 16."""


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


def _numbers(image: Image.Image, path: Path) -> Values:
    """Return the grey [H, W] or RGB [H, W, 3] values of a loaded image that has no palette."""
    mode = image.mode
    if mode in ("1", "L") or mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16 if mode.startswith("I") else np.uint8)
    if mode in ("I", "F"):
        return _whole(np.asarray(image), path)
    if mode in ("LA", "La"):
        return np.array(np.asarray(image)[..., 0], np.uint8)
    if mode not in ("RGB", "RGBA", "RGBX", "RGBa"):
        image = image.convert("RGB")
    return np.array(np.asarray(image)[..., :3], np.uint8)


def _whole(values: npt.NDArray[Any], path: Path) -> Values:
    """Return 32-bit numbers as uint16, where that loses nothing."""
    narrow = values.astype(np.int64).clip(0, 65535).astype(np.uint16)
    if values.dtype.kind == "f" or not np.array_equal(narrow, values):
        raise DamagedFile(f"{path} holds {values.dtype} numbers; labels are whole numbers from 0 to 65535")
    return narrow


def _greys_only(indices: Values, palette: Palette) -> bool:
    """Return whether a palette shows the indices that occur as greys."""
    used = np.unique(indices)
    return bool(used.size and used[-1] < len(palette) and (palette[used] == palette[used, :1]).all())


def _palette_of(image: Image.Image) -> Palette:
    return np.array(image.getpalette("RGB") or (), np.uint8).reshape(-1, 3)


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
