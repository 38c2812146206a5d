"""Rasters in windows: bands, no-data, colours, damage; against rasterio itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from segadapt.data.dataset import DamagedFile
from segadapt.data.files.raster import Raster, Window, read_bands
from segadapt.errors import RequestError

rasterio = pytest.importorskip("rasterio")


def write_tiff(path: Path, bands: npt.NDArray[Any], **more: Any) -> Path:
    """Write [C, H, W] numbers as a GeoTIFF; ``colorinterp`` and ``mask`` as rasterio takes them."""
    colours, mask = more.pop("colorinterp", None), more.pop("mask", None)
    place = {"crs": "EPSG:32633", "transform": rasterio.transform.from_origin(500000.0, 5800000.0, 0.25, 0.25)}
    settings = {"driver": "GTiff", "count": len(bands), "height": bands.shape[1], "width": bands.shape[2]}
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, "w", dtype=bands.dtype, **settings, **{**place, **more}) as file:
        file.write(bands)
        if colours:
            file.colorinterp = [rasterio.enums.ColorInterp[name] for name in colours]
        if mask is not None:
            file.write_mask(mask)
    return path


def numbers(shape: tuple[int, ...], dtype: str, seed: int = 0) -> npt.NDArray[Any]:
    return np.random.default_rng(seed).integers(1, 250, shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "float32", "float64"])
@pytest.mark.parametrize("count", [1, 3, 5])
def test_windows_have_the_stored_numbers(tmp_path: Path, dtype: str, count: int) -> None:
    stored = numbers((count, 40, 56), dtype)
    path = write_tiff(tmp_path / "a #1?.tif", stored, tiled=True, blockxsize=16, blockysize=16, compress="deflate")
    with Raster(path) as raster:
        assert (raster.size, raster.bands, raster.dtype, raster.block) == ((40, 56), count, dtype, (16, 16))
        assert raster.georeferenced
        assert raster.transform.a == 0.25
        assert str(raster.crs) == "EPSG:32633"
        found = raster.read(Window(3, 5, 20, 30))
        assert found.values.dtype == dtype
        assert (found.values == stored[:, 3:23, 5:35].transpose(1, 2, 0)).all()
        assert (raster.read(bands=[count]).values[..., 0] == stored[count - 1]).all()
        assert raster.read(shape=(10, 14)).values.shape == (10, 14, count)
        with pytest.raises(RequestError, match=f"bands 1 to {count}; band 9"):
            raster.read(bands=[9])
    assert (read_bands(path).values == stored.transpose(1, 2, 0)).all()


def test_a_pixel_without_data_is_told_from_a_dark_one(tmp_path: Path) -> None:
    stored = numbers((3, 6, 6), "uint8")
    stored[:, 0, 0] = 0
    stored[1, 2, 2] = 0
    valid = read_bands(write_tiff(tmp_path / "n.tif", stored, nodata=0)).valid
    assert valid is not None
    assert np.argwhere(~valid).tolist() == [[0, 0]]
    assert read_bands(write_tiff(tmp_path / "o.tif", stored, nodata=None)).valid is None
    with rasterio.open(tmp_path / "n.tif") as file:
        assert (valid == (file.dataset_mask() > 0)).all()


def test_alpha_masks_and_nan_are_no_data(tmp_path: Path) -> None:
    stored = numbers((4, 6, 6), "uint8")
    stored[3] = 255
    stored[3, 1, 1] = 0
    tagged = ("red", "green", "blue", "alpha")
    path = write_tiff(tmp_path / "alpha.tif", stored, colorinterp=tagged, photometric="RGB", alpha="YES")
    with Raster(path) as raster:
        assert raster.colours == tagged
        assert raster.channels == (1, 2, 3)
        found = raster.read()
        assert found.values.shape == (6, 6, 3)
        assert found.valid is not None
        assert np.argwhere(~found.valid).tolist() == [[1, 1]]
        assert raster.read(bands=[1, 2, 3, 4]).valid is None  # asked for as a band, it is one

    mask = np.full((6, 6), 255, np.uint8)
    mask[2, 3] = 0
    valid = read_bands(write_tiff(tmp_path / "mask.tif", stored[:3], mask=mask)).valid
    assert valid is not None
    assert np.argwhere(~valid).tolist() == [[2, 3]]

    floats = numbers((2, 6, 6), "float32")
    floats[1, 4, 4] = np.nan
    floats[:, 5, 5] = -3.4e38
    valid = read_bands(write_tiff(tmp_path / "f.tif", floats, nodata=-3.4e38)).valid
    assert valid is not None
    assert np.argwhere(~valid).tolist() == [[4, 4], [5, 5]]


def test_a_palette_is_known(tmp_path: Path) -> None:
    path = tmp_path / "p.tif"
    with rasterio.open(path, "w", driver="GTiff", height=2, width=2, count=1, dtype="uint8") as file:
        file.write(np.array([[[0, 1], [2, 3]]], np.uint8))
        file.write_colormap(1, {1: (10, 20, 30), 2: (40, 50, 60)})
    with Raster(path) as raster:
        assert raster.colours == ("palette",)
        assert not raster.georeferenced
        assert raster.palette is not None
        assert raster.palette[1:3].tolist() == [[10, 20, 30], [40, 50, 60]]


def test_what_gdal_complains_of_is_one_line_that_names_the_file(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = write_tiff(tmp_path / "whole.tif", numbers((3, 64, 64), "uint16"), compress="deflate").read_bytes()
    damaged = {
        "cut.tif": whole[: len(whole) // 2],
        "text.tif": b"no picture at all",
        "empty.tif": b"",
        "head.png": b"\x89PNG\r\n\x1a\n" + bytes(40),
    }
    for name, content in damaged.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(DamagedFile, match=f"{name} cannot be read") as caught:
            read_bands(path)
        assert "\n" not in str(caught.value)
        assert "previous exception" not in str(caught.value)
    with pytest.raises(DamagedFile, match=r"none\.tif cannot be read"):
        Raster(tmp_path / "none.tif")
    assert capfd.readouterr() == ("", "")


def test_without_rasterio_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "rasterio", None)
    with pytest.raises(RequestError, match=r'pip install "segadapt\[geo\]"'):
        Raster(tmp_path / "any.tif")
