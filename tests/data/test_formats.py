"""Which files are read, and what is said of the others."""

from __future__ import annotations

import ast
import gzip
import importlib.util
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from segadapt.data.dataset import DamagedFile
from segadapt.data.decode import decode, picture_size, read_picture
from segadapt.data.files.formats import IMAGE_SUFFIXES, Unsupported, not_read
from segadapt.data.folder import open_folder
from segadapt.data.folders.listing import walk
from segadapt.errors import RequestError
from segadapt.evaluation.inputs import find_inputs
from tests.data.writing import picture, save


@pytest.mark.parametrize("name", ["a.JPG", "a.jfif", "a.gif", "a.ppm", "a.Tiff", "a.dib", "a.jp2", "a.PGM", "a.pbm"])
def test_pictures_of_phones_and_old_tools_are_read(tmp_path: Path, name: str) -> None:
    image = Image.fromarray(picture()).convert({".PGM": "L", ".pbm": "1"}.get(Path(name).suffix, "RGB"))
    image.save(tmp_path / name, "JPEG" if name == "a.jfif" else None)
    assert list(walk(tmp_path)) == [tmp_path / name]
    assert np.array_equal(read_picture(tmp_path / name), np.asarray(Image.open(tmp_path / name).convert("RGB")))
    assert not_read(tmp_path / name) is None


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow does not read AVIF")
def test_avif_is_read(tmp_path: Path) -> None:
    path = save(tmp_path / "a.AVIF", picture(16, 24))
    assert list(walk(tmp_path)) == [path]
    assert np.array_equal(read_picture(path), np.asarray(Image.open(path).convert("RGB")))


def test_heif_is_read_or_named_with_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.heic"
    path.write_bytes(b"\0\0\0\x18ftypheic" + bytes(12) + b"mif1" + bytes(99))
    if importlib.util.find_spec("pillow_heif"):
        import pillow_heif

        pillow_heif.from_pillow(Image.fromarray(picture(16, 24))).save(tmp_path / "b.heic")
        assert read_picture(tmp_path / "b.heic").shape == (16, 24, 3)
        assert ".heic" in IMAGE_SUFFIXES
    monkeypatch.setattr("segadapt.data.files.formats.IMAGE_SUFFIXES", (".png",))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert "segadapt[heif]" in (not_read(path) or "")
    with pytest.raises(Unsupported, match=r"a\.heic is a HEIF picture; pip install \"segadapt\[heif\]\" reads it"):
        read_picture(path)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("scan.dcm", 'a DICOM file; convert it to PNG or TIFF: python -c .*ReadImage."scan.dcm"'),
        ("brain.NII.GZ", 'a NIfTI volume; .*"brain" . "_%04d.png"'),
        ("a.nii", "a NIfTI volume"),
        ("a.npy", 'a NumPy array; .*numpy.load."a.npy"'),
        ("a.mat", "a MATLAB file"),
        ("slide.svs", "a slide of a microscope; .*vips dzsave slide.svs slide"),
        ("my drive.MP4", "a video; .*ffmpeg -i 'my drive.MP4'"),
        ("a.psd", "not read; .*magick a.psd a.png"),
        ("a.hdf5", "gdal_translate a.hdf5 a.tif"),
        ("a.mha", "medical"),
        ("a.nrrd", "medical"),
    ],
)
def test_other_kinds_say_how_to_convert_them(name: str, said: str) -> None:
    assert re.search(said, not_read(Path("x") / name) or "")


@pytest.mark.parametrize("ending", ["npy", "mat", "nii"])
def test_a_name_in_a_command_of_python_is_text_to_the_shell_and_to_python(ending: str) -> None:
    name = f"a'\"); import os; os.abort() #$(touch b)`touch c`.{ending}"
    (command,) = re.findall(r"python -c .*", not_read(Path(name)) or "")
    code = shlex.split(command.removesuffix(" (without RescaleIntensity for masks)"))[2]
    texts = [node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant)]
    assert name in texts
    assert "abort" not in {node.attr for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Attribute)}


def test_a_folder_of_another_kind_says_how_to_convert_it(tmp_path: Path) -> None:
    (tmp_path / "brain.nii.gz").write_bytes(b"x")
    (tmp_path / "notes.txt").write_text("x")
    for read in (open_folder, lambda folder: find_inputs(folder)):
        with pytest.raises(RequestError, match=r"no images.*brain\.nii\.gz, a NIfTI volume; convert it.*python -c"):
            read(tmp_path)


def test_notes_and_lists_are_no_kind_of_image() -> None:
    assert [not_read(Path(name)) for name in ("a.txt", "Thumbs.db", "a.json", "a.png", "a")] == [None] * 5


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (bytes(128) + b"DICM" + bytes(50), "is a DICOM file; convert it to PNG or TIFF: python -c"),
        (b"\x5c\x01\0\0" + bytes(340) + b"n+1\0" + bytes(50), "is a NIfTI volume"),
        (b"\x93NUMPY\x01\0" + bytes(50), "is a NumPy array"),
        (b"\0\0\0\x20ftypisom" + bytes(50), "is a video; .*ffmpeg"),
        (b"%PDF-1.7 and so on", "no picture that is read"),
        (b"<!DOCTYPE html><html>not found</html>", "is a web page, not an image; fetch it again"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "is a pointer of Git LFS.*git lfs pull"),
    ],
)
def test_other_kinds_are_known_by_their_content(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "a.png").write_bytes(content)
    for read in (read_picture, decode, picture_size):
        with pytest.raises(Unsupported, match=said) as error:
            read(tmp_path / "a.png")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp"])
def test_animations_are_refused_and_one_frame_is_a_picture(tmp_path: Path, name: str) -> None:
    frames = [Image.fromarray(picture(seed=i)) for i in range(3)]
    options = {"lossless": True} if name == "a.webp" else {}
    frames[0].save(tmp_path / name, save_all=True, **options)
    assert read_picture(tmp_path / name).shape == (6, 8, 3)
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
    for read in (decode, read_picture):
        with pytest.raises(Unsupported, match=f"{name} has 3 frames, it is an animation.*magick {name} -coalesce"):
            read(tmp_path / name)


def test_the_first_view_of_a_phone_counts(tmp_path: Path) -> None:
    views = [Image.fromarray(picture(16, 24, seed)) for seed in (1, 2)]
    views[0].save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=views[1:])
    assert Image.open(tmp_path / "a.jpg").format == "MPO"
    assert np.array_equal(read_picture(tmp_path / "a.jpg"), np.asarray(Image.open(tmp_path / "a.jpg")))


@pytest.mark.parametrize("largest", [1, 2, 100, 255, 1000, 65535])
@pytest.mark.parametrize("plain", [False, True])
def test_grey_maps_of_any_range_keep_their_numbers(tmp_path: Path, largest: int, plain: bool) -> None:
    values = np.random.default_rng(0).integers(0, largest + 1, (5, 7))
    body = " ".join(map(str, values.ravel())).encode() if plain else values.astype(">u2" if largest > 255 else "u1")
    head = f"P{2 if plain else 5}\n# by hand\n7 5\n{largest}\n".encode()
    (tmp_path / "a.pgm").write_bytes(head + bytes(body))
    assert np.array_equal(decode(tmp_path / "a.pgm").values, values)
    assert np.abs(read_picture(tmp_path / "a.pgm")[..., 0] - values * 255 / largest).max() < 1


def test_a_folder_of_kinds_that_are_not_read_still_opens(tmp_path: Path) -> None:
    save(tmp_path / "a.png", picture())
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(b"x"))
    (tmp_path / "c.png").write_bytes(b"<html>")
    dataset = open_folder(tmp_path)
    assert [item.id for item in dataset.items] == ["a", "c"]
    with pytest.raises(DamagedFile, match="web page"):
        dataset.image(1)
