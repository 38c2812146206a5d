"""Decoding TIFF files, by their tags where these say more than Pillow hears."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from shlex import quote

from PIL import Image

from segadapt.data.dataset import DamagedFile
from segadapt.data.files import tiff as tags
from segadapt.data.files.decoded import Decoded, whole_numbers
from segadapt.data.files.formats import Unsupported, require_one, require_size
from segadapt.data.files.orientation import TAG
from segadapt.data.files.pixels import of_pillow, raw_mode, upright

_INSTALL = 'install what reads rasters: pip install "segadapt[geo]"; or '


def decode_tiff(data: bytes, path: Path, no_data: Sequence[int], picture: bool) -> Decoded:
    """Decode a TIFF file, see :func:`segadapt.data.decode.decode`.

    Args:
        data: its content.
        path: for messages.
        no_data: numbers below 0 that stand for pixels without data.
        picture: whether it is an image, and not labels, which may have more than 16 bits.
    """
    tiff = tags.Tiff(io.BytesIO(data))
    page = tiff.pages[0]
    kind = tags.layout(tiff, page)
    require_one(tiff.count(), path)
    require_size(kind.width, kind.height, path)
    if not kind.plain:
        return upright(_by_pillow(data, path, tiff, page), tiff.number(page, TAG, 1))
    if kind.bands > 4 or (picture and (kind.form != "u" or kind.bits > 16)):
        numbers = {"u": "", "i": " signed", "f": " floating point"}[kind.form]
        names = f"{quote(path.name)} {quote(path.stem + '_8bit.tif')}"
        raise Unsupported(
            f"{path} has {kind.bands} band{'s' * (kind.bands > 1)} of {kind.bits}-bit{numbers} numbers; files have 1 "
            f"to 4 bands{', images of 8 or 16 bits' if picture else ''}; {_INSTALL if picture else ''}convert it: "
            f"gdal_translate -b 1"
            f"{' -b 2 -b 3' if kind.bands > 2 else ''} -scale -ot Byte {names}"
        )
    pixels = tags.stored(data, tiff, page)
    bands = pixels[..., :3] if kind.bands > 2 else pixels[..., 0]
    declared = tiff.no_data(page)
    values, void = whole_numbers(bands, [*no_data, *([] if declared is None else [declared])], path)
    bits = kind.bits if kind.form == "u" and kind.bits <= 16 else 32
    white = 255 if bits == 8 else 65535
    inverted = kind.photometric == tags.WHITE_IS_ZERO
    return upright(Decoded(values, None, bits, "TIFF", white, inverted, void), tiff.number(page, TAG, 1))


def _by_pillow(data: bytes, path: Path, tiff: tags.Tiff, page: tags.Page) -> Decoded:
    """Decode a TIFF page of small depth, with a palette, or compressed as a picture."""
    kind = tags.layout(tiff, page)
    wrong = tags.damage_of_jpeg(data, tiff, page) if kind.compression == tags.JPEG_IN_TIFF else None
    if wrong:
        raise DamagedFile(f"{path} is cut off or damaged inside ({wrong}); fetch it again")
    image = Image.open(io.BytesIO(tiff.for_other_decoders(data)), formats=("TIFF",))
    raw = raw_mode(image)
    image.load()
    found = of_pillow(image, raw.rstrip("IR"), path)
    if kind.bits == 12 and found.values.ndim == 2:
        found = found._replace(white=4095)
    if kind.photometric == tags.WHITE_IS_ZERO and found.palette is None and found.values.ndim == 2:
        stored = (found.white - found.values).astype(found.values.dtype)  # Pillow has inverted it
        return found._replace(values=stored, inverted=True)
    return found
