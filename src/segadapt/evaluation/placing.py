"""Where the results of every image and video go; no two of them share a file, and nothing is replaced unasked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from segadapt.core.names import require_ids
from segadapt.errors import RequestError, nearest
from segadapt.evaluation.inputs import Inputs
from segadapt.evaluation.video import video_ending

ENDINGS: dict[str, str] = {
    "index": ".png",
    "color": "_color.png",
    "overlay": "_overlay.jpg",
    "confidence": "_confidence.png",
}
IMAGE_KINDS = ("index", "overlay", "confidence")
VIDEO_KINDS = ("overlay",)
"""Kinds of results where none are asked for."""
FRAMES = "frames"
"""Instead of a kind: the folder of the pictures of a video's frames."""
Places = dict[Path, dict[str, Path]]
"""The results of every input by kind."""


def require_kinds(kinds: Sequence[str]) -> None:
    """Raise RequestError unless all kinds are known and there is one."""
    for kind in kinds:
        if kind not in ENDINGS:
            raise RequestError(f"unknown result '{kind}'{nearest(kind, ENDINGS)}; there are: {', '.join(ENDINGS)}")
    if not kinds:
        raise RequestError(f"no result asked for; there are: {', '.join(ENDINGS)}")


def result_places(
    inputs: Inputs, output: Path, image_kinds: Sequence[str] = IMAGE_KINDS, video_kinds: Sequence[str] = VIDEO_KINDS
) -> Places:
    """Name the results by kind; no two inputs share a file, also where upper and lower case do not differ.

    An image ``a/b.jpg`` below the common folder gives ``a/b`` with the :data:`ENDINGS`. A video ``a/b.mov`` gives the
    video ``a/b_overlay.mp4`` and, for other kinds, the folder ``a/b`` of single frames. What would share a name keeps
    the input's suffix in it.
    """

    def named(path: Path, base: str) -> dict[str, Path]:
        folder = output / path.parent.relative_to(inputs.root)
        if path in films:
            overlay = {"overlay": folder / f"{base}_overlay{video_ending()}"} if "overlay" in video_kinds else {}
            return overlay | ({FRAMES: folder / base} if set(video_kinds) - {"overlay"} else {})
        return {kind: folder / (base + ENDINGS[kind]) for kind in dict.fromkeys(image_kinds)}

    films = set(inputs.videos)
    plain = {path: named(path, path.stem) for path in (*inputs.images, *inputs.videos)}
    shared = _shared(plain)
    places = {
        path: named(path, path.name) if shared & {_key(file) for file in files.values()} else files
        for path, files in plain.items()
    }
    still = _shared(places)
    if still:
        name = next(f for files in places.values() for f in files.values() if _key(f) in still)
        raise RequestError(f"two images would both be predicted into '{name}'; rename one of them")
    named_so = (file for files in places.values() for file in files.values())
    require_ids((file.relative_to(output).as_posix() for file in named_so), "predict", room=0)
    return places


def require_free(results: Iterable[Path], images: Iterable[Path], overwrite: bool) -> None:
    """Raise RequestError if a result would replace an image, or an earlier result unless ``overwrite`` allows that."""
    sources = {image.resolve() for image in images}
    for file in results:
        if file.resolve() in sources:
            raise RequestError(f"the result '{file}' would replace an image; name another output folder")
        if file.exists() and not overwrite:
            raise RequestError(f"'{file}' exists; name another output folder, or allow overwriting (--overwrite)")


def _shared(places: Mapping[Path, Mapping[str, Path]]) -> set[str]:
    """Return the names that two results have, and those of files that are folders for others."""
    files = [file for results in places.values() for file in results.values()]
    folders = {_key(parent) for folder in {file.parent for file in files} for parent in (folder, *folder.parents)}
    return {name for name, count in Counter(map(_key, files)).items() if count > 1 or name in folders}


def _key(file: Path) -> str:
    return str(file).casefold()
