"""Inputs of a prediction: files, folders, patterns and lists of them become images and videos."""

from __future__ import annotations

import codecs
import glob
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from segadapt.core.reading import exists, read_file
from segadapt.data.dataset import DamagedFile
from segadapt.data.decode import picture_size
from segadapt.data.files.formats import first_not_read
from segadapt.data.folders.gathering import gather
from segadapt.data.folders.listing import IMAGE_SUFFIXES, LARGEST_LIST
from segadapt.errors import RequestError, nearest
from segadapt.evaluation.video import VIDEO_SUFFIXES, is_video

Given = str | os.PathLike[str]


@dataclass(frozen=True)
class Inputs:
    """The files to predict.

    Attributes:
        images, videos: absolute paths, each once, in the order in which they were given.
        root: folder that all of them lie in; results keep the places below it.
        left_out: one line for each kind of thing in the folders and patterns that is neither.
    """

    images: tuple[Path, ...]
    videos: tuple[Path, ...]
    root: Path
    left_out: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images) + len(self.videos)


def find_inputs(given: Given | Iterable[Given], output: Path | None = None) -> Inputs:
    """Find the images and videos that are meant.

    Args:
        given: one or several of: a file; a folder, for all images and videos in it and its sub-folders; a pattern with
            ``*``, ``?``, ``[...]`` or ``**`` (any folders), if it is a string and no file or folder has this name. A
            file of its own is judged by its content where its ending is unknown. Hidden files do not count in folders
            and patterns.
        output: folder for results; what lies in it is not meant by a folder or a pattern.

    Raises:
        RequestError: names what does not exist, matches nothing, or holds nothing to predict.
    """
    several = [given] if isinstance(given, str | os.PathLike) else list(given)
    if not several:
        raise RequestError("nothing to predict: name an image, a video, a folder or a pattern")
    images: dict[Path, None] = {}
    videos: dict[Path, None] = {}
    left_out: dict[str, None] = {}
    tops = []
    for one in several:
        found = _found(one, output)
        for file in map(_absolute, found.files):
            kind = _kind(file, found.exact)
            if kind is not None:
                (images if kind == "image" else videos)[file] = None
        if not any(_kind(_absolute(file), found.exact) for file in found.files):
            raise RequestError(_nothing_in(one, found))
        tops.append(_absolute(found.top))
        left_out.update(dict.fromkeys(found.left_out))
    return Inputs(tuple(images), tuple(videos), _common(tops), tuple(left_out))


def listed(file: Path) -> list[Path]:
    """Return the files that a text file lists, one a line; paths start at the folder of the list, or where we are.

    Raises:
        RequestError: the list cannot be read or is empty, or a line is found in neither place or in both.
    """
    try:
        lines = lines_of(read_file(file, LARGEST_LIST))
    except OSError as problem:
        raise RequestError(f"the list '{file}' cannot be read: {problem.strerror or problem}") from None
    if not lines:
        raise RequestError(f"the list '{file}' is empty; write one path a line")
    return [_of_list(line, file) for line in lines]


def lines_of(data: bytes) -> list[str]:
    """Split the content of a list into paths: between NUL characters if there are any, otherwise by lines."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = data.decode("utf-16", "replace")
    else:
        text = os.fsdecode(data.removeprefix(codecs.BOM_UTF8))  # names of files need not be UTF-8
    parts = text.split("\0") if "\0" in text else [line.rstrip("\r") for line in text.split("\n")]
    return [part for part in parts if part.strip()]


# ---- parts ----


def _of_list(line: str, file: Path) -> Path:
    places = dict.fromkeys(_absolute(folder / line) for folder in (file.parent, Path()))
    there = [place for place in places if exists(place)]
    if not there and line != line.strip():
        return _of_list(line.strip(), file)
    if not there:
        raise RequestError(f"'{line}' in '{file}' does not exist, neither beside the list nor in the current folder")
    if len(there) > 1 and not there[0].samefile(there[1]):
        raise RequestError(f"'{line}' in '{file}' may be '{there[0]}' or '{there[1]}'; write the whole path")
    return there[0]


class _Found(NamedTuple):
    """The files that one entry stands for.

    Attributes:
        top: folder where the names of results begin.
        files: images, videos and, of patterns, other files.
        left_out: see :class:`Inputs`.
        exact: whether one file was named itself.
    """

    top: Path
    files: list[Path]
    left_out: tuple[str, ...] = ()
    exact: bool = False


def _found(one: Given, output: Path | None) -> _Found:
    path = Path(one)
    if path.is_dir():
        if output is not None and output.resolve() == path.resolve():
            raise RequestError(f"results cannot go into the folder of the images '{path}'; name another output folder")
        return _Found(path, *_inside(path, output))
    if exists(path):
        return _Found(path.parent, [path], exact=True)
    top, rest = _split(path)
    if not (isinstance(one, str) and glob.has_magic(rest)):
        names = [entry.name for entry in top.iterdir()] if top == path.parent else []
        raise RequestError(f"there is no image, video or folder '{path}'{nearest(path.name, names)}")
    return _Found(top, *_matching(top, rest, output))


def _split(path: Path) -> tuple[Path, str]:
    """Split a path after the folders that exist by exactly these names, so that they may contain [ and ]."""
    parts = path.parts
    count = next((n for n in range(len(parts), 0, -1) if Path(*parts[:n]).is_dir()), 0)
    return Path(*parts[:count]), os.path.join("", *parts[count:])  # noqa: PTH118


def _matching(top: Path, pattern: str, output: Path | None) -> tuple[list[Path], tuple[str, ...]]:
    inside = output.resolve() if output is not None else None
    found: list[Path] = []
    told: list[str] = []
    for name in sorted(glob.glob(pattern, root_dir=top, recursive=True)):  # noqa: PTH207
        path = top / name
        if inside is not None and path.resolve().is_relative_to(inside):
            continue
        if path.is_dir():
            files, more = _inside(path, output)
            found += files
            told += more
        else:
            found.append(path)
    others = [path for path in found if _kind(path, False) is None]
    if others:
        told.append(f"{len(others)} files that '{top / pattern}' names are no images; the first is {others[0]}")
    return found, tuple(told)


def _inside(folder: Path, output: Path | None) -> tuple[list[Path], tuple[str, ...]]:
    """Return the images and videos below a folder, and what is said of the rest of it."""
    images, notices, videos = gather(folder, leave_out=output, taken=VIDEO_SUFFIXES)
    return sorted([*images, *videos]), tuple(notice.text for notice in notices)


def _kind(file: Path, exact: bool) -> str | None:
    """Return ``image`` or ``video`` by the ending; by the content for a file that was named itself."""
    ending = file.suffix.lower()
    if ending in IMAGE_SUFFIXES:
        return "image"
    if ending in VIDEO_SUFFIXES:
        return "video"
    if not exact:
        return None
    try:
        picture_size(file)
    except DamagedFile:
        return "video" if is_video(file) else None
    return "image"


def _nothing_in(one: Given, found: _Found) -> str:
    if found.exact:
        return f"'{one}' is neither an image nor a video that can be read{first_not_read([Path(one)])}"
    known = f"known are {', '.join((*IMAGE_SUFFIXES, *VIDEO_SUFFIXES))}"
    if Path(one).is_dir():
        return f"no images or videos in '{one}'{''.join(f'; {line}' for line in found.left_out)}; {known}"
    return f"none of the files '{one}' is an image or a video; {known}" if found.files else f"nothing matches '{one}'"


def _absolute(path: Path) -> Path:
    # Unlike resolve(), this keeps the names of links, after which results are called.
    return Path(os.path.abspath(path))  # noqa: PTH100


def _common(folders: list[Path]) -> Path:
    try:
        return Path(os.path.commonpath(folders))
    except ValueError:
        raise RequestError(
            f"'{folders[0]}' and others lie on several drives; predict them in a call for each drive"
        ) from None
