"""Which kinds of files are read as images and masks, and what to do with those that are not."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterable
from pathlib import Path
from shlex import quote
from typing import BinaryIO

from PIL import Image

from segadapt.core.limits import over_limit
from segadapt.data.dataset import DamagedFile

_ALWAYS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".gif"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".jpf"),
)
_HEIF = (".heic", ".heif", ".hif")


def _present(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:
        return False


IMAGE_SUFFIXES = (
    *_ALWAYS,
    *((".avif",) if _present("PIL._avif") else ()),
    *(_HEIF if _present("pillow_heif") else ()),
)
"""Endings of the files that are read as images and masks, in lower case; upper case is the same."""

_FORMATS = ("AVIF", "BMP", "DIB", "GIF", "HEIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
HEAD = 512
"""Bytes at the start of a file by which kinds are told apart."""


def _python(code: str) -> str:
    """Return the command that runs a line of Python; a file's name in it stays text to the shell and to Python."""
    return f"python -c {quote(code)}"


def _volume(path: Path) -> str:
    code = (
        f"import SimpleITK as s; i = s.Cast(s.RescaleIntensity(s.ReadImage({json.dumps(path.name)})), s.sitkUInt8); "
        f's.WriteImage(i, [{json.dumps(path.name.split(".")[0])} + "_%04d.png" % k for k in range(i.GetDepth())])'
    )
    return f"{_python(code)} (without RescaleIntensity for masks)"


def _numpy(path: Path) -> str:
    return _array(path, f"import numpy; a = numpy.load({json.dumps(path.name)})")


def _matlab(path: Path) -> str:
    return _array(path, f'import scipy.io; a = scipy.io.loadmat({json.dumps(path.name)})["NAME"]')


def _array(path: Path, reading: str) -> str:
    picture = json.dumps(f"{path.stem}.png")
    return _python(f"from PIL import Image; {reading}; Image.fromarray(a).save({picture})")


def _gdal(path: Path) -> str:
    return f"gdal_translate {quote(path.name)} {quote(path.stem + '.tif')} (gdalinfo lists the parts of the file)"


def _slide(path: Path) -> str:
    return f"vips dzsave {quote(path.name)} {quote(path.stem)} --depth one --tile-size 2048 --overlap 0 --suffix .png"


def _frames(path: Path) -> str:
    return f"ffmpeg -i {quote(path.name)} {quote(path.stem + '_%06d.png')}"


def _picture(path: Path) -> str:
    return f"magick {quote(path.name)} {quote(path.stem + '.png')}"


def _raw(path: Path) -> str:
    return f"darktable-cli {quote(path.name)} {quote(path.stem + '.png')}"


def _with_heif(path: Path) -> str:
    return 'pip install "segadapt[heif]" reads it, or ' + _picture(path)


_OTHER_KINDS = (
    ("a DICOM file", _volume, (".dcm", ".dicom")),
    ("a NIfTI volume", _volume, (".nii", ".nii.gz")),
    ("a medical volume", _volume, (".mha", ".mhd", ".nrrd", ".nhdr", ".mgz")),
    ("a NumPy array", _numpy, (".npy", ".npz")),
    ("a MATLAB file", _matlab, (".mat",)),
    ("an HDF or NetCDF file", _gdal, (".h5", ".hdf5", ".hdf", ".nc")),
    ("a raster of a GIS", _gdal, (".img", ".ecw", ".sid", ".vrt", ".asc", ".grd")),
    ("a slide of a microscope", _slide, (".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".czi")),
    ("a video", _frames, (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")),
    ("a raw photograph", _raw, (".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf")),
    ("a kind of picture that is not read", _picture, (".tga", ".psd", ".xcf", ".exr", ".hdr", ".jxl", ".pcx", ".ico")),
    ("a kind of picture that is not read", _picture, (".svg", ".pdf", ".eps", ".ps", ".ras", ".sgi", ".dds", ".avif")),
    ("a HEIF picture", _with_heif, _HEIF),
)
"""Kinds that are not read: the name of each, how it is converted, and its endings."""


class Unsupported(DamagedFile):
    """A whole file of a kind that is not read; the message says how to convert it."""


def not_read(path: Path) -> str | None:
    """Return what a file is by its name and how to convert it; None for files that are read and unknown ones.

    For example ``a NIfTI volume; convert it to PNG or TIFF: python -c ...``. Reads nothing.
    """
    name = path.name.lower()
    if name.endswith(IMAGE_SUFFIXES):
        return None
    for what, convert, endings in _OTHER_KINDS:
        if name.endswith(endings):
            return f"{what}; convert it to PNG or TIFF: {convert(path)}"
    return None


def first_not_read(paths: Iterable[Path]) -> str:
    """Return what to add to the message that there are no images: the first file of another kind; else nothing."""
    return next((f"; {path.name} is {kind}" for path in paths if (kind := not_read(path))), "")


def other_kind(head: bytes, path: Path) -> str | None:
    """Name the kind of a file by its first :data:`HEAD` bytes, and say what to do with it; None for unknown kinds."""
    kinds = (
        (head[128:132] == b"DICM", "a DICOM file", _volume),
        (head[344:347] in (b"n+1", b"ni1") or head[4:7] == b"n+2", "a NIfTI volume", _volume),
        (head.startswith(b"NRRD000"), "a medical volume", _volume),
        (head.startswith(b"\x93NUMPY"), "a NumPy array", _numpy),
        (head.startswith(b"MATLAB"), "a MATLAB file", _matlab),
        (head.startswith((b"\x89HDF", b"CDF\x01", b"CDF\x02")), "an HDF or NetCDF file", _gdal),
        (head[4:12] in (b"ftypisom", b"ftypmp42", b"ftypqt  ") or head[8:12] == b"AVI ", "a video", _frames),
        (head.startswith((b"%PDF", b"8BPS", b"\x76\x2f\x31\x01", b"\xff\x0a")), "no picture that is read", _picture),
    )
    for found, what, convert in kinds:
        if found:
            return f"is {what}; convert it to PNG or TIFF: {convert(path)}"
    start = head.lstrip()[:40].lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "is a web page, not an image; fetch it again"
    if start.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS, not the image; run git lfs pull"
    return None


def open_image(file: BinaryIO, head: bytes, path: Path) -> Image.Image:
    """Open an image of a known kind with Pillow, which reads its header.

    Raises:
        Unsupported: another kind of file, or one that needs a library which is not there.
        Exception: whatever Pillow raises.
    """
    if _is_heif(head):
        _register_heif(path)
    elif head[4:8] == b"ftyp" and _brand(head, b"avif", b"avis") and not _present("PIL._avif"):
        raise Unsupported(f"{path} is an AVIF picture; pip install 'pillow>=11.3' reads it, or {_picture(path)}")
    known = [name for name in _FORMATS if name != "HEIF" or _is_heif(head)]
    return Image.open(file, formats=known)


def looks_like_an_image(head: bytes) -> bool:
    """Return whether a file begins as one of the known kinds does."""
    Image.init()
    tests = [Image.OPEN[name][1] for name in _FORMATS if name in Image.OPEN]
    return any(accept is not None and accept(head[:16].ljust(16, b"\0")) is True for accept in tests)


def _brand(head: bytes, *brands: bytes) -> bool:
    size = int.from_bytes(head[:4], "big")
    listed = head[8:12] + head[16 : min(size, len(head))]
    return any(listed[i : i + 4] in brands for i in range(0, len(listed), 4))


def _is_heif(head: bytes) -> bool:
    return (
        head[4:8] == b"ftyp"
        and not _brand(head, b"avif", b"avis")
        and _brand(head, b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
    )


def _register_heif(path: Path) -> None:
    try:
        import pillow_heif
    except ImportError:
        raise Unsupported(f"{path} is a HEIF picture; {_with_heif(path)}") from None
    pillow_heif.register_heif_opener()


def require_size(width: int, height: int, path: Path) -> None:
    """Refuse a file of more pixels than are decoded as a whole, see :mod:`segadapt.core.limits`."""
    if (line := over_limit(width, height, path)) is not None:
        raise Unsupported(line)


def require_one(pages: int, path: Path, frames: bool = False) -> None:
    """Refuse a file of several pages or frames."""
    if pages > 1:
        what = "frames, it is an animation" if frames else "pages"
        parts = quote(f"{path.stem}_%04d.png")
        raise Unsupported(
            f"{path} has {pages} {what}, and only single pictures are read; split it: "
            f"magick {quote(path.name)}{' -coalesce' if frames else ''} {parts}, or take it out"
        )
