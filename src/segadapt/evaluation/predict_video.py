"""Predictions of a video, frame by frame."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from segadapt.core.files import write_bytes
from segadapt.data.dataset import DamagedFile, Picture
from segadapt.data.streaming import Behind, size_of
from segadapt.evaluation.placing import ENDINGS, FRAMES, Places
from segadapt.evaluation.predictor import Predicted, Predictor
from segadapt.evaluation.results import Look
from segadapt.evaluation.video import read_frames, video_facts, write_video

_FRAME = re.compile(rf"\d{{6,}}({'|'.join(map(re.escape, ENDINGS.values()))})")
_SLACK, _SHARE = 2, 0.02
"""Frames, and share of them, by which the number that a video claims may be too high: it is an estimate in some."""


class Film(NamedTuple):
    """The result of a video: frames predicted, and a line if it ended before its length, else None."""

    frames: int
    cut: str | None


def predict_video(
    path: Path,
    places: Mapping[str, Path],
    kinds: Sequence[str],
    predictor: Predictor,
    look: Look,
    *,
    every: int = 1,
    progress: Callable[[], None] = lambda: None,
) -> Film:
    """Predict the frames of a video one after another, and write each kind of results, in threads.

    Args:
        path: the video.
        places: where results go: ``overlay`` is a video, ``frames`` the folder of all other kinds.
        kinds: kinds of results.
        predictor: predicts the frames.
        look: how predictions are shown.
        every: predict each n-th frame only.
        progress: called after every frame.

    Raises:
        DamagedFile: not one frame can be read.
        RunError: a result cannot be written.
    """
    facts = video_facts(path)
    done, last = 0, -1
    pictures = [kind for kind in kinds if kind != "overlay"] if FRAMES in places else []
    with contextlib.ExitStack() as stack:
        add = stack.enter_context(write_video(places["overlay"], facts.rate / every)) if "overlay" in places else None
        film, behind = stack.enter_context(Behind(threads=1)), stack.enter_context(Behind())

        def write(number: int, image: Picture, made: Predicted) -> Picture | None:
            prediction = made.fetched()
            for kind in pictures:
                write_bytes(places[FRAMES] / f"{number:06d}{ENDINGS[kind]}", look.encoded(kind, image, prediction))
            return look.overlay(image, prediction.labels) if add is not None else None

        def append(overlay: Picture | None) -> None:
            if overlay is not None and add is not None:
                film.add(partial(add, overlay), holds=overlay.nbytes)

        for number, image in read_frames(path, every):
            if not done and FRAMES in places:
                _remove_earlier(places[FRAMES])
            made = predictor.predicted(predictor.prepared(image), (image.shape[0], image.shape[1]))
            behind.add(partial(write, number, image, made), append, holds=size_of((image, *made)))
            done, last = done + 1, number
            progress()
        if not done:
            raise DamagedFile(f"{path} is damaged: not one frame can be read")
    claimed = facts.frames or 0
    short = last + every < claimed - max(_SLACK, _SHARE * claimed)
    return Film(done, f"{path} ended after {last + 1} of {claimed} frames; it is damaged or cut off" if short else None)


def predict_videos(
    paths: Sequence[Path], places: Places, kinds: Sequence[str], predictor: Predictor, look: Look, **how: Any
) -> tuple[dict[str, Film], dict[str, str]]:
    """Predict several videos by :func:`predict_video`; also return a line for each that cannot be read."""
    films, unreadable = {}, {}
    for path in paths:
        try:
            films[str(path)] = predict_video(path, places[path], kinds, predictor, look, **how)
        except DamagedFile as problem:
            unreadable[str(path)] = with_path(problem, path)
    return films, unreadable


def with_path(problem: DamagedFile, path: Path) -> str:
    """Return the message of a file that cannot be read; the path stands in front where it does not name it."""
    return str(problem) if str(path) in str(problem) else f"{path}: {problem}"


def _remove_earlier(folder: Path) -> None:
    """Remove the frames of an earlier call, which may have had more of them; other files stay."""
    for file in folder.glob("*") if folder.is_dir() else ():
        if _FRAME.fullmatch(file.name):
            file.unlink()
