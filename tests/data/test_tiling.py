"""Cutting images and masks into tiles that fit one another, at their places."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from segadapt.cli import app
from segadapt.data.files.raster import Raster, Window, read_bands
from segadapt.data.folder import open_folder
from segadapt.data.tiling import cut_into_tiles, starts
from segadapt.errors import RequestError
from tests.data.test_raster import numbers, rasterio, write_tiff


@given(st.integers(1, 5000), st.integers(1, 2000), st.floats(0, 0.99))
def test_tiles_cover_a_side(length: int, tile: int, overlap: float) -> None:
    found = starts(length, tile, overlap)
    assert found[0] == 0
    assert found[-1] + min(tile, length) == length
    assert all(0 < b - a <= max(1, tile * (1 - overlap) + 0.5) for a, b in pairwise(found))


@pytest.mark.parametrize("blocks", [{}, {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"}])
def test_tiles_are_parts_of_the_image_and_its_mask(tmp_path: Path, blocks: dict[str, object]) -> None:
    """Four bands of 16 bits with a corner of no data; the mask is a palette PNG."""
    stored = numbers((4, 90, 70), "uint16")
    stored[:, :40, :32] = 0
    path = write_tiff(tmp_path / "in" / "sub" / "a.tif", stored, nodata=0, photometric="MINISBLACK", **blocks)
    mask = Image.fromarray((np.arange(90 * 70) % 3).reshape(90, 70).astype(np.uint8))
    mask.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    (tmp_path / "masks" / "sub").mkdir(parents=True)
    mask.save(tmp_path / "masks" / "sub" / "a.png")
    made = cut_into_tiles(tmp_path / "in", tmp_path / "masks", tmp_path / "out", 32)
    assert (made.images, made.tiles, made.empty) == (1, 8, 1)
    with Raster(path) as whole:
        for file in (tmp_path / "out" / "images").rglob("*.tif"):
            top, left = map(int, file.stem.split("_")[1:])
            with Raster(file) as tile:
                assert (tile.nodata, tile.crs, tile.dtype, tile.colours) == (0, whole.crs, whole.dtype, whole.colours)
                assert tile.transform @ (0, 0) == whole.transform @ (left, top)
                assert (tile.read().values == whole.read(Window(top, left, 32, 32)).values).all()
            label = tmp_path / "out" / "labels" / file.relative_to(tmp_path / "out" / "images")
            assert (read_bands(label).values[..., 0] == np.asarray(mask)[top : top + 32, left : left + 32]).all()
            with Raster(label) as tile:
                assert tile.palette is not None
                assert tile.palette[2].tolist() == [0, 255, 0]
    dataset = open_folder(tmp_path / "out" / "images", tmp_path / "out" / "labels", None, (255,))
    assert len(dataset) == 8
    assert dataset.image(0).shape[:2] == dataset.label(0).shape == (32, 32)


def test_alpha_and_masks_go_along(tmp_path: Path) -> None:
    stored = numbers((4, 40, 40), "uint8")
    stored[3] = 255
    stored[3, :, :3] = 0
    tagged = ("red", "green", "blue", "alpha")
    path = write_tiff(tmp_path / "alpha.tif", stored, colorinterp=tagged, photometric="RGB", alpha="YES")
    cut_into_tiles(path, None, tmp_path / "out", 32)
    with Raster(tmp_path / "out" / "images" / "alpha_00_00.tif") as tile:
        assert tile.colours == tagged
        valid = tile.read().valid
        assert valid is not None
        assert (valid == (stored[3, :32, :32] > 0)).all()
    mask = np.full((40, 40), 255, np.uint8)
    mask[:, :5] = 0
    path = write_tiff(tmp_path / "masked.tif", stored[:3], mask=mask)
    cut_into_tiles(path, None, tmp_path / "out", 32)
    valid = read_bands(tmp_path / "out" / "images" / "masked_00_00.tif").valid
    assert valid is not None
    assert (valid == (mask[:32, :32] > 0)).all()


def test_what_cannot_be_cut_is_said(tmp_path: Path) -> None:
    image = write_tiff(tmp_path / "a.tif", numbers((3, 40, 40), "uint8"))
    mask = write_tiff(tmp_path / "m.tif", numbers((1, 40, 41), "uint8"))
    with pytest.raises(RequestError, match=r"a\.tif is 40x40 and its mask .*m\.tif is 41x40"):
        cut_into_tiles(image, mask, tmp_path / "out", 32)
    with pytest.raises(RequestError, match="its mask has to be one file"):
        cut_into_tiles(image, tmp_path, tmp_path / "out", 32)
    cut_into_tiles(image, None, tmp_path / "out", 32)
    with pytest.raises(RequestError, match=r"a_00_00\.tif' exists; .*--overwrite"):
        cut_into_tiles(image, None, tmp_path / "out", 32)
    assert cut_into_tiles(image, None, tmp_path / "out", 32, overwrite=True).tiles == 4
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(numbers((40, 50, 3), "uint8")).save(tmp_path / "phone.jpg", exif=exif)
    with pytest.raises(RequestError, match=r"phone\.jpg .* orientation tag; save it upright"):
        cut_into_tiles(tmp_path / "phone.jpg", None, tmp_path / "out", 32)


def test_the_command_counts_what_it_left_out(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    stored = numbers((3, 64, 64), "uint8")
    stored[:, :32, :32] = 0
    path = write_tiff(tmp_path / "a.tif", stored, nodata=0)
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["data", "tile", str(path), "--out", str(out), "--tile", "32"])
    assert result.exit_code == 0
    assert " ".join(result.stdout.split()) == f"3 tiles of 1 image; 1 without data left out -> {out}"
    with rasterio.open(out / "images" / "a_32_32.tif") as file:
        assert file.crs is not None
