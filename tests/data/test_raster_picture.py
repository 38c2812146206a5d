"""Rasters as pictures: a viewer's bands and greys, and which files need rasterio for that."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from segadapt.data.dataset import DamagedFile
from segadapt.data.decode import picture_size, read_picture
from segadapt.data.files.raster import Raster, Window
from segadapt.data.files.raster_picture import Viewer, read_raster
from segadapt.data.files.tiff_head import tiff_head
from segadapt.errors import RequestError
from tests.data.test_raster import rasterio, write_tiff


def scene(count: int = 3) -> npt.NDArray[np.uint8]:
    """Return [count, 24, 32]; every band differs, and has 0 and 255."""
    bands = np.random.default_rng(count).integers(0, 256, (count, 24, 32)).astype(np.uint8)
    bands[:, 0, 0], bands[:, 0, 1] = 0, 255
    return bands


def as_picture(bands: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.moveaxis(bands, 0, -1)


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(1, 6),
    dtype=st.sampled_from(["uint8", "uint16", "float32", "float64"]),
    interleave=st.sampled_from(["pixel", "band"]),
    place=st.booleans(),
)
def test_the_first_bands_are_the_colours(
    tmp_path_factory: pytest.TempPathFactory, count: int, dtype: str, interleave: str, place: bool
) -> None:
    """However many there are, and however they are stored."""
    bands = scene(count)
    scale = {"uint8": 1.0, "uint16": 257.0, "float32": 1 / 255, "float64": 1 / 255}[dtype]
    more: dict[str, Any] = {} if place else {"crs": None, "transform": None}
    path = tmp_path_factory.mktemp("r") / "x.tif"
    write_tiff(path, (bands * scale).astype(dtype), interleave=interleave, photometric="MINISBLACK", **more)
    found = read_picture(path)
    expected = as_picture(bands[:3] if count >= 3 else bands[[0, 0, 0]])
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - expected).max() <= (1 if dtype == "uint16" and not place and count == 1 else 0)
    assert picture_size(path) == (24, 32)


def test_tagged_colours_are_found_wherever_they_stand(tmp_path: Path) -> None:
    bands = scene(4)
    tags = ("undefined", "blue", "green", "red")
    path = write_tiff(tmp_path / "bgr.tif", bands, colorinterp=tags, photometric="MINISBLACK")
    assert (read_picture(path) == as_picture(bands[[3, 2, 1]])).all()


def test_numbers_without_a_known_range_are_stretched_alike_in_all_windows(tmp_path: Path) -> None:
    reflectance = np.random.default_rng(0).normal(1200, 300, (3, 80, 90)).clip(0, 10000)
    for dtype in ("uint16", "int16", "float32", "int32"):
        path = write_tiff(tmp_path / f"{dtype}.tif", reflectance.astype(dtype))
        with Raster(path) as raster:
            view = Viewer(raster)
            whole = view(raster).picture
            assert (view(raster, Window(10, 20, 30, 40)).picture == whole[10:40, 20:60]).all()
        assert (read_picture(path) == whole).all()
        low, high = np.percentile(whole.reshape(-1, 3), (0.2, 99.8), axis=0)
        assert low.max() <= 25
        assert high.min() >= 230
        assert 110 < whole.mean() < 145


def test_no_data_does_not_stretch(tmp_path: Path) -> None:
    bands = np.random.default_rng(0).normal(100, 10, (3, 60, 60)).astype(np.float32)
    path = write_tiff(tmp_path / "plain.tif", bands)
    holes = bands.copy()
    holes[:, :30, :10] = -9999
    holed = write_tiff(tmp_path / "holed.tif", holes, nodata=-9999)
    shown = read_raster(holed)
    assert shown.valid is not None
    assert not shown.valid[:30, :10].any()
    difference = shown.picture[shown.valid].astype(int) - read_picture(path)[shown.valid]
    assert np.abs(difference).mean() < 4


def test_palette_and_small_depths_are_shown_as_pillow_shows_them(tmp_path: Path) -> None:
    indices = np.random.default_rng(0).integers(0, 7, (1, 9, 11)).astype(np.uint8)
    path = write_tiff(tmp_path / "p.tif", indices)
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, {n: (30 * n, 255 - n, 7 * n) for n in range(7)})
    assert (read_raster(path).picture == read_picture(path)).all()
    twelve = np.linspace(0, 4095, 60).astype(np.uint16).reshape(1, 6, 10)
    path = write_tiff(tmp_path / "twelve.tif", twelve, nbits=12)
    assert (read_picture(path)[..., 0] == np.rint(twelve[0] / 4095 * 255)).all()


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16"])
def test_pictures_of_drawing_programs_need_no_rasterio(
    tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "rasterio", None)
    deep = Image.fromarray(scene(1)[0].astype(np.uint16) * 257)
    picture = deep if mode == "I;16" else Image.fromarray(as_picture(scene())).convert(mode)
    picture.save(tmp_path / "x.tif")
    head = tiff_head(tmp_path / "x.tif")
    assert head is not None
    assert head.plain
    assert read_picture(tmp_path / "x.tif").shape == (24, 32, 3)


def test_without_rasterio_a_raster_is_refused_in_a_true_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tiff(tmp_path / "five.tif", scene(5).astype(np.uint16))
    monkeypatch.setitem(__import__("sys").modules, "rasterio", None)
    with pytest.raises(RequestError, match=r'five\.tif.*5 bands of 16-bit.*pip install "segadapt\[geo\]"'):
        read_picture(path)
    assert picture_size(path) == (24, 32)


def test_heads_are_those_that_rasterio_wrote(tmp_path: Path) -> None:
    for number, more in enumerate(({}, {"BIGTIFF": "YES"}, {"ENDIANNESS": "BIG"}, {"crs": None, "transform": None})):
        path = write_tiff(tmp_path / f"{number}.tif", scene(5).astype(np.int16), **more)
        head = tiff_head(path)
        assert head is not None
        assert (head.size, head.samples, head.bits, head.kind) == ((24, 32), 5, 16, "int")
        assert head.georeferenced == ("crs" not in more)
        path.write_bytes(path.read_bytes()[:60])
        assert tiff_head(path) is None or head is not None
        with pytest.raises(DamagedFile, match=f"{number}\\.tif"):
            read_picture(path)
    (tmp_path / "loop.tif").write_bytes(struct.pack("<2sHI", b"II", 42, 999999))
    assert tiff_head(tmp_path / "loop.tif") is None
    assert tiff_head(tmp_path / "none.tif") is None
    with pytest.raises(DamagedFile, match="cannot be read"):
        read_picture(tmp_path / "none.tif")


def test_a_raster_too_large_to_hold_names_the_command_that_cuts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGADAPT_MAX_PIXELS", "100")
    with pytest.raises(DamagedFile, match=r"big\.tif has 32 x 24 pixels, .* limit is 100 pixels: .*segadapt data tile"):
        read_picture(write_tiff(tmp_path / "big.tif", scene(5)))
