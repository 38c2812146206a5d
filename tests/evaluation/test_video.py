"""Videos: read whole, upright and at any size; written whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from segadapt.data.decode import read_index
from segadapt.errors import RequestError, RunError
from segadapt.evaluation import video
from segadapt.evaluation.predict import predict_array, predict_path
from segadapt.evaluation.video import read_frames, video_facts, write_video
from segadapt.models.build import build_segmenter
from tests.evaluation.test_scoring import FOUR
from tests.evaluation.tiny import GreyLevels

COUNT, HEIGHT, WIDTH = 12, 32, 48
CODECS = {".mp4": "mp4v", ".mov": "mp4v", ".mkv": "mp4v", ".avi": "MJPG", ".webm": "VP80"}


def frame(number: int) -> npt.NDArray[np.uint8]:
    """Four grey bands, of which one more is white for every third frame."""
    levels = np.repeat(np.where(np.arange(4) < number // 3, 230, 40), WIDTH // 4)
    return np.repeat(np.tile(levels, (HEIGHT, 1))[..., None], 3, axis=2).astype(np.uint8)


def film(path: Path, count: int = COUNT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*CODECS[path.suffix]), 12.5, (WIDTH, HEIGHT))
    assert writer.isOpened()
    for number in range(count):
        writer.write(frame(number))
    writer.release()
    return path


def turned(path: Path) -> Path:
    """Let an MP4 file say that it is to be shown turned by 90 degrees, as telephones do."""
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4 + 4 + 36  # version and flags; times, track, duration, layer, volume
    turn = (0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000)
    data[place : place + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in turn)
    path.write_bytes(data)
    return path


def names(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p.name != "legend.json")


@pytest.mark.parametrize("ending", CODECS)
def test_an_overlay_is_a_video_of_the_same_length(tmp_path: Path, ending: str) -> None:
    source = film(tmp_path / f"in/a{ending}")
    calls: list[tuple[int, int]] = []
    made = predict_path(
        GreyLevels(4), FOUR, source, tmp_path / "out", progress=lambda done, total: calls.append((done, total))
    )
    assert (made.count, made.videos, made.frames, made.cut, made.skipped) == (0, 1, COUNT, (), ())
    assert calls[-1] == (COUNT, COUNT)
    assert names(tmp_path / "out") == ["a_overlay.mp4"]
    facts = video_facts(tmp_path / "out/a_overlay.mp4")
    assert facts.rate == pytest.approx(12.5)
    assert facts.frames == COUNT
    for (_, before), (_, after) in zip(read_frames(source), read_frames(tmp_path / "out/a_overlay.mp4"), strict=True):
        labels = predict_array(GreyLevels(4), before).labels
        expected = 0.45 * before + 0.55 * FOUR.colorize(labels)
        assert np.abs(after.astype(float) - expected).mean() < 12


def test_single_frames_are_exact_and_every_nth_will_do(tmp_path: Path) -> None:
    source = film(tmp_path / "a.mp4")
    out = tmp_path / "out"
    predict_path(GreyLevels(4), FOUR, source, out, kinds=("index", "confidence"), every=5)
    expected = [f"a/{number:06d}{end}" for number in (0, 5, 10) for end in (".png", "_confidence.png")]
    assert names(out) == sorted(expected)
    for number, image in read_frames(source):
        if number % 5 == 0:
            assert np.array_equal(read_index(out / f"a/{number:06d}.png"), predict_array(GreyLevels(4), image).labels)
    with pytest.raises(RequestError, match="--overwrite"):
        predict_path(GreyLevels(4), FOUR, source, out, kinds=("index",))
    (out / "a/mine.png").write_bytes(b"kept")
    predict_path(GreyLevels(4), FOUR, source, out, kinds=("index", "overlay"), every=6, overwrite=True)
    assert names(out) == ["a/000000.png", "a/000006.png", "a/mine.png", "a_overlay.mp4"]
    assert video_facts(out / "a_overlay.mp4").rate == pytest.approx(12.5 / 6, abs=0.01)
    with pytest.raises(RequestError, match="not 0"):
        predict_path(GreyLevels(4), FOUR, source, out, every=0)


def test_a_turned_video_is_predicted_as_players_show_it(tmp_path: Path) -> None:
    predict_path(GreyLevels(4), FOUR, turned(film(tmp_path / "a.mp4")), tmp_path / "out", kinds=("index", "overlay"))
    assert Image.open(tmp_path / "out/a/000006.png").size == (HEIGHT, WIDTH)
    labels = read_index(tmp_path / "out/a/000006.png")
    assert labels[4, HEIGHT // 2] > labels[-4, HEIGHT // 2], "left, where the bands are white, is up"
    _, first = next(read_frames(tmp_path / "out/a_overlay.mp4"))
    assert first.shape == (WIDTH, HEIGHT, 3)


@pytest.mark.parametrize("ending", [".mkv", ".avi"])
def test_what_is_left_of_a_cut_video_is_predicted_and_said(tmp_path: Path, ending: str) -> None:
    source = film(tmp_path / f"a{ending}", 40)
    source.write_bytes(source.read_bytes()[: source.stat().st_size * 3 // 4])
    made = predict_path(GreyLevels(4), FOUR, source, tmp_path / "out")
    assert 0 < made.frames < 40
    assert f"ended after {made.frames} of 40 frames" in made.cut[0]


def test_damaged_videos_are_skipped_beside_others(tmp_path: Path) -> None:
    film(tmp_path / "in/good.mp4")
    (tmp_path / "in/bad.mp4").write_bytes((tmp_path / "in/good.mp4").read_bytes()[:900])
    (tmp_path / "in/text.mkv").write_text("no video")
    made = predict_path(GreyLevels(4), FOUR, tmp_path / "in", tmp_path / "out")
    assert made.videos == 1
    assert [("bad" in line) + 2 * ("text" in line) for line in made.skipped] == [1, 2]
    assert names(tmp_path / "out") == ["good_overlay.mp4"]
    with pytest.raises(RequestError, match=r"none of the 1 files can be read.*not a video"):
        predict_path(GreyLevels(4), FOUR, tmp_path / "in/bad.mp4", tmp_path / "out")


@pytest.mark.parametrize("size", [(33, 47), (32, 47), (1, 1)])
def test_odd_sizes_lose_nothing(tmp_path: Path, size: tuple[int, int]) -> None:
    picture = np.full((*size, 3), 200, np.uint8)
    with write_video(tmp_path / "a.mp4", 30000 / 1001) as add:
        add(picture)
        add(np.zeros((size[0] + 9, size[1] + 5, 3), np.uint8))
    frames = [image for _, image in read_frames(tmp_path / "a.mp4")]
    assert [image.shape for image in frames] == [(size[0] + size[0] % 2, size[1] + size[1] % 2, 3)] * 2
    assert abs(int(frames[0][-1, -1, 0]) - 200) < 8
    assert video_facts(tmp_path / "a.mp4").rate == pytest.approx(29.97, abs=0.01)


def test_no_half_video_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def written(*pictures: Any) -> None:
        with write_video(tmp_path / "a.mp4", 10) as add:
            for picture in pictures:
                add(picture)

    with pytest.raises(AttributeError):
        written(frame(0), None)
    assert list(tmp_path.iterdir()) == []

    class Full:
        """The writer of a full disk, which says nothing."""

        def isOpened(self) -> bool:
            return True

        def write(self, picture: object) -> None: ...

        def release(self) -> None: ...

    def full(*_: object) -> Full:
        return Full()

    video.video_ending()
    monkeypatch.setattr(video, "_writer", full)
    with pytest.raises(RunError, match="cannot be written in whole"):
        written(frame(0))
    assert list(tmp_path.iterdir()) == []


def test_without_the_usual_codec_another_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real: Callable[..., cv2.VideoWriter] = video._writer
    monkeypatch.setattr(video, "_writer", lambda p, code, *more: real(p, "none" if code == "mp4v" else code, *more))
    video._codec.cache_clear()
    try:
        predict_path(GreyLevels(4), FOUR, film(tmp_path / "a.mkv", 3), tmp_path / "out")
        assert names(tmp_path / "out") == ["a_overlay.avi"]
        video._codec.cache_clear()
        monkeypatch.setattr(video, "_CODECS", (("none", ".mp4"),))
        with pytest.raises(RequestError, match="--kinds index"):
            predict_path(GreyLevels(4), FOUR, tmp_path / "a.mkv", tmp_path / "other")
    finally:
        video._codec.cache_clear()


def test_a_colon_in_a_name_is_no_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film(tmp_path / "a.mp4", 3).rename(tmp_path / "at 12:30.mp4")
    monkeypatch.chdir(tmp_path)
    assert predict_path(GreyLevels(4), FOUR, "at 12:30.mp4", Path("out")).frames == 3


def test_a_model_of_other_bands_takes_no_video(tmp_path: Path) -> None:
    model = build_segmenter("timm:resnet10t", 4, weights=None, width=16, bands=5)
    with pytest.raises(RequestError, match=r"a\.mp4' is a video.*this model takes 5 bands"):
        predict_path(model, FOUR, film(tmp_path / "a.mp4", 2), tmp_path / "out")
