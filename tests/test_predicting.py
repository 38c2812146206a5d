"""Predicting as users do it: with the command and from Python, whatever they hand over."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import segadapt
from segadapt.evaluation import predict_path
from segadapt.evaluation.predict import class_ids
from segadapt.labels import LabelSpace
from segadapt.models.build import build_segmenter
from segadapt.models.store import load_model, save_model
from tests.evaluation.test_video import film
from tests.test_cli import assert_refused, call
from tests.tiny import scene

SPACE = LabelSpace("own", ("background", "red, dark", "blue"), ((9, 9, 9), (200, 0, 0), (0, 0, 200)), ids=(7, 50, 255))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    torch.manual_seed(0)
    network = build_segmenter("timm:resnet10t", 3, weights=None, width=16)
    save_model(path, network, SPACE, {"run": "r", "stage": "s", "size": 48, "inference": {"flip": True}})
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    (folder / "deep").mkdir(parents=True)
    for number, name in enumerate(("a.png", "b [1].png", "deep/c.png")):
        Image.fromarray(scene(number, 3, 40, 56, 0.0)[0]).save(folder / name)
    return folder


# ---- Python ----


def test_python_takes_what_people_hand_over(model: Path, images: Path) -> None:
    loaded = segadapt.load(str(model))
    path = images / "a.png"
    array = np.array(Image.open(path))
    expected = segadapt.predict(loaded, array)
    assert expected.labels.shape == (40, 56)
    for value in (str(path), path, Image.open(path), torch.from_numpy(array).permute(2, 0, 1), array / 255):
        found = segadapt.predict(loaded, value)
        assert np.array_equal(found.labels, expected.labels)
        assert np.array_equal(found.confidence, expected.confidence)
    grey = segadapt.predict(loaded, array[..., 0]).labels
    assert np.array_equal(grey, segadapt.predict(loaded, np.repeat(array[..., :1], 3, axis=2)).labels)


def test_python_takes_several(model: Path, images: Path) -> None:
    loaded = segadapt.load(model)
    paths = sorted(images.rglob("*.png"))
    alone = [segadapt.predict(loaded, path).labels for path in paths]

    def opened() -> Iterator[Image.Image]:
        yield from map(Image.open, paths)

    for several in (paths, tuple(map(str, paths)), opened(), map(np.asarray, opened()), set(paths)):
        found = segadapt.predict(loaded, several)
        assert isinstance(found, list)
        assert sorted(x.labels.tobytes() for x in found) == sorted(labels.tobytes() for labels in alone)
    assert segadapt.predict(loaded, []) == []


def test_python_turns_photographs(model: Path, images: Path, tmp_path: Path) -> None:
    image = Image.open(images / "a.png").resize((56, 56))
    exif = Image.Exif()
    exif[0x0112] = 3
    image.save(tmp_path / "turned.png", exif=exif)
    upright = segadapt.predict(model, image.transpose(Image.Transpose.ROTATE_180))
    assert np.array_equal(segadapt.predict(model, Image.open(tmp_path / "turned.png")).labels, upright.labels)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("nowhere.png", r"nowhere\.png cannot be read"),
        (".", r"'\.' is a folder; give its images"),
        (Path("film.mp4"), r"'film\.mp4' is a video"),
        (None, "the image is a NoneType; expected an image"),
        (3, "the image is a int"),
        (b"\x89PNG", "the image is a bytes"),
        ({"image": 1}, "the image is a dict"),
        (np.zeros((2, 4, 5, 3), np.uint8), "images of a batch are given as a list"),
        (np.zeros((4, 5, 3)) + 9, r"the image is an image with values from 9 to 9"),
        ([np.zeros((4, 5, 3), np.uint8), (np.zeros((4, 5)), 1)], "image 1 is a tuple"),
        ([1, 2], "image 0 is a int"),
    ],
)
def test_python_refuses_the_rest(model: Path, value: Any, message: str) -> None:
    with pytest.raises(segadapt.RequestError, match=message):
        segadapt.predict(model, value)


# ---- classes without colour ----


def test_a_class_may_stay_unpainted(model: Path, images: Path, tmp_path: Path) -> None:
    loaded = load_model(model)
    how = {"kinds": ("overlay", "index"), "overwrite": True}
    for number, names in enumerate([(), ("background",), ("7", "blue"), ("red, dark,background",)]):
        if number == 3:
            with pytest.raises(segadapt.RequestError, match="no class 'red'"):
                predict_path(loaded.model, SPACE, images / "a.png", tmp_path / "o", unpainted=names, **how)  # type: ignore[arg-type]
            continue
        predict_path(loaded.model, SPACE, images / "a.png", tmp_path / "o", unpainted=names, **how)  # type: ignore[arg-type]
        hidden = class_ids(SPACE, names)
        assert hidden == [frozenset(), {0}, {0, 2}][number]
        shown = cv2.imread(str(tmp_path / "o/a_overlay.jpg"))[..., ::-1].astype(float)
        labels = np.asarray(Image.open(tmp_path / "o/a.png"))
        image = np.asarray(Image.open(images / "a.png"))
        expected = np.where(
            np.isin(labels, list(hidden))[..., None], image, 0.45 * image + 0.55 * SPACE.colorize(labels)
        )
        assert np.abs(shown - expected).mean() < 10
    assert class_ids(SPACE, ["red, dark", "255, background"]) == {0, 1, 2}
    with pytest.raises(segadapt.RequestError, match="did you mean 'background'"):
        class_ids(SPACE, ["backgruond"])
    with pytest.raises(segadapt.RequestError, match="no class '1'"):
        class_ids(SPACE, ["1"])


# ---- the command ----


def predicted(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.suffix in (".png", ".jpg", ".mp4"))


def test_the_command_takes_patterns_lists_and_standard_input(
    model: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(out: str, *what: str) -> list[str]:
        given = ("predict", str(model), *what, "--out", str(tmp_path / out), "--kinds", "index")
        code, _, err = call(monkeypatch, capsys, *given)
        assert code == 0, err
        return predicted(tmp_path / out)

    def piped(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    assert command("1", str(images / "**/*.png")) == ["a.png", "b [1].png", "deep/c.png"]
    assert command("2", str(images / "b [1].png"), str(images / "deep")) == ["b [1].png", "deep/c.png"]
    paths = [str(path) for path in (images / "a.png", images / "b [1].png")]
    piped("\n".join(paths).encode())
    assert command("3", "-") == ["a.png", "b [1].png"]
    piped("\0".join(paths).encode())
    assert command("4", "-", str(images / "deep/*.png")) == ["a.png", "b [1].png", "deep/c.png"]
    (images / "some.txt").write_text("a.png\ndeep/c.png\n")
    assert command("5", "--list", str(images / "some.txt")) == ["a.png", "deep/c.png"]

    refused = ("predict", str(model), "--out", str(tmp_path / "none"))
    assert_refused(call(monkeypatch, capsys, *refused), "nothing to predict")
    assert_refused(call(monkeypatch, capsys, *refused, str(images / "*.gif")), "nothing matches")
    piped(b"\n")
    assert_refused(call(monkeypatch, capsys, *refused, "-"), "standard input")
    piped(b"nowhere*.png\n")
    assert_refused(call(monkeypatch, capsys, *refused, "-"), "no image, video or folder 'nowhere*.png'")
    assert_refused(call(monkeypatch, capsys, *refused, str(images), "--kinds", "masks"), "unknown result 'masks'")
    assert_refused(call(monkeypatch, capsys, *refused, str(images), "--unpainted", "sky"), "no class 'sky'")
    assert not (tmp_path / "none").exists()


def test_the_command_says_what_it_made_of_a_video(
    model: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    film(images / "film.mp4", 4)
    film(images / "cut.mkv", 30)
    (images / "cut.mkv").write_bytes((images / "cut.mkv").read_bytes()[:-600])
    (images / "scan.unknown").write_text("x")
    given = ("predict", str(model), str(images), "--out", str(tmp_path / "out"))
    code, out, err = call(monkeypatch, capsys, *given)
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0].startswith(f"1 of 4 files in {images} are not read")
    assert "cut.mkv ended after" in lines[1]
    assert "--kinds index,overlay" in lines[2]
    assert lines[3].startswith("3 images and ")
    assert {"film_overlay.mp4", "cut_overlay.mp4", "deep/c.png"} <= set(predicted(tmp_path / "out"))
    code, out, _ = call(monkeypatch, capsys, *given, "--overwrite", "--json", "--every", "2")
    told = json.loads(out)
    assert (told["count"], told["videos"], len(told["cut"]), len(told["left_out"])) == (3, 2, 1, 1)
