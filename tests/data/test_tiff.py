"""TIFF files: numbers as stored in every layout, what tags say, pages, and damage."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from segadapt.data.dataset import DamagedFile
from segadapt.data.decode import decode, picture_size, read_picture
from segadapt.data.files.formats import Unsupported
from tests.data.writing import odd_palette, picture, tiff, tiff_page

INDICES = (np.arange(48) % 3).astype(np.uint8).reshape(6, 8)


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_numbers_are_those_stored_in_every_layout(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    kind = np.dtype(data.draw(st.sampled_from(["u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8"])))
    bands = data.draw(st.integers(1, 4))
    height, width = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    order = data.draw(st.sampled_from("<>"))
    seed = data.draw(st.integers(0, 99))
    array = np.random.default_rng(seed).integers(0, 120, (height, width, bands)).astype(kind)
    layout = {
        "planes": data.draw(st.booleans()),
        "deflate": data.draw(st.booleans()),
        "predictor": data.draw(st.sampled_from([1, 2])),
        "tile": data.draw(st.sampled_from([0, 16])),
        "rows": data.draw(st.integers(1, 40)),
    }
    photometric = data.draw(st.sampled_from([0, 1] if bands < 3 else [1, 2]))
    page = tiff_page(array, photometric, order=order, **layout)
    path = written(tmp_path_factory.mktemp("t") / "a.tif", tiff(page, order=order))
    stored = decode(path)
    assert np.array_equal(stored.values, array[..., 0] if bands < 3 else array[..., :3])
    assert stored.inverted == (photometric == 0)
    assert picture_size(path) == (height, width)


@pytest.mark.parametrize("kind", ["u1", "u2"])
def test_white_is_zero_is_stored_in_masks_and_shown_in_images(tmp_path: Path, kind: str) -> None:
    scale = 257 if kind == "u2" else 1
    path = written(tmp_path / "a.tif", tiff(tiff_page(INDICES.astype(kind) * scale, 0)))
    assert np.array_equal(decode(path).values, INDICES.astype(kind) * scale)
    assert np.array_equal(read_picture(path)[..., 1], 255 - INDICES)


@pytest.mark.parametrize("bits", [1, 4])
def test_white_is_zero_of_small_depth(tmp_path: Path, bits: int) -> None:
    values = (np.arange(64) % (1 << bits)).astype(np.uint8).reshape(8, 8)
    packed = np.packbits(np.unpackbits(values[..., None], axis=2)[..., 8 - bits :].reshape(8, -1), axis=1)
    tags, _ = tiff_page(values, 0)
    path = written(tmp_path / "a.tif", tiff(({**tags, 258: ("H", [bits]), 279: ("I", [8 * bits])}, [packed.tobytes()])))
    assert np.array_equal(decode(path).values, values)
    shown = np.asarray(Image.open(path).convert("L"))
    assert np.array_equal(read_picture(path)[..., 0], shown)


@pytest.mark.parametrize("bands", [3, 4])
@pytest.mark.parametrize("photometric", [1, 2])
@pytest.mark.parametrize("planes", [False, True])
def test_bands_are_red_green_and_blue_in_both_depths(
    tmp_path: Path, bands: int, photometric: int, planes: bool
) -> None:
    shown = np.dstack([picture(), INDICES])[..., :bands]
    for array in (shown, shown.astype(np.uint16) * 257):
        path = written(tmp_path / "a.tif", tiff(tiff_page(array, photometric, planes=planes)))
        assert np.array_equal(read_picture(path), shown[..., :3])


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((4, 5, 5), np.uint8), "5 bands of 8-bit numbers"),
        (np.zeros((4, 5, 3), np.float32), "3 bands of 32-bit floating point numbers"),
        (np.zeros((4, 5), np.int16), "1 band of 16-bit signed numbers"),
    ],
)
def test_bands_that_are_no_picture_say_how_to_convert_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, array: np.ndarray, said: str
) -> None:
    monkeypatch.setitem(sys.modules, "rasterio", None)
    path = written(tmp_path / "a b.tif", tiff(tiff_page(array)))
    with pytest.raises(Unsupported, match=rf"{said}.*segadapt\[geo\].*gdal_translate -b 1.*'a b.tif'") as error:
        read_picture(path)
    assert "fetch it again" not in str(error.value)


def test_the_number_for_no_data_is_told_apart(tmp_path: Path) -> None:
    for kind, number in (("i2", -9999), ("i4", -1), ("f4", -3.4028234663852886e38), ("u1", 255), ("u2", 65535)):
        array = INDICES.astype(kind)
        array[0, :4] = number
        named = {42113: ("s", f"{number}\0".encode())}
        stored = decode(written(tmp_path / "a.tif", tiff(tiff_page(array, more=named))))
        assert stored.no_data is not None
        assert np.array_equal(stored.values == stored.no_data, np.isclose(array, number))
        assert np.array_equal(stored.values[1:], INDICES[1:])
    array = INDICES.astype("f4")
    array[0, 0] = np.nan
    assert decode(written(tmp_path / "a.tif", tiff(tiff_page(array)))).no_data is not None


@pytest.mark.parametrize(("kind", "number"), [("i2", -1), ("i4", 70000), ("f4", 0.5), ("i1", -1)])
def test_numbers_that_are_no_ids_are_named(tmp_path: Path, kind: str, number: float) -> None:
    array = INDICES.astype(kind)
    array[2, 2:5] = number
    path = written(tmp_path / "a.tif", tiff(tiff_page(array)))
    with pytest.raises(DamagedFile, match=rf"numbers such as {number:g} \(3 pixels\)"):
        decode(path)
    if number == -1:
        assert (decode(path, [-1]).values == decode(path, [-1]).no_data).sum() == 3


def test_pages_are_counted_and_refused(tmp_path: Path) -> None:
    pages = [Image.fromarray(INDICES)] * 5
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    stack = {270: ("s", b"ImageJ=1.53\nimages=7\nslices=7\n\0")}
    written(tmp_path / "imagej.tif", tiff(tiff_page(INDICES, more=stack)))
    for name, count in (("stack.tif", 5), ("imagej.tif", 7)):
        for read in (decode, read_picture):
            with pytest.raises(Unsupported, match=rf"{name} has {count} pages.*split it: magick {name}"):
                read(tmp_path / name)


@pytest.mark.parametrize("more", [{254: ("I", [1])}, {254: ("I", [4])}, {254: ("I", [5])}, {255: ("H", [2])}])
def test_overviews_and_masks_of_pages_are_no_pages(tmp_path: Path, more: dict[int, tuple[str, list[int]]]) -> None:
    small = tiff_page(INDICES[::2, ::2], more=more)
    path = written(tmp_path / "a.tif", tiff(tiff_page(INDICES), small))
    assert np.array_equal(decode(path).values, INDICES)
    path = written(tmp_path / "b.tif", tiff(small, tiff_page(INDICES)))  # cameras write the thumbnail first
    assert np.array_equal(decode(path).values, INDICES)
    assert picture_size(path) == INDICES.shape
    tags, _ = tiff_page(INDICES % 2, 0)
    packed = np.packbits(INDICES % 2, axis=1).tobytes()
    path = written(tmp_path / "c.tif", tiff(small, ({**tags, 258: ("H", [1]), 279: ("I", [6])}, [packed])))
    assert np.array_equal(decode(path).values, INDICES % 2)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"])
def test_damage_is_found_in_every_compression_with_a_check(tmp_path: Path, compression: str) -> None:
    out = io.BytesIO()
    Image.fromarray(picture(40, 60)).save(out, "TIFF", compression=compression)
    data = out.getvalue()
    read_picture(written(tmp_path / "a.tif", data))
    with pytest.raises(DamagedFile):
        read_picture(written(tmp_path / "a.tif", data[: int(0.9 * len(data))]))
    if compression not in ("raw", "packbits"):  # which have no check
        middle = len(data) // 2
        with pytest.raises(DamagedFile):
            read_picture(written(tmp_path / "a.tif", data[:middle] + bytes(300) + data[middle + 300 :]))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palettes_keep_their_numbers(tmp_path: Path, bits: int) -> None:
    values = INDICES & np.uint8((1 << bits) - 1)
    image = Image.fromarray(values)
    image.putpalette(odd_palette()[: 3 * (1 << bits)])
    for name in ("a.bmp", "a.gif", *(["a.tif"] if bits == 8 else [])):
        image.save(tmp_path / name)
        assert np.array_equal(decode(tmp_path / name).values, values)
        assert np.array_equal(read_picture(tmp_path / name), np.asarray(image.convert("RGB")))
