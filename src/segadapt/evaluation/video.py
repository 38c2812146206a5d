"""Videos: reading their frames one after another, and writing one."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np

from segadapt.core.files import replacing
from segadapt.core.reading import require_file
from segadapt.data.dataset import DamagedFile, Picture
from segadapt.data.streaming import HELD, ordered_map
from segadapt.errors import RequestError, RunError

VIDEO_SUFFIXES = (
    *(".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".mts", ".m2ts"),
    *(".ogv", ".mjpeg", ".y4m", ".asf", ".vob"),
)
"""Endings by which videos are found in folders; a file that is named itself is tried whatever its ending."""
_USUAL_RATE, _HIGHEST_RATE = 25.0, 1000.0
_CODECS = (("mp4v", ".mp4"), ("MJPG", ".avi"))
"""Codecs of videos that are written, with the ending of the file; the first one that this OpenCV has is taken."""


@dataclass(frozen=True)
class VideoFacts:
    """Facts in the head of a video file.

    Attributes:
        rate: frames per second, the mean where it varies.
        frames: number of frames; None if it does not say. It may be an estimate.
    """

    rate: float
    frames: int | None


def is_video(path: Path) -> bool:
    """Return whether a first frame can be read from a file."""
    with contextlib.closing(_Capture(path)) as capture:
        return capture.read() is not None


def video_facts(path: Path) -> VideoFacts:
    """Read the head of a video file; DamagedFile where it cannot be read."""
    with contextlib.closing(_Capture(path)) as capture:
        return capture.facts()


def read_frames(path: Path, every: int = 1) -> Iterator[tuple[int, Picture]]:
    """Yield number and RGB picture [H, W, 3] of the frames of a video, turned as the file says, as players show them.

    The next frames are decoded while the caller works on one.

    Args:
        path: the video.
        every: yield each n-th frame only, beginning with the first.

    Raises:
        DamagedFile: not one frame can be read.
    """
    with contextlib.closing(_Capture(path)) as capture:
        frames = ordered_map(lambda _: capture.read(every), itertools.count(), threads=1, ahead=4, memory=HELD)
        with contextlib.closing(frames):  # before the file is
            for number, frame in enumerate(frames):
                if frame is None:
                    break
                yield number * every, frame


class _Capture:
    def __init__(self, path: Path):
        _hush()
        self._path = path
        try:
            require_file(path)
        except OSError as problem:
            raise DamagedFile(f"{path} cannot be read: {problem.strerror or problem}") from None
        # An absolute path: in a relative one ffmpeg takes what is before a colon for a protocol.
        self._file = cv2.VideoCapture(str(path.absolute()))
        self._file.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
        self._started = False

    def facts(self) -> VideoFacts:
        if not self._file.isOpened():
            raise DamagedFile(f"{self._path} is not a video that can be read; it is cut off or of an unknown kind")
        rate, frames = self._file.get(cv2.CAP_PROP_FPS), self._file.get(cv2.CAP_PROP_FRAME_COUNT)
        known = math.isfinite(frames) and 0 < frames < 1 << 31
        return VideoFacts(rate if 0 < rate <= _HIGHEST_RATE else _USUAL_RATE, int(frames) if known else None)

    def read(self, every: int = 1) -> Picture | None:
        """Return the next frame, or the one ``every`` further; None at the end."""
        if self._started and not all(self._file.grab() for _ in range(every - 1)):
            return None
        self._started = True
        there, frame = self._file.read()
        return np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), np.uint8) if there else None

    def close(self) -> None:
        self._file.release()


@cache
def _codec() -> tuple[str, str]:
    """Return the first of :data:`_CODECS` that this build of OpenCV can write; RequestError if there is none."""
    _hush()
    with TemporaryDirectory() as folder:
        for code, ending in _CODECS:
            writer = _writer(Path(folder) / f"try{ending}", code, _USUAL_RATE, 16, 16)
            opened = writer.isOpened()
            writer.release()
            if opened:
                return code, ending
    raise RequestError("this OpenCV writes no videos; ask for single pictures instead: --kinds index")


def video_ending() -> str:
    """Return the ending of videos that are written here: ``.mp4``, or ``.avi`` where OpenCV lacks the codec."""
    return _codec()[1]


@contextlib.contextmanager
def write_video(path: Path, rate: float) -> Iterator[Callable[[Picture], None]]:
    """Yield a function that adds a frame to a video; the file appears when the block ends well, whole.

    Frames have the size of the first one. Where that is odd, as the codec cannot be, the last row or column is there
    twice.

    Args:
        path: the file, with the ending :func:`video_ending`.
        rate: frames per second.

    Raises:
        RunError: the video cannot be written.
    """
    with replacing(path) as temporary:
        video = _Video(temporary, path, rate)
        try:
            yield video.add
        finally:
            video.release()
        video.check()


class _Video:
    """A video file that is being written."""

    def __init__(self, temporary: Path, path: Path, rate: float):
        self._temporary, self._path, self._rate = temporary, path, rate
        self._file: Any = None
        self._size = (0, 0)
        self._count = 0

    def add(self, picture: Picture) -> None:
        height, width = picture.shape[:2]
        if self._file is None:
            self._size = height + height % 2, width + width % 2
            self._file = _writer(self._temporary, _codec()[0], self._rate, *self._size)
            if not self._file.isOpened():
                raise RunError(
                    f"'{self._path}' cannot be written: OpenCV makes no video of {width} x {height} pixels; ask for "
                    "single pictures instead: --kinds index"
                )
        high, wide = self._size
        if height > high or width > wide or high - height > 1 or wide - width > 1:  # a video whose size changes
            picture, height, width = np.asarray(cv2.resize(picture, (wide, high)), np.uint8), high, wide
        frame = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        self._file.write(cv2.copyMakeBorder(frame, 0, high - height, 0, wide - width, cv2.BORDER_REPLICATE))
        self._count += 1

    def release(self) -> None:
        if self._file is not None:
            self._file.release()

    def check(self) -> None:
        """Raise RunError if frames are missing; OpenCV does not say when a write fails."""
        with contextlib.closing(_Capture(self._temporary)) as capture:
            written = capture.facts().frames if capture.read() is not None else 0
        if written != self._count:
            raise RunError(f"'{self._path}' cannot be written in whole; free space on that disk and start again")


def _writer(path: Path, code: str, rate: float, height: int, width: int) -> cv2.VideoWriter:
    return cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), rate, (width, height))


@cache
def _hush() -> None:
    """Keep the chatter of OpenCV and ffmpeg about damaged frames and missing codecs from the terminal."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    cv2.utils.logging.setLogLevel(0)
