"""The structure of TIFF files, and their pixels as they are stored.

Pillow decodes most TIFF files for a viewer: it inverts some of those whose zeros are white, keeps 8 of 16 bits of
colours, and refuses bands that no tag calls red, green and blue. Here, Pillow only unpacks strips and tiles, as rows of
bytes; what the bytes mean follows from the tags (TIFF 6.0; predictors: its section 14 and Adobe's Technical Note 3).
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from segadapt.core.limits import most_pixels
from segadapt.data.files.jpeg import decode_strictly

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
FILL_ORDER, DESCRIPTION, STRIPS, ORIENTATION, SAMPLES = 266, 270, 273, 274, 277
STRIP_ROWS, STRIP_BYTES, PLANAR, PREDICTOR = 278, 279, 284, 317
TILE_WIDTH, TILE_HEIGHT, TILES, TILE_BYTES, SAMPLE_FORMAT = 322, 323, 324, 325, 339
SUBFILE, OLD_SUBFILE, JPEG_TABLES, NO_DATA = 254, 255, 347, 42113

HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First bytes of a file; the last two are those of BigTIFF."""
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE = 0, 1, 2, 3
"""Values of PHOTOMETRIC."""
_DEFLATE = (8, 32946)
_UNPACKED = {1, 5, 8, 32773, 32946, 34925, 50000}
"""Compressions of bytes without loss: none, LZW, Deflate (two), PackBits, LZMA, Zstandard."""
JPEG_IN_TIFF = 7
LOSSY = {6: "JPEG", JPEG_IN_TIFF: "JPEG", 34712: "JPEG 2000", 34892: "JPEG", 50001: "WebP"}
_FORMS = {1: "u", 2: "i", 3: "f", 4: "u"}
_FIELDS = {1: "B", 2: "s", 3: "H", 4: "I", 5: "II", 6: "b", 7: "B", 8: "h", 9: "i", 11: "f", 12: "d", 16: "Q", 17: "q"}
_MOST_PAGES = 1 << 16
_MOST_FIELDS = 1 << 20
"""Of all pages together, which may overlap in a file that was made to take hours."""
_MOST_NUMBERS = 1 << 26
"""Of one field; a picture of 2^28 pixels has fewer strips or tiles."""
_REDUCED, _MASK = 1, 4
"""Bits of SUBFILE: a smaller copy of another page; which of its pixels count."""
_STACK = re.compile(rb"ImageJ=.*?\nimages=(\d+)", re.DOTALL)


class _Field(NamedTuple):
    form: str
    length: int
    at: int


Page = dict[int, _Field]
"""The fields of a page by their tag."""


class Tiff:
    """A TIFF or BigTIFF file.

    Args:
        file: opened for reading; its position does not matter.

    Attributes:
        order: ``<`` or ``>``, the order of bytes.
        pages: fields of each page, without smaller copies (overviews, thumbnails) and masks of other pages.

    Raises:
        ValueError, struct.error: the file is no TIFF or is cut off.
    """

    def __init__(self, file: BinaryIO):
        self._file = file
        head = self._bytes(0, 16)
        self.order = {b"II": "<", b"MM": ">"}[head[:2]]
        self._big = struct.unpack(self.order + "H", head[2:4])[0] == 43
        self._offset = "Q" if self._big else "I"
        found: dict[int, Page] = {}
        fields = 0
        at = self._one(self._offset, 8 if self._big else 4)
        while at and at not in found and len(found) < _MOST_PAGES:
            page, following = self._page(at)
            found[at], at = page, following
            fields += len(page)
            if fields > _MOST_FIELDS:
                raise ValueError("its pages have more fields than any file")
        if not found:
            raise ValueError("no page")
        kept = [at for at, page in found.items() if not self._beside(page)] or list(found)[:1]
        self.pages, self._start = [found[at] for at in kept], kept[0]

    def count(self) -> int:
        """Return the number of pages; ImageJ keeps those of a large stack behind the first one, without fields."""
        stack = _STACK.match(self.text(self.pages[0], DESCRIPTION))
        return max(len(self.pages), int(stack[1]) if stack else 1)

    def numbers(self, page: Page, tag: int) -> tuple[Any, ...]:
        """Return the numbers of a field, none where the page lacks it."""
        if tag not in page:
            return ()
        form, length, at = page[tag]
        if length > _MOST_NUMBERS:
            raise ValueError("a field is longer than any file has it")
        form = self.order + form * length if len(form) > 1 else f"{self.order}{length}{form}"
        return struct.unpack(form, self._bytes(at, struct.calcsize(form)))

    def number(self, page: Page, tag: int, default: int) -> int:
        """Return the first number of a field."""
        return int((*self.numbers(page, tag), default)[0])

    def text(self, page: Page, tag: int) -> bytes:
        """Return the text of a field."""
        return bytes(self.numbers(page, tag)[0]) if tag in page and page[tag].form == "s" else b""

    def no_data(self, page: Page) -> float | None:
        """Return the number that stands for no data, as GDAL writes it."""
        try:
            return float(self.text(page, NO_DATA).strip(b"\0 "))
        except ValueError:
            return None

    def for_other_decoders(self, data: bytes) -> bytes:
        """Return the file ``data`` in a form in which the first of ``pages`` is the first of all, and not turned."""
        place, page = (8, 4)[not self._big], self.pages[0]
        patches = [(place, struct.pack(self.order + self._offset, self._start))]
        if ORIENTATION in page:
            patches.append((page[ORIENTATION].at, struct.pack(self.order + page[ORIENTATION].form, 1)))
        for at, patch in patches:
            data = data[:at] + patch + data[at + len(patch) :]
        return data

    def _beside(self, page: Page) -> bool:
        return bool(self.number(page, SUBFILE, 0) & (_REDUCED | _MASK)) or self.number(page, OLD_SUBFILE, 1) == 2

    def _page(self, at: int) -> tuple[Page, int]:
        """Return the fields of the page at a place, and the place of the next page."""
        size, width = (8, 20) if self._big else (2, 12)
        count, at = self._one("Q" if self._big else "H", at), at + size
        page: Page = {}
        for place in range(at, at + width * count, width):
            tag, kind, number = struct.unpack(self.order + "HH" + self._offset, self._bytes(place, width // 2 + 2))
            form = _FIELDS.get(kind)
            if form is None:
                continue
            inline = struct.calcsize("<" + form) * number <= width - (width // 2 + 2)
            value = place + width // 2 + 2
            page[tag] = _Field(form, number, value if inline else self._one(self._offset, value))
        return page, self._one(self._offset, at + width * count)

    def _one(self, form: str, at: int) -> int:
        return int(struct.unpack(self.order + form, self._bytes(at, struct.calcsize("<" + form)))[0])

    def _bytes(self, at: int, count: int) -> bytes:
        self._file.seek(at)
        return self._file.read(count)


class Layout(NamedTuple):
    """How the pixels of a page are stored.

    Attributes:
        height, width: in pixels, as stored.
        bands: numbers per pixel.
        bits: of each number; 0 where bands differ.
        form: ``u``, ``i`` or ``f`` for whole, signed and broken numbers; empty for others.
        photometric: value of PHOTOMETRIC.
        compression: value of COMPRESSION.
        planes: whether bands are stored one after the other.
    """

    height: int
    width: int
    bands: int
    bits: int
    form: str
    photometric: int
    compression: int
    planes: bool

    @property
    def plain(self) -> bool:
        """Whether :func:`stored` can read it."""
        whole = self.bits in (8, 16, 32, 64) and (self.form in ("u", "i") or (self.form == "f" and self.bits > 8))
        return whole and self.photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB) and self.compression in _UNPACKED


def layout(tiff: Tiff, page: Page) -> Layout:
    """Return how the pixels of a page are stored."""
    bands = tiff.number(page, SAMPLES, 1)
    bits, forms = set(tiff.numbers(page, BITS)) or {1}, set(tiff.numbers(page, SAMPLE_FORMAT)) or {1}
    straight = len(bits) == 1 and len(forms) == 1 and tiff.number(page, FILL_ORDER, 1) == 1
    return Layout(
        tiff.number(page, HEIGHT, 0),
        tiff.number(page, WIDTH, 0),
        bands,
        bits.pop() if straight else 0,
        _FORMS.get(forms.pop(), "") if straight else "",
        tiff.number(page, PHOTOMETRIC, BLACK_IS_ZERO),
        tiff.number(page, COMPRESSION, 1),
        tiff.number(page, PLANAR, 1) == 2 and bands > 1,
    )


def stored(data: bytes, tiff: Tiff, page: Page) -> npt.NDArray[Any]:
    """Return the numbers [H, W, bands] of a page whose layout is ``plain``, none of them changed.

    Raises:
        OSError: strips or tiles are missing or damaged.
    """
    kind = layout(tiff, page)
    if kind.planes:
        return np.concatenate([_chunks(data, tiff, page, kind, plane, 1) for plane in range(kind.bands)], axis=2)
    return _chunks(data, tiff, page, kind, 0, kind.bands)


def damage_of_jpeg(data: bytes, tiff: Tiff, page: Page) -> str | None:
    """Return what is wrong with the JPEG streams of a page, None where nothing is known to be wrong."""
    tables = bytes(tiff.numbers(page, JPEG_TABLES))
    for at, size in _places(tiff, page):
        stream = data[at : at + size]
        found = decode_strictly(tables[:-2] + stream[2:] if tables else stream)[1]
        if found:
            return found
    return None


def _places(tiff: Tiff, page: Page) -> Iterator[tuple[int, int]]:
    """Yield place and length in bytes of every strip or tile."""
    tags = (TILES, TILE_BYTES) if TILES in page else (STRIPS, STRIP_BYTES)
    return zip(*(tiff.numbers(page, tag) for tag in tags), strict=False)


def _chunks(data: bytes, tiff: Tiff, page: Page, kind: Layout, plane: int, bands: int) -> npt.NDArray[Any]:
    """Return the numbers [H, W, bands] of the strips or tiles of one plane."""
    tags = (TILES, TILE_BYTES) if TILES in page else (STRIPS, STRIP_BYTES)
    wide, high = kind.width, min(tiff.number(page, STRIP_ROWS, kind.height), kind.height)
    if TILES in page:
        wide, high = tiff.number(page, TILE_WIDTH, 0), tiff.number(page, TILE_HEIGHT, 0)
    across, down = -(-kind.width // wide), -(-kind.height // high)
    if across * wide * down * high > 2 * most_pixels():
        raise OSError("strips or tiles are larger than the picture")
    number = np.dtype(f"{tiff.order}{kind.form}{kind.bits // 8}")
    row = wide * bands * number.itemsize
    here = list(_places(tiff, page))[plane * across * down : (plane + 1) * across * down]
    if len(here) < across * down or any(at + size > len(data) for at, size in here):
        raise OSError("strips or tiles are cut off or missing")
    if kind.compression in (1, *_DEFLATE):
        packed = kind.compression in _DEFLATE
        parts = (_inflated(data[at : at + size], high * row) if packed else data[at : at + size] for at, size in here)
        rows = _laid_out(parts, (kind.height, high, across, row), whole=TILES in page)
    else:
        fields: dict[int, int | list[int]] = {
            WIDTH: across * row,
            HEIGHT: kind.height,
            BITS: 8,
            COMPRESSION: kind.compression,
            SAMPLES: 1,
        }
        fields |= {TILE_WIDTH: row, TILE_HEIGHT: high} if TILES in page else {STRIP_ROWS: high}
        offsets, sizes = (list(part) for part in zip(*here, strict=True))
        fields |= {PHOTOMETRIC: BLACK_IS_ZERO, tags[0]: offsets, tags[1]: sizes}
        rows = _unpacked(data, fields).reshape(kind.height, across, row)
    values = _undone(rows, tiff.number(page, PREDICTOR, 1), number, bands)
    return values.reshape(kind.height, -1, bands)[:, : kind.width].astype(number.newbyteorder("="))


def _inflated(part: bytes, most: int) -> bytes:
    """Return a strip or tile of Deflate, of at most so many bytes.

    Its checksum is compared, which libtiff does not do; some writers leave it out.
    """
    stream = zlib.decompressobj()
    try:
        return (
            stream.decompress(part, max(1, most)) + stream.decompress(stream.unconsumed_tail, 1)[:0]
        )  # on to the checksum
    except zlib.error as problem:
        raise OSError(str(problem)) from None


def _laid_out(parts: Iterable[bytes], shape: tuple[int, int, int, int], whole: bool) -> npt.NDArray[np.uint8]:
    """Lay unpacked strips or tiles out as rows of bytes [H, tiles, bytes].

    Args:
        parts: from left to right and from top to bottom.
        shape: height of the page and of a part, parts in a row, bytes in a row of a part.
        whole: whether parts that reach beyond the page are stored in full, as tiles are.
    """
    height, high, across, row = shape
    rows = np.empty((-(-height // high) * high, across, row), np.uint8)
    for place, part in enumerate(parts):
        top = place // across * high
        bottom = top + high if whole else min(top + high, height)
        if len(part) < (bottom - top) * row:
            raise OSError("a strip or tile is cut off")
        pixels = np.frombuffer(part, np.uint8, (bottom - top) * row)
        rows[top:bottom, place % across] = pixels.reshape(bottom - top, row)
    return rows[:height]


def _unpacked(data: bytes, fields: dict[int, int | list[int]]) -> npt.NDArray[np.uint8]:
    """Unpack strips or tiles of the file ``data``, which ``fields`` describe as a grey image of 8 bits.

    Fields are written behind the data as the only page of a BigTIFF file, so places within it stay as they are.
    """
    lead = 16
    values, entries = b"", b""
    start = lead + len(data)
    table = 8 + 20 * len(fields) + 8
    for tag in sorted(fields):
        value = fields[tag]
        numbers = [at + lead for at in value] if tag in (STRIPS, TILES) and isinstance(value, list) else value
        numbers = numbers if isinstance(numbers, list) else [numbers]
        packed = struct.pack(f"<{len(numbers)}Q", *numbers)
        place = packed if len(packed) <= 8 else struct.pack("<Q", start + table + len(values))
        values += packed if len(packed) > 8 else b""
        entries += struct.pack("<HHQ", tag, 16, len(numbers)) + place
    head = struct.pack("<2sHHHQ", b"II", 43, 8, 0, start)
    page = struct.pack("<Q", len(fields)) + entries + bytes(8) + values
    image = Image.open(io.BytesIO(b"".join((head, data, page))), formats=("TIFF",))
    return np.array(image)


def _undone(rows: npt.NDArray[np.uint8], predictor: int, number: np.dtype[Any], bands: int) -> npt.NDArray[Any]:
    """Undo the differences to the left neighbour in rows of bytes [H, tiles, bytes]; return numbers."""
    if predictor == 3:  # of the bytes of broken numbers; the first bytes of all of a row stand before the second ones
        parts = rows.reshape(*rows.shape[:2], -1, bands)
        planes: npt.NDArray[Any] = np.add.accumulate(parts, axis=2, dtype=np.uint8)
        planes = np.ascontiguousarray(np.moveaxis(planes.reshape(*rows.shape[:2], number.itemsize, -1), 2, 3))
        broken: npt.NDArray[Any] = planes.view(number.newbyteorder(">"))
        return broken[..., 0]
    if predictor != 2:
        return rows.view(number)
    whole = np.dtype(f"u{number.itemsize}")  # of signed and broken numbers too, their bits are added
    steps = rows.view(whole.newbyteorder(number.byteorder)).reshape(*rows.shape[:2], -1, bands)
    sums: npt.NDArray[Any] = np.add.accumulate(steps, axis=2, dtype=whole)
    native: npt.NDArray[Any] = sums.view(number.newbyteorder("="))
    return native
