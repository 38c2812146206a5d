"""Rasters as geographers have them: any number of bands of any type, with no-data, read in windows.

This module alone imports rasterio (GDAL), and only inside its functions; it comes with the extra ``geo``. GDAL reads
GeoTIFF and whatever else it knows, among that PNG and JPEG too large to decode as a whole. It never prints: a warning
of a decoder or a file cut off is a :class:`DamagedFile`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from segadapt.core.limits import over_limit
from segadapt.core.reading import require_file
from segadapt.core.types import Size
from segadapt.data.dataset import DamagedFile
from segadapt.data.files.tiff_head import tiff_head
from segadapt.errors import RequestError

GDAL_CACHE = 64 << 20
"""Bytes of decoded blocks that GDAL keeps; its own choice is a twentieth of the memory."""
ALPHA, PALETTE, UNDEFINED = "alpha", "palette", "undefined"
_COLOURS = ("red", "green", "blue", ALPHA, "gray", PALETTE)
_R = TypeVar("_R")


class Window(NamedTuple):
    """A rectangle of pixels inside a raster: rows ``top .. top + height``, columns ``left .. left + width``."""

    top: int
    left: int
    height: int
    width: int


class Bands(NamedTuple):
    """A part of a raster as it is stored.

    Attributes:
        values: [H, W, C], in the type of the file, e.g. uint8, uint16, int16 or float32.
        valid: [H, W] bool, False where nothing was measured; None if the file knows no such pixels.
    """

    values: npt.NDArray[Any]
    valid: npt.NDArray[np.bool_] | None


class Raster:
    """One open file, read in windows; a context manager.

    A pixel has no data where all bands that are read have the no-data number of the file, where one of them is not a
    number, where the alpha band is 0, or where the mask that the file brings is 0.

    Args:
        path: any file that GDAL reads.

    Attributes:
        size: (height, width) in pixels.
        bands: number of bands, alpha included.
        bits: of the numbers; fewer than their type has where the file says so, e.g. 12 in uint16.
        dtype: type of the numbers; bands of several types are read in the one that holds them all.
        colours: of each band ``red``, ``green``, ``blue``, ``alpha``, ``gray``, ``palette`` or ``undefined``. GDAL
            itself names the fourth of four 8-bit bands ``alpha`` unless its writer was told otherwise.
        nodata: the number that stands for no data, or None.
        crs, transform: place on Earth, as rasterio has them; ``crs`` may be None.
        block: (height, width) of the blocks in which the file is compressed.

    Raises:
        RequestError: rasterio is not installed.
        DamagedFile: the file cannot be opened; names it. Reading raises the same.

    Example:
        >>> with Raster(Path("ortho.tif")) as raster:  # doctest: +SKIP
        ...     corner = raster.read(Window(0, 0, 256, 256))
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        rasterio = import_rasterio(path)
        try:
            require_file(path)
        except OSError as problem:
            raise DamagedFile(f"{path} cannot be read: {problem.strerror or problem}") from None
        self._file = self._guarded(lambda: rasterio.open(path.resolve()))
        if not self._file.count:
            self.close()
            raise DamagedFile(f"{path} holds several rasters or none; save the one to use as a GeoTIFF")
        self.size: Size = (self._file.height, self._file.width)
        self.bands: int = self._file.count
        self.dtype: np.dtype[Any] = np.result_type(*self._file.dtypes)
        self.colours: tuple[str, ...] = tuple(
            one.name if one.name in _COLOURS else UNDEFINED for one in self._file.colorinterp
        )
        self.bits = int(self._file.tags(1, ns="IMAGE_STRUCTURE").get("NBITS", 8 * self.dtype.itemsize))
        self.nodata: float | None = next((n for n in self._file.nodatavals if n is not None), None)
        self.crs: Any = self._file.crs
        self.transform: Any = self._file.transform
        self.block: Size = self._file.block_shapes[0]

    def __enter__(self) -> Raster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def require_whole(self) -> None:
        """Refuse to read all of it at once where it has too many pixels, see :mod:`segadapt.core.limits`."""
        if (line := over_limit(self.size[1], self.size[0], self.path)) is not None:
            raise DamagedFile(line)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def georeferenced(self) -> bool:
        """Whether the file says where on Earth it lies, or how large its pixels are."""
        return self.crs is not None or not self.transform.is_identity

    @property
    def channels(self) -> tuple[int, ...]:
        """Numbers, from 1, of the bands that are not alpha."""
        return tuple(n for n, colour in enumerate(self.colours, 1) if colour != ALPHA)

    @property
    def masked(self) -> bool:
        """Whether the file brings a mask of what is data, beside its bands."""
        from rasterio.enums import MaskFlags

        return ALPHA not in self.colours and MaskFlags.per_dataset in self._file.mask_flag_enums[0]

    @property
    def palette(self) -> npt.NDArray[np.uint8] | None:
        """Colours [256, 3] of the values of a palette file, else None."""
        if self.colours[0] != PALETTE:
            return None
        table = np.zeros((256, 3), np.uint8)
        for index, colour in self._guarded(lambda: self._file.colormap(1)).items():
            if index < len(table):
                table[index] = colour[:3]
        return table

    def read(
        self, window: Window | None = None, bands: Sequence[int] | None = None, shape: Size | None = None
    ) -> Bands:
        """Read a window.

        Args:
            window: the part to read, inside the raster; None reads all of it.
            bands: numbers of the bands, from 1, in the order wanted; None reads all but alpha.
            shape: (height, width) of the result; smaller than the window, every n-th pixel is read (files with
                overviews answer from them). None keeps the pixels.
        """
        from rasterio.windows import Window as Rectangle

        wanted = [*(self.channels if bands is None else bands)]
        wrong = [band for band in wanted if not 1 <= band <= self.bands]
        if wrong or not wanted:
            raise RequestError(
                f"{self.path} has the bands 1 to {self.bands}; band {wrong[0] if wrong else '?'} is none"
            )
        place = None if window is None else Rectangle(window.left, window.top, window.width, window.height)
        how = {"window": place, "out_shape": shape}
        shaped = {**how, "out_shape": None if shape is None else (len(wanted), *shape)}
        values = self._guarded(lambda: self._file.read(wanted, out_dtype=self.dtype, **shaped))
        return Bands(np.moveaxis(values, 0, -1), self._valid(values, wanted, how))

    def _valid(
        self, values: npt.NDArray[Any], wanted: Sequence[int], how: dict[str, Any]
    ) -> npt.NDArray[np.bool_] | None:
        """Return where the values [C, H, W] of some bands are data."""
        parts: list[npt.NDArray[np.bool_]] = []
        if ALPHA in self.colours:
            alpha = self.colours.index(ALPHA) + 1
            if alpha not in wanted:
                parts.append(self._guarded(lambda: self._file.read(alpha, **how)) > 0)
        elif self.masked:
            parts.append(self._guarded(lambda: self._file.read_masks(wanted[0], **how)) > 0)
        nothing = self._nothing()
        if nothing is not None:
            parts.append((values != nothing).any(0))
        if self.dtype.kind == "f":
            parts.append(~np.isnan(values).any(0))
        return np.logical_and.reduce(parts) if parts else None

    def _nothing(self) -> Any:
        """Return the no-data number in the type of the file; None where there is none that its pixels could have."""
        if self.nodata is None or np.isnan(self.nodata):
            return None
        if self.dtype.kind != "f" and not _holds(self.dtype, self.nodata):
            return None  # e.g. -9999 in a file of bytes
        return np.asarray(self.nodata).astype(self.dtype)

    def _guarded(self, work: Callable[[], _R]) -> _R:
        """Return the result of ``work`` on the file; whatever GDAL complains of becomes a DamagedFile."""
        try:
            with gdal_environment():
                return work()
        except MemoryError:
            raise
        # GDAL's errors are of many classes, and not all of them derive from RasterioError.
        except Exception as problem:
            raise DamagedFile(
                f"{self.path} cannot be read: it is cut off, damaged or of a kind that GDAL does not know "
                f"({first_cause(problem)})"
            ) from None


def read_bands(path: Path, bands: Sequence[int] | None = None, shape: Size | None = None) -> Bands:
    """Read a whole file, or every n-th pixel of it; see :meth:`Raster.read`."""
    with Raster(path) as raster:
        if shape is None:
            raster.require_whole()
        return raster.read(None, bands, shape)


def import_rasterio(path: Path | None = None) -> Any:
    """Return the module rasterio; where it is missing, RequestError with what to install, and the kind of the file."""
    try:
        import rasterio
    except ImportError:
        head = tiff_head(path) if path is not None else None
        raise RequestError(
            f"{path or 'this file'} is a raster{f' of {head}' if head else ''}, read by rasterio; install that with: "
            'pip install "segadapt[geo]"'
        ) from None
    return rasterio


def gdal_environment() -> Any:
    """Return a context in which GDAL keeps to its memory, writes no file beside ours, and complains by exceptions."""
    rasterio = import_rasterio()
    from rasterio.errors import NotGeoreferencedWarning

    # No catch_warnings: it is not safe among threads, and a raster without a place on Earth is nothing to warn of.
    warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)
    return rasterio.Env(
        GDAL_CACHEMAX=GDAL_CACHE,
        GDAL_PAM_ENABLED=False,
        GDAL_ERROR_ON_LIBJPEG_WARNING=True,
        GDAL_TIFF_INTERNAL_MASK=True,
    )


def has_rasterio() -> bool:
    """Return whether rasterio can be imported."""
    try:
        import_rasterio()
    except RequestError:
        return False
    return True


def _holds(dtype: np.dtype[Any], number: float) -> bool:
    """Return whether a type of whole numbers has this one."""
    return bool(number == np.floor(number) and np.iinfo(dtype).min <= number <= np.iinfo(dtype).max)


def first_cause(problem: BaseException) -> str:
    """Return on one line what GDAL said first; rasterio's own error often only points to it."""
    cause = problem
    while cause.__cause__ is not None:
        cause = cause.__cause__
    return " ".join(str(cause).split()) or type(cause).__name__
