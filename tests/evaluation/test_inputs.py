"""What is meant by files, folders, patterns and lists, and the names of the results."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segadapt.errors import RequestError
from segadapt.evaluation.inputs import find_inputs, lines_of, listed
from segadapt.evaluation.placing import result_places

FILES = ("a/1.png", "a/deep/2.jpg", "a/film.mp4", "a/scan.heic2", "a/.hidden.png", "b/1.png", "my [x]/3.png", "x/3.png")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith((".png", ".jpg")):
            Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(tmp_path / name)
        else:
            (tmp_path / name).write_text("nothing")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(*given: str | Path, output: Path | None = None) -> list[str]:
    inputs = find_inputs(given, output)
    return [str(path.relative_to(Path.cwd())) for path in (*inputs.images, *inputs.videos)]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["a"], ["a/1.png", "a/deep/2.jpg", "a/film.mp4"]),
        (["a/*.png"], ["a/1.png"]),
        (["a/**/*"], ["a/1.png", "a/deep/2.jpg", "a/film.mp4"]),
        (["*/1.png", "b/1.png", "./b/../b/1.png"], ["a/1.png", "b/1.png"]),
        (["?/[0-9].png"], ["a/1.png", "b/1.png", "x/3.png"]),
        (["my [x]"], ["my [x]/3.png"]),
        (["my [x]/*.png"], ["my [x]/3.png"]),
        ([Path("my [x]/3.png")], ["my [x]/3.png"]),
        (["a/d*"], ["a/deep/2.jpg"]),
    ],
)
def test_what_is_meant(here: Path, given: list[str], expected: list[str]) -> None:
    assert found(*given) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("c/1.png", r"no image, video or folder 'c/1\.png'"),
        ("a/11.png", r"'a/11\.png' \(did you mean '1\.png'"),
        ("a/*.gif", r"nothing matches 'a/\*\.gif'"),
        ("a/*.heic2", r"none of the files 'a/\*\.heic2' is an image or a video"),
        (Path("a/*.png"), "no image, video or folder"),
        ("a/scan.heic2", r"'a/scan\.heic2' is neither an image nor a video"),
        ("my [x]/4.png", "no image, video or folder"),
    ],
)
def test_what_is_not_there_is_named(here: Path, given: str | Path, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        find_inputs(["b", given])


def test_what_is_left_out_is_told(here: Path) -> None:
    for given in ("a", "a/*"):
        (line,) = find_inputs(["b", given]).left_out
        assert line.startswith("1 ")
        assert "scan.heic2" in line
    assert find_inputs(["a/*.png", "b"]).left_out == ()


def test_results_are_not_predicted_again(here: Path) -> None:
    (here / "out").mkdir()
    (here / "b/1.png").rename(here / "out/1.png")
    for given in (".", "**/*.png", "*"):
        assert "out/1.png" not in found(given, output=here / "out")
    assert found("out/1.png", output=here / "out") == ["out/1.png"], "named itself"
    with pytest.raises(RequestError, match="folder of the images"):
        find_inputs(["a", "out"], here / "out")


def test_a_file_without_a_known_ending_is_judged_by_its_content(here: Path) -> None:
    (here / "b/1.png").rename(here / "b/scan")
    assert found("b/scan") == ["b/scan"]
    with pytest.raises(RequestError, match="no images or videos in 'b'"):
        find_inputs("b")


def test_lists(here: Path) -> None:
    (here / "a/list.txt").write_text("1.png\r\n\nb/1.png\n  my [x]/3.png \n")
    assert found(*listed(Path("a/list.txt"))) == ["a/1.png", "b/1.png", "my [x]/3.png"]
    (here / "b/deep").mkdir()
    (here / "b/deep/2.jpg").write_bytes((here / "a/deep/2.jpg").read_bytes())
    (here / "deep").mkdir()
    (here / "deep/2.jpg").write_bytes((here / "a/deep/2.jpg").read_bytes())
    for text, message in (
        ("", "is empty"),
        ("1.png\n9.png\n", r"'9\.png' in 'a/list\.txt' does not exist, neither beside"),
        ("deep/2.jpg", "write the whole path"),
    ):
        (here / "a/list.txt").write_text(text)
        with pytest.raises(RequestError, match=message):
            listed(Path("a/list.txt"))
    with pytest.raises(RequestError, match="cannot be read"):
        listed(Path("nowhere.txt"))


def test_lines() -> None:
    assert lines_of(b"\xef\xbb\xbfa b.png\r\nc.png\n\n") == ["a b.png", "c.png"]
    assert lines_of(b"a\nb.png\0c.png\0") == ["a\nb.png", "c.png"]
    assert lines_of("ä.png\nb.png".encode("utf-16")) == ["ä.png", "b.png"]
    assert [os.fsencode(name) for name in lines_of(b"\xe4.png\n")] == [b"\xe4.png"]


def test_results_keep_their_places(here: Path) -> None:
    def places(*given: str) -> list[str]:
        results = result_places(find_inputs(given), Path("out"), ("index",), ("index", "overlay"))
        return sorted(str(file) for files in results.values() for file in files.values())

    assert places("a/*.png") == ["out/1.png"]
    assert places("a/**/*.jpg") == ["out/deep/2.png"]
    assert places("a/1.png", "b/1.png") == ["out/a/1.png", "out/b/1.png"]
    assert places("a", "b") == [
        "out/a/1.png",
        "out/a/deep/2.png",
        "out/a/film",
        "out/a/film_overlay.mp4",
        "out/b/1.png",
    ]
    (here / "a/film").mkdir()
    (here / "a/1.png").rename(here / "a/film/000000.png")
    assert "out/film.mp4" in places("a"), "frames and images do not mix"
    assert "out/film/000000.png" in places("a")
