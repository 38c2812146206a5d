"""How masks are stored, compared over a whole set: losses of compression, palettes, and depths.

A mask alone may look right and yet not fit the others: its palette gives the same number another colour, or it has one
bit per pixel, where 1 is what others call 255.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import numpy as np
from PIL import Image

from segadapt.core.reading import open_file
from segadapt.data.dataset import DamagedFile
from segadapt.data.files import tiff as tags
from segadapt.data.files.decoded import Palette
from segadapt.data.files.formats import HEAD, open_image
from segadapt.data.files.pixels import bits_of, greys_only, raw_mode
from segadapt.data.masks.classes_file import MaskClass
from segadapt.data.masks.labelling import color_codes, color_of
from segadapt.data.masks.mask_signs import MaskSigns, look_at_masks
from segadapt.errors import RequestError
from segadapt.labels import Color, hex_color

_GREY_MODES = ("1", "L", "LA", "La", "I", "F")
_COLOR_MAP = 320
_HEAD_OF_JPEG_2000 = 1 << 16


class Storage(NamedTuple):
    """How a mask is stored, by the head of its file.

    Attributes:
        kind: what its numbers are.
        bits: per number.
        palette: colours of the indices, None without.
        lossy: name of the compression, where that does not keep numbers.
    """

    kind: Literal["grey", "palette", "colours"]
    bits: int
    palette: Palette | None = None
    lossy: str | None = None

    @property
    def grey_differs(self) -> bool:
        """Whether it may show numbers as other greys, so that another file may store these."""
        if self.kind == "grey":
            return self.bits < 8
        greys = _greys(self.palette) if self.palette is not None else []
        return None not in greys and any(v != g for v, g in enumerate(greys))


def storage_of(path: Path) -> Storage | None:
    """Return how a mask is stored; None for a file that cannot be read, which decoding it will name."""
    try:
        with open_file(path) as file:
            head = file.read(HEAD)
            return _of_tiff(file) if head[:4] in tags.HEADS else _of_image(file, head, path)
    except Exception:  # of damaged files; every decoder raises other ones
        return None


def require_lossless(masks: Sequence[Path], name: str) -> list[Storage | None]:
    """Return how masks are stored; refuse a set in which compression has changed numbers.

    The kind of compression is judged by the content, whatever the suffix. No classes file helps: the changed numbers
    lie close to the saved ones, so they may be those of other classes.

    Raises:
        RequestError: a mask is a JPEG, a lossy WebP, AVIF, HEIF or the like.
    """
    found = [storage_of(path) for path in masks]
    lossy = [(path, s.lossy) for path, s in zip(masks, found, strict=True) if s is not None and s.lossy]
    if lossy:
        path, kind = lossy[0]
        raise RequestError(
            f"{name}: {len(lossy)} of {len(masks)} masks are {kind} files, which do not keep the numbers and colours "
            f"that were saved, the first is {path}; export them again as PNG (docs/folders.md says how to mend masks "
            "of 0 and 255 that exist in no other form)"
        )
    return found


@dataclass
class Signs:
    """The numbers and colours of the masks seen so far, and in which of them.

    Attributes:
        values: of grey and palette masks, and of grey pictures saved as RGB.
        codes: colours of RGB masks, see :func:`~segadapt.data.masks.labelling.color_codes`.
        palette: the first one.
        color_mask: the first RGB mask with colours that are not grey.
        plain_mask: the first mask of numbers without palette.
        colors: index -> colour -> the first palette mask that shows it so.
        void: whether pixels without data were left out.
        seen: greys that a viewer shows, of all masks.
        colored: whether a viewer shows more than greys.
    """

    values: set[int] = field(default_factory=set)
    codes: set[int] = field(default_factory=set)
    palette: Palette | None = None
    color_mask: Path | None = None
    plain_mask: Path | None = None
    colors: dict[int, dict[int, Path]] = field(default_factory=lambda: defaultdict(dict))
    void: bool = False
    seen: set[int] = field(default_factory=set)
    colored: bool = False
    _shown: dict[tuple[int, int], Path] = field(default_factory=dict)
    _stored: dict[int, Path] = field(default_factory=dict)

    def add(self, path: Path, signs: MaskSigns) -> None:
        """Add a mask."""
        self.codes.update(signs.codes)
        if signs.rgb:
            if signs.values is None:
                self.color_mask = self.color_mask or path
        elif signs.palette is None and signs.format != "GIF":  # a GIF of greys may stand among GIFs of colours
            self.plain_mask = self.plain_mask or path
        if signs.values is None:
            self.colored = True
            return
        values = set(signs.values)
        if signs.no_data in values:
            values.remove(signs.no_data)
            self.void = True
        self.values |= values
        self._add_shown(path, signs, values)

    def by_palette(self) -> set[int]:
        """Return the colours of all palette masks."""
        return {code for shown in self.colors.values() for code in shown}

    def clash(self) -> str | None:
        """Return a text where two palettes give a number different colours."""
        for value, shown in sorted(self.colors.items()):
            if len(shown) > 1:
                (one, first), (other, second) = list(shown.items())[:2]
                return f"{value} is {hex_color(color_of(one))} in {first} but {hex_color(color_of(other))} in {second}"
        return None

    def colors_move(self) -> bool:
        """Return whether a colour has different numbers in different palettes, so that colours tell classes."""
        seen: set[int] = set()
        for shown in self.colors.values():
            if seen & shown.keys():
                return True
            seen |= shown.keys()
        return False

    def require_one_scale(self, name: str, classes: Sequence[MaskClass] = ()) -> None:
        """Refuse masks of which some show a number as the grey that others store: 1 of one bit, and 255.

        Args:
            name: for messages.
            classes: a class may have both numbers.

        Raises:
            RequestError: that is so, and the others do not have the number itself.
        """
        for (value, grey), path in sorted(self._shown.items()):
            together = any(c.ids and {value, grey} <= set(c.ids) for c in classes)
            if grey in self._stored and value not in self._stored and not together:
                raise RequestError(
                    f"{name}: {path} shows the value {value} as grey {grey}, and {self._stored[grey]} has the value "
                    f"{grey} itself, so one class may have two numbers; save all masks alike, as grey PNG of 8 bits"
                )

    def _add_shown(self, path: Path, stored: MaskSigns, values: set[int]) -> None:
        """Note how a mask shows its values."""
        greys: list[int | None] = [
            v * 255 // stored.white if stored.bits < 8 else v for v in range(max(values, default=0) + 1)
        ]
        if stored.palette is not None:
            self.palette = stored.palette if self.palette is None else self.palette
            greys, codes = _greys(stored.palette), color_codes(stored.palette)
            for value in sorted(v for v in values if v < len(greys)):
                self.colors[value].setdefault(int(codes[value]), path)
        elif stored.format == "GIF":
            for value in values:
                self.colors[value].setdefault(value * 0x010101, path)
        for value in sorted(v for v in values if v < len(greys)):
            grey = greys[value]
            if grey is None:
                self.colored = True
                continue
            self.seen.add(grey)
            if grey != value:
                self._shown.setdefault((value, grey), path)
            elif stored.palette is None:
                self._stored.setdefault(value, path)


def settle(
    masks: Sequence[Path],
    storages: Sequence[Storage | None],
    classes: tuple[MaskClass, ...],
    ignore_ids: Sequence[int],
    name: str,
) -> tuple[MaskClass, ...]:
    """Return the classes by which a set of masks is read, after its masks were compared with each other.

    Where palettes differ, colours tell the classes if each has one. Where the ids of the classes are the greys that a
    viewer shows, and not the numbers stored (of one bit, or indices of a grey palette), greys count. Masks are decoded
    only where their heads leave a doubt.

    Raises:
        RequestError: palettes differ, and not every class has a colour; or depths differ, and values with them.
    """
    if all(c.ids is None for c in classes) or not _in_doubt(storages):
        return classes
    signs = Signs()
    for path, found in look_at_masks(masks, ignore_ids):
        if not isinstance(found, DamagedFile):  # reading it later names it
            signs.add(path, found)
    known = {i for c in classes for i in c.ids or ()} | set(ignore_ids)
    if not signs.colored and not any(c.others for c in classes) and signs.seen <= known and not signs.values <= known:
        ids = {i for c in classes for i in c.ids or ()}
        seen = (*classes, MaskClass("ignore", tuple(i for i in ignore_ids if i in signs.seen and i not in ids)))
        return tuple(replace(c, ids=None, colors=tuple((i, i, i) for i in c.ids or () if i < 256)) for c in seen)
    clash = signs.clash()
    if clash is None:
        signs.require_one_scale(name, classes)
        return classes
    if signs.plain_mask is not None or not all(c.others or c.colors for c in classes):
        raise different_palettes(clash, name)
    return tuple(replace(c, ids=None) for c in classes)


def different_palettes(clash: str, name: str) -> RequestError:
    """Return the error about masks whose palettes differ."""
    return RequestError(
        f"{name}: the palettes of the masks differ, {clash}; give each class its color in the classes file if colours "
        "tell the classes, or save the masks as grey PNG if numbers do"
    )


def _in_doubt(storages: Sequence[Storage | None]) -> bool:
    """Return whether, by their heads, masks may show the same number differently, or numbers as other greys."""
    known = [s for s in storages if s is not None]
    colors: dict[int, Color] = {}
    for palette in {s.palette.tobytes(): s.palette for s in known if s.palette is not None}.values():
        for value, (red, green, blue) in enumerate(palette.tolist()):
            if colors.setdefault(value, (red, green, blue)) != (red, green, blue):
                return True
    return any(s.grey_differs for s in known)


def _greys(palette: Palette) -> list[int | None]:
    """Return the grey of each index, None for one that is shown in colour."""
    return [red if red == green == blue else None for red, green, blue in palette.tolist()]


# ---- heads of files ----


def _of_tiff(file: BinaryIO) -> Storage:
    tiff = tags.Tiff(file)
    page = tiff.pages[0]
    kind = tags.layout(tiff, page)
    lossy = tags.LOSSY.get(kind.compression)
    bits = max(tiff.numbers(page, tags.BITS), default=1)
    if kind.photometric == tags.PALETTE:
        colors = np.array(tiff.numbers(page, _COLOR_MAP), np.uint16).reshape(3, -1).T >> 8
        return Storage("palette", bits, colors.astype(np.uint8), lossy)
    return Storage("grey" if kind.bands < 3 else "colours", bits, None, lossy)


def _of_image(file: BinaryIO, head: bytes, path: Path) -> Storage:
    file.seek(0)
    image = open_image(file, head, path)
    bits, lossy = bits_of(image.mode, raw_mode(image)), _lossy(image, file)
    if image.mode in ("P", "PA"):
        one = Image.new("P", (1, 1))
        if image.palette is not None:
            one.putpalette(image.palette)
        palette = np.array(one.getpalette("RGB"), np.uint8).reshape(-1, 3)
        if image.format != "GIF" or not greys_only(palette):
            return Storage("palette", bits, palette, lossy)
        return Storage("grey", 8, None, lossy)
    grey = image.mode in _GREY_MODES or image.mode.startswith("I;16")
    return Storage("grey" if grey else "colours", bits, None, lossy)


def _lossy(image: Image.Image, file: BinaryIO) -> str | None:
    if image.format in ("AVIF", "HEIF"):
        return image.format
    if image.format in ("JPEG", "MPO"):
        return "JPEG"
    if image.format == "WEBP":
        return "lossy WebP" if b"VP8 " in _chunks_of_webp(file) else None
    if image.format == "JPEG2000":
        file.seek(0)
        data = file.read(_HEAD_OF_JPEG_2000)
        coding = data.find(b"\xff\x52", max(0, data.find(b"\xff\x4f\xff\x51")))
        return "lossy JPEG 2000" if data[coding + 13 : coding + 14] == b"\0" else None  # the 9-7 wavelet
    return None


def _chunks_of_webp(file: BinaryIO) -> set[bytes]:
    """Return the names of the chunks of a WebP file."""
    names: set[bytes] = set()
    at = 12
    while True:
        file.seek(at)
        head = file.read(8)
        if len(head) < 8:
            return names
        names.add(head[:4])
        size = int.from_bytes(head[4:], "little")
        at += 8 + size + size % 2
