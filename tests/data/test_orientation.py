"""Pictures and masks lie as a viewer shows them: compared with Pillow's exif_transpose, in every format with a tag."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, features

from segadapt.data.dataset import DamagedFile
from segadapt.data.decode import decode, picture_size, read_index, read_picture
from segadapt.data.folder import open_folder
from tests.data.writing import odd_palette, picture

FORMATS: dict[str, dict[str, Any]] = {
    "a.jpg": {},
    "a.png": {},
    "a.webp": {"lossless": True},
    "a.tif": {},
    "b.tif": {"compression": "tiff_lzw"},
    "c.tif": {"compression": "jpeg"},
    **({"a.avif": {}} if features.check("avif") else {}),
}


def tagged(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def seen(image: Image.Image, orientation: int) -> np.ndarray:
    """Return what a viewer shows of an image as stored."""
    image = image.copy()
    image.getexif()[0x0112] = orientation
    return np.asarray(ImageOps.exif_transpose(image))


@settings(max_examples=40, deadline=None)
@given(
    orientation=st.integers(1, 8),
    name=st.sampled_from(sorted(FORMATS)),
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    seed=st.integers(0, 99),
)
def test_pictures_lie_as_a_viewer_shows_them(
    tmp_path_factory: pytest.TempPathFactory, orientation: int, name: str, height: int, width: int, seed: int
) -> None:
    path = tmp_path_factory.mktemp("o") / name
    Image.fromarray(picture(height, width, seed)).save(path, exif=tagged(orientation), **FORMATS[name])
    plain = path.with_name("plain_" + name)
    Image.fromarray(picture(height, width, seed)).save(plain, **FORMATS[name])
    with Image.open(plain) as image:
        truth = seen(image.convert("RGB"), orientation)
    assert np.array_equal(read_picture(path), truth)
    assert picture_size(path) == truth.shape[:2]


@settings(max_examples=40, deadline=None)
@given(orientation=st.integers(1, 8), kind=st.sampled_from(["1", "L", "P", "I;16"]), seed=st.integers(0, 99))
def test_masks_lie_as_a_viewer_shows_them(
    tmp_path_factory: pytest.TempPathFactory, orientation: int, kind: str, seed: int
) -> None:
    values = np.random.default_rng(seed).integers(0, 2 if kind == "1" else 30, (5, 9), dtype=np.uint8)
    image = {
        "1": lambda: Image.fromarray(values > 0),
        "L": lambda: Image.fromarray(values),
        "P": lambda: Image.fromarray(values),
        "I;16": lambda: Image.fromarray(values.astype(np.uint16)),
    }[kind]()
    if kind == "P":
        image.putpalette(odd_palette())
    for name in ("a.png", "a.tif", "a.webp")[: 3 if kind == "L" else 2]:
        path = tmp_path_factory.mktemp("m") / name
        image.save(path, exif=tagged(orientation), **({"lossless": True} if name == "a.webp" else {}))
        assert np.array_equal(read_index(path), seen(Image.fromarray(values), orientation))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_png_may_have_its_tag_behind_the_pixels(tmp_path: Path, orientation: int) -> None:
    path = tmp_path / "a.png"
    for array in (picture(4, 7), picture(4, 7)[..., 0]):
        Image.fromarray(array).save(path)
        body = tagged(orientation).tobytes().removeprefix(b"Exif\0\0")
        chunk = struct.pack(">I", len(body)) + b"eXIf" + body + struct.pack(">I", zlib.crc32(b"eXIf" + body))
        data = path.read_bytes()
        path.write_bytes(data[:-12] + chunk + data[-12:])
        truth = seen(Image.fromarray(array), orientation)
        assert picture_size(path) == truth.shape[:2]
        assert np.array_equal(decode(path).values, truth)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_tags_that_cannot_be_read_turn_nothing(tmp_path: Path) -> None:
    for exif in (b"Exif\0\0MM\0*\0\0\0\x08garbage", b"Exif\0\0", tagged(99).tobytes()):
        Image.fromarray(picture(4, 7)).save(tmp_path / "a.jpg", exif=exif)
        assert read_picture(tmp_path / "a.jpg").shape == (4, 7, 3)
        assert picture_size(tmp_path / "a.jpg") == (4, 7)


def test_a_mask_of_the_stored_size_is_told_why_it_does_not_fit(tmp_path: Path) -> None:
    for folder, array in (("images", picture(4, 7)), ("masks", picture(4, 7)[..., 0] % 3)):
        (tmp_path / folder).mkdir()
        Image.fromarray(array).save(tmp_path / folder / "a.png", exif=tagged(6) if folder == "images" else None)
    with pytest.raises(DamagedFile, match=r"fits a\.png as stored but not as seen: a tag turns the image to 4 x 7"):
        open_folder(tmp_path / "images", tmp_path / "masks").label(0)
