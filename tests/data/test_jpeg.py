"""JPEG: the same pixels as Pillow's, and no damage passes that libjpeg notices."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segadapt.data.dataset import DamagedFile
from segadapt.data.decode import decode, read_picture

KINDS: list[dict[str, Any]] = [{}, {"progressive": True}, {"subsampling": 0}, {"optimize": True}, {"keep_rgb": True}]


def scene(height: int = 96, width: int = 128, mode: str = "RGB") -> Image.Image:
    rng = np.random.default_rng(3)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((width, height))
    noisy = (np.asarray(coarse) + rng.normal(0, 8, (height, width, 3))).clip(0, 255)
    return Image.fromarray(noisy.astype(np.uint8)).convert(mode)


def encoded(image: Image.Image, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=90, **options)
    return out.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", KINDS)
def test_pixels_are_those_of_pillow(tmp_path: Path, mode: str, options: dict[str, Any]) -> None:
    for size in ((63, 47), (1, 1)):
        path = tmp_path / "a.jpg"
        path.write_bytes(encoded(scene(*size, mode), **options))
        assert np.array_equal(read_picture(path), np.asarray(Image.open(path).convert("RGB")))
        assert decode(path).values.ndim == (2 if mode == "L" else 3)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", KINDS)
def test_damage_inside_is_found(tmp_path: Path, mode: str, options: dict[str, Any]) -> None:
    data = encoded(scene(mode=mode), **options)
    end = len(data) - 2
    for share in (0.35, 0.5, *(() if "progressive" in options else (0.8,))):  # zeros may be right in its last scans
        at = int(share * len(data))
        size = min(200, end - at - 64)  # as long as something follows
        for name, damaged in (
            ("zeros", data[:at] + bytes(size) + data[at + size :]),
            ("cut and ended", data[:at] + b"\xff\xd9"),
            ("cut, filled with zeros and ended", data[:at] + bytes(end - at) + b"\xff\xd9"),
            ("no end", data[:at]),
        ):
            path = tmp_path / "a.jpg"
            path.write_bytes(damaged)
            with pytest.raises(DamagedFile, match=r"a\.jpg is cut off"):
                pytest.fail(f"{name} at {share} passes as {read_picture(path).shape}")


def test_marker_in_the_pixels_is_found(tmp_path: Path) -> None:
    data = encoded(scene())
    at = len(data) // 2
    (tmp_path / "a.jpg").write_bytes(data[:at] + b"\xff\xc4\x01" + data[at + 3 :])
    with pytest.raises(DamagedFile):
        read_picture(tmp_path / "a.jpg")


@pytest.mark.parametrize("tail", [b"", b"\0" * 999, b"\xff\xd8 another picture \xff\xd9", b"SEFT of a phone"])
def test_anything_may_follow_the_end_of_a_whole_file(tmp_path: Path, tail: bytes) -> None:
    data = encoded(scene())
    for whole in (data + tail, data[:-2] + b"\0" * 37 + b"\xff\xd9" + tail):  # some cameras fill blocks up
        (tmp_path / "a.jpg").write_bytes(whole)
        assert np.array_equal(read_picture(tmp_path / "a.jpg"), np.asarray(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize("options", KINDS)
def test_flat_pictures_hold_many_zeros(tmp_path: Path, options: dict[str, Any]) -> None:
    """A picture of one colour, or drawn with few, is coded with long runs of zeros and is whole."""
    half = np.zeros((1200, 1200, 3), np.uint8)
    half[600:] = 255
    for image in (Image.new("RGB", (1200, 1200), "black"), Image.new("L", (1200, 1200), 255), Image.fromarray(half)):
        if image.mode == "L" and "keep_rgb" in options:
            continue
        (tmp_path / "a.jpg").write_bytes(encoded(image, **options))
        assert read_picture(tmp_path / "a.jpg").shape == (1200, 1200, 3)
