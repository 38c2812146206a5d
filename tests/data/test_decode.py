"""Decoding: palettes, depths, orientation, and files that are not whole."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segadapt.data.dataset import DamagedFile
from segadapt.data.decode import (
    UnknownLabel,
    as_indices,
    decode,
    picture_size,
    read_first_channel,
    read_index,
    read_picture,
)
from segadapt.data.masks.labelling import label_colors
from tests.data.writing import odd_palette, picture, save, save_16bit_rgb

INDICES = np.arange(48, dtype=np.uint8).reshape(6, 8)


def one_line(error: pytest.ExceptionInfo[BaseException]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


def test_rgb_order_is_kept(tmp_path: Path) -> None:
    array = picture()
    assert np.array_equal(read_picture(save(tmp_path / "a.png", array)), array)


def test_grey_is_repeated_and_alpha_dropped(tmp_path: Path) -> None:
    grey = read_picture(save(tmp_path / "grey.png", INDICES))
    assert np.array_equal(grey, np.repeat(INDICES[..., None], 3, axis=2))
    rgba = np.dstack([picture(), np.full((6, 8), 7, np.uint8)])
    assert np.array_equal(read_picture(save(tmp_path / "rgba.png", rgba)), picture())


def test_sixteen_bit_pictures_keep_their_high_byte(tmp_path: Path) -> None:
    path = save_16bit_rgb(tmp_path / "deep.png", picture().astype(np.uint16) * 257)
    assert np.array_equal(read_picture(path), picture())


@pytest.mark.parametrize(
    "name", ["a.png", "a.jpg", "a.bmp", "a.tif", "a.webp", "a.gif", "a.ppm", "a.jp2", "a.dib", "a.jfif"]
)
def test_size_from_header(tmp_path: Path, name: str) -> None:
    assert picture_size(save(tmp_path / name, picture(13, 29))) == (13, 29)


def test_palette_files_give_indices_not_colours(tmp_path: Path) -> None:
    path = save(tmp_path / "p.png", INDICES, odd_palette())
    assert np.array_equal(read_index(path), INDICES)
    stored = decode(path)
    assert stored.palette is not None
    assert stored.palette[3].tolist() == odd_palette()[9:12]


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_small_depths_are_not_stretched(tmp_path: Path, bits: int) -> None:
    values = (np.arange(70, dtype=np.uint8).reshape(7, 10)) % (1 << bits)
    image = Image.fromarray(values)
    image.putpalette(odd_palette()[: 3 * (1 << bits)])
    image.save(tmp_path / "p.png", bits=bits)
    assert (tmp_path / "p.png").read_bytes()[24] == bits
    assert np.array_equal(read_index(tmp_path / "p.png"), values)


def test_one_bit_grey_gives_zero_and_one(tmp_path: Path) -> None:
    mask = INDICES % 2 == 1
    Image.fromarray(mask).save(tmp_path / "m.png")
    assert (tmp_path / "m.png").read_bytes()[24] == 1
    assert np.array_equal(read_index(tmp_path / "m.png"), mask.astype(np.uint8))


def test_grey_saved_as_rgb_is_an_index_map_and_colours_are_not(tmp_path: Path) -> None:
    assert np.array_equal(read_index(save(tmp_path / "g.png", np.repeat(INDICES[..., None], 3, axis=2))), INDICES)
    assert as_indices(picture()) is None
    with pytest.raises(UnknownLabel, match="colour picture") as error:
        read_index(save(tmp_path / "c.png", picture()))
    assert "c.png" in one_line(error)


def test_sixteen_bit_index_maps(tmp_path: Path) -> None:
    Image.fromarray(INDICES.astype(np.uint16)).save(tmp_path / "low.png")
    assert np.array_equal(read_index(tmp_path / "low.png"), INDICES)
    Image.fromarray(INDICES.astype(np.uint16) + 1000).save(tmp_path / "high.png")
    assert decode(tmp_path / "high.png").values.max() == 1047
    with pytest.raises(UnknownLabel, match="1047"):
        read_index(tmp_path / "high.png")


def test_synthia_class_is_in_the_first_channel_of_sixteen_bits(tmp_path: Path) -> None:
    array = np.zeros((4, 5, 3), np.uint16)
    array[..., 0] = np.arange(20).reshape(4, 5)
    array[..., 1] = 300 + np.arange(20).reshape(4, 5) * 40  # instances above one byte
    path = save_16bit_rgb(tmp_path / "s.png", array)
    assert np.array_equal(read_first_channel(path), array[..., 0])
    # the reading that loses the classes, for contrast: one byte of each channel
    assert not np.array_equal(read_picture(path)[..., 0], array[..., 0])


def test_colours_are_matched_exactly(tmp_path: Path) -> None:
    colors = {(1, 2, 3): 0, (3, 2, 1): 1, (0, 0, 0): 255}
    mask = np.array([[(1, 2, 3), (3, 2, 1)], [(0, 0, 0), (1, 2, 3)]], np.uint8)
    assert label_colors(mask, colors, tmp_path, "fix it").tolist() == [[0, 1], [255, 0]]
    mask[0, 0] = (1, 2, 4)
    with pytest.raises(UnknownLabel, match=r"\(1, 2, 4\) \(1 pixels\); fix it"):
        label_colors(mask, colors, tmp_path, "fix it")


def encoded(kind: str) -> bytes:
    out = io.BytesIO()
    extra = {"exif": _with_thumbnail()} if kind == "JPEG" else {}
    Image.fromarray(picture(40, 60)).save(out, kind, **extra)
    return out.getvalue()


def _with_thumbnail() -> bytes:
    """An EXIF block that contains a whole small JPEG, end marker included."""
    out = io.BytesIO()
    Image.fromarray(picture(4, 4)).save(out, "JPEG")
    return b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0" + out.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.98])
def test_cut_off_files_are_named(tmp_path: Path, kind: str, share: float) -> None:
    data = encoded(kind)
    path = tmp_path / f"cut.{kind.lower()}"
    path.write_bytes(data)
    read_picture(path)
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(DamagedFile) as error:
        read_picture(path)
    assert str(path) in one_line(error)
    # said of the file, not of one decoder: the wording does not depend on the version of Pillow
    assert re.search("is cut off|is empty", str(error.value))


def test_progressive_jpeg_is_whole(tmp_path: Path) -> None:
    Image.fromarray(picture(40, 60)).save(tmp_path / "p.jpg", progressive=True)
    assert read_picture(tmp_path / "p.jpg").shape == (40, 60, 3)


@pytest.mark.parametrize("tail", [b"\0" * 100, b"appended by a camera"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_anything_may_follow_the_end(tmp_path: Path, kind: str, tail: bytes) -> None:
    path = tmp_path / "long"
    path.write_bytes(encoded(kind) + tail)
    assert read_picture(path).shape == (40, 60, 3)


def test_wrong_checksum(tmp_path: Path) -> None:
    data = bytearray(encoded("PNG"))
    data[len(data) // 2] ^= 1
    path = tmp_path / "flipped.png"
    path.write_bytes(bytes(data))
    for read in (read_picture, decode, read_first_channel):
        with pytest.raises(DamagedFile, match="checksum"):
            read(path)


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 500, b"<html>not found</html>", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"]
)
def test_no_images(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(content)
    for read in (read_picture, read_index, picture_size):
        with pytest.raises(DamagedFile) as error:
            read(path)
        assert str(path) in one_line(error)


def test_missing_file_and_folder_instead_of_file(tmp_path: Path) -> None:
    with pytest.raises(DamagedFile, match="No such file"):
        read_picture(tmp_path / "none.png")
    with pytest.raises(DamagedFile, match="cannot be read"):
        picture_size(tmp_path)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data", "ignore:Truncated File Read")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP", "TIFF"])
def test_every_cut_is_found(tmp_path: Path, kind: str) -> None:
    content = io.BytesIO()
    Image.fromarray(picture(24, 20)).save(content, kind)
    data, path = content.getvalue(), tmp_path / "cut"
    needed = len(data) - 1 if kind in ("JPEG", "PNG", "WEBP") else int(0.9 * len(data))
    for length in range(0, needed, 7):
        path.write_bytes(data[:length])
        for read in (read_picture, decode):
            with pytest.raises(DamagedFile):
                read(path)


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_the_end_of_a_jpeg_may_not_be_zeros(tmp_path: Path, share: float) -> None:
    data = encoded("JPEG")
    kept = int(share * len(data))
    (tmp_path / "half.jpg").write_bytes(data[:kept] + b"\0" * (len(data) - kept))
    with pytest.raises(DamagedFile, match="is cut off"):
        read_picture(tmp_path / "half.jpg")


@pytest.mark.parametrize(("name", "bits"), [("p.bmp", 8), ("p.tif", 8), ("p.png", 8)])
def test_palettes_of_every_format_give_indices(tmp_path: Path, name: str, bits: int) -> None:
    path = save(tmp_path / name, INDICES, odd_palette())
    values, palette, depth, kind = decode(path)[:4]
    assert np.array_equal(values, INDICES)
    assert palette is not None
    assert palette[:48].tolist() == np.array(odd_palette(), np.uint8).reshape(-1, 3)[:48].tolist()
    assert (depth, kind) == (bits, {"p.bmp": "BMP", "p.tif": "TIFF", "p.png": "PNG"}[name])
    assert np.array_equal(read_picture(path), palette[INDICES])


def test_facts_are_those_of_the_content_and_not_of_the_suffix(tmp_path: Path) -> None:
    Image.fromarray(picture(16, 16)).save(tmp_path / "mask.png", "JPEG")
    assert decode(tmp_path / "mask.png").format == "JPEG"
    assert decode(save_16bit_rgb(tmp_path / "deep.png", picture().astype(np.uint16))).bits == 16
    Image.fromarray(INDICES > 7).save(tmp_path / "one.png")
    assert decode(tmp_path / "one.png").bits == 1


def test_arrays_can_be_written_to(tmp_path: Path) -> None:
    """Tensors are made of them without a copy, and torch warns of arrays that are read-only."""
    paths = [
        save(tmp_path / "a.png", picture()),
        save(tmp_path / "b.png", INDICES),
        save(tmp_path / "c.jpg", picture()),
    ]
    paths.append(save(tmp_path / "p.png", INDICES, odd_palette()))
    for path in paths:
        assert decode(path).values.flags.writeable
        assert read_picture(path).flags.writeable
        assert read_picture(path).flags.c_contiguous


def test_images_too_large_to_decode_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGADAPT_MAX_PIXELS", "40")
    path = save(tmp_path / "mosaic.png", picture(6, 8))
    with pytest.raises(DamagedFile, match=r"mosaic\.png has 8 x 6 pixels, .* limit is 40 pixels: cut it into tiles"):
        read_picture(path)


@pytest.mark.parametrize("values", [[0, 255], [0, 128, 255], [7, 3, 200], [5]])
@pytest.mark.parametrize("optimize", [False, True])
def test_a_gif_of_greys_gives_the_greys(tmp_path: Path, values: list[int], optimize: bool) -> None:
    """Pillow stores grey values as indices of a palette of those that occur, or of all."""
    mask = np.resize(np.array(values, np.uint8), (4, 5))
    Image.fromarray(mask).save(tmp_path / "m.gif", optimize=optimize)
    stored = decode(tmp_path / "m.gif")
    assert stored.values.tolist() == mask.tolist()
    assert stored.palette is None


def test_a_gif_of_colours_gives_its_indices(tmp_path: Path) -> None:
    mask = np.array([[0, 1, 2], [2, 1, 0]], np.uint8)
    image = Image.fromarray(mask)
    image.putpalette([0, 0, 0, 200, 10, 20, 9, 9, 9])
    image.save(tmp_path / "m.gif", optimize=False)
    stored = decode(tmp_path / "m.gif")
    assert stored.values.tolist() == mask.tolist()
    assert stored.palette is not None
    assert stored.palette[:3].tolist() == [[0, 0, 0], [200, 10, 20], [9, 9, 9]]
