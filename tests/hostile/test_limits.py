"""Images that unfold to gigabytes are refused by their header, with the memory that they would take."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from segadapt.cli import app
from segadapt.core.limits import MOST_PIXELS, VARIABLE, limit_pixels, most_pixels
from segadapt.data.decode import picture_size, read_picture
from segadapt.data.files.formats import Unsupported
from segadapt.data.files.stored import read_stored
from segadapt.errors import RequestError
from segadapt.runs.opening import open_data
from tests.data.writing import picture, save
from tests.tiny import config


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    limit_pixels(None)


def bomb(path: Path, side: int) -> Path:
    """Write a PNG whose header promises ``side`` squared pixels; what follows are a few."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b""))
    return path


def tiff(path: Path, side: int) -> Path:
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(path, "TIFF")
    data = path.read_bytes()
    (at,) = struct.unpack("<I", data[4:8])
    entries = [at + 2 + 12 * i for i in range(struct.unpack("<H", data[at : at + 2])[0])]
    for entry in entries:
        if struct.unpack("<H", data[entry : entry + 2])[0] in (256, 257):
            data = data[: entry + 2] + struct.pack("<HII", 4, 1, side) + data[entry + 12 :]
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("make", [bomb, tiff])
def test_a_bomb_is_refused_by_its_header(tmp_path: Path, make: object) -> None:
    path = make(tmp_path / ("a.tif" if make is tiff else "a.png"), 32_000)  # type: ignore[operator]
    for read in (read_picture, picture_size, lambda p: read_stored(p, (1,))):
        with pytest.raises(RequestError, match=r"32000 x 32000 pixels, which take about 10\.2 GB .*--max-pixels"):
            read(path)


def test_the_limit_is_a_number_that_anybody_can_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.png", picture(8, 8))
    assert most_pixels() == MOST_PIXELS
    limit_pixels(63)
    with pytest.raises(Unsupported, match="limit is 63 pixels"):
        read_picture(path)
    limit_pixels(64)
    assert read_picture(path).shape == (8, 8, 3)
    limit_pixels(None)
    assert most_pixels() == MOST_PIXELS
    monkeypatch.setenv(VARIABLE, "many")
    with pytest.raises(RequestError, match="SEGADAPT_MAX_PIXELS is 'many'"):
        read_picture(path)


def test_the_option_reaches_the_decoder(tmp_path: Path) -> None:
    save(tmp_path / "a.png", picture(8, 8))
    checked = ["data", "check", "--images", str(tmp_path), "--unlabelled"]
    assert CliRunner().invoke(app, checked).exit_code == 0
    found = CliRunner().invoke(app, [*checked, "--max-pixels", "63"])
    assert isinstance(found.exception, RequestError)
    assert "limit is 63 pixels" in str(found.exception)


def test_the_setting_reaches_the_decoder(tmp_path: Path) -> None:
    data = config(tmp_path).data.model_copy(update={"max_pixels": 100})
    target = open_data(data, {}, tmp_path / "cache").training.target
    with pytest.raises(RequestError, match="limit is 100 pixels"):
        target.image(0)
