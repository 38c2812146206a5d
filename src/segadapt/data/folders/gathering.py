"""Which files of a folder are the images that somebody means, and what else lies there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from segadapt.core.reading import open_file
from segadapt.data.dataset import Notice
from segadapt.data.files.formats import HEAD, looks_like_an_image, not_read
from segadapt.data.folders.listing import IMAGE_SUFFIXES, files_below, walk
from segadapt.data.folders.masks_among import bare_name, beside_images, in_mask_folders
from segadapt.data.folders.pairing import MASK_ENDINGS, require_folder
from segadapt.errors import RequestError

_SIDE = """
    .cfg .cpg .css .csv .db .dbf .doc .docx .geojson .gpx .htm .html .ini .ipynb .jgw .js .json .jsonl .kml .list
    .lnk .log .lst .md .md5 .ovr .pdf .pgw .prj .py .qgz .qpj .rst .rtf .sh .sha256 .shp .shx .srt .tfw .tifw .toml
    .tsv .txt .url .vtt .wld .xls .xlsx .xml .yaml .yml
"""
SIDE_FILES = frozenset(_SIDE.split())
"""Suffixes of notes, lists, tables and map data, of which nobody expects that they are read as images."""
_SUFFIXES_SHOWN = 6


class Gathered(NamedTuple):
    """The images below a folder.

    Attributes:
        images: in the order of their paths.
        notices: one for each kind of thing that was left out.
        taken: files that are used otherwise, see :func:`gather`.
    """

    images: list[Path]
    notices: tuple[Notice, ...]
    taken: tuple[Path, ...] = ()


def images_in(folder: Path, labels: Path | None, name: str) -> Gathered:
    """Find the images of a folder and its sub-folders, without the masks where these lie there too.

    Args:
        folder: of the images.
        labels: folder of the masks; None where none are wanted.
        name: for messages.

    Raises:
        RequestError: a folder is missing, or there are no images.
    """
    require_folder(folder, "image", name)
    if labels is not None:
        require_folder(labels, "mask", name)
    if labels is not None and labels.resolve() == folder.resolve():
        readable, notices, _ = _readable(folder)
        found = Gathered([path for path in readable if not path.stem.endswith(MASK_ENDINGS)], notices)
    else:
        found = gather(folder, leave_out=labels)
    if not found.images:
        raise RequestError(
            f"{name}: there are no images ({', '.join(IMAGE_SUFFIXES)}) in {folder}{what_else(found.notices)}"
        )
    return found


def gather(folder: Path, leave_out: Path | None = None, taken: Collection[str] = ()) -> Gathered:
    """Find the images below a folder, without masks and predictions that lie among them.

    Files that are no images by their suffix are counted and named, unless they are hidden or :data:`SIDE_FILES`;
    so are links that lead nowhere, and pipes and devices, which are not opened.

    Args:
        folder: an existing folder; it is searched with its sub-folders.
        leave_out: a folder in it that is not searched.
        taken: suffixes of files that are used otherwise, e.g. of videos; nothing is said of them.

    Raises:
        RequestError: a folder below cannot be listed.
    """
    readable, notices, others = _readable(folder, leave_out, taken)
    beside = beside_images(readable)
    among = in_mask_folders(folder, [path for path in readable if path not in beside])
    images = [path for path in readable if path not in beside and path not in among]
    more = [
        *_of_beside(folder, [path for path in readable if path in beside]),
        *_of_folders(folder, [path for path in readable if path in among], images),
    ]
    return Gathered(images, (*notices, *more), others)


def what_else(notices: Sequence[Notice]) -> str:
    """Return what to add to the message that a folder holds no images: what it holds instead."""
    return "".join(f"; {notice.text}" for notice in notices)


def unused_masks(
    labels: Path, masks: Sequence[Path], images: Sequence[Path], dubious: bool = False
) -> tuple[Notice, ...]:
    """Return what is said of files in a folder of masks that have the name of no image.

    Args:
        labels: folder of the masks.
        masks: those that belong to an image.
        images: all images beside them, also those that are not used.
        dubious: whether a run asks about such files.
    """
    used, names = set(masks), {bare_name(path) for path in images}
    same = set(images)
    unused = [p for p in walk(labels) if p not in used and p not in same and bare_name(p) not in names]
    if not unused:
        return ()
    return (
        Notice(
            f"{len(unused)} files in {labels} have the name of no image and are not used; the first is "
            f"{unused[0].relative_to(labels)}",
            dubious,
        ),
    )


def _readable(
    folder: Path, leave_out: Path | None = None, taken: Collection[str] = ()
) -> tuple[list[Path], tuple[Notice, ...], tuple[Path, ...]]:
    """Return the files below a folder that have the suffix of an image, what is said of the others, and those taken."""
    readable: list[Path] = []
    unread: list[Path] = []
    no_files: list[Path] = []
    others: list[Path] = []
    for path in files_below(folder, leave_out):
        suffix = path.suffix.lower()
        if suffix in SIDE_FILES:
            continue
        if suffix in taken:
            others += [path] if path.is_file() else []
        elif not path.is_file():
            no_files.append(path)
        elif suffix in IMAGE_SUFFIXES:
            readable.append(path)
        elif path.suffix or _begins_as_image(path):
            unread.append(path)
    return readable, (*_of_unread(folder, unread, readable), *_of_no_files(folder, no_files)), tuple(others)


def _of_unread(folder: Path, unread: Sequence[Path], readable: Sequence[Path]) -> list[Notice]:
    """Return what is said of files with the suffixes of no image, or of images that are not read.

    It is dubious where they are more than the images; a raw file beside its JPEG does not count.
    """
    if not unread:
        return []
    kinds = Counter(_ending(path) for path in unread)
    shown = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(_SUFFIXES_SHOWN))
    if len(kinds) > _SUFFIXES_SHOWN:
        shown += f", and {len(kinds) - _SUFFIXES_SHOWN} other kinds"
    twins = {path.with_suffix("") for path in readable}
    alone = [path for path in unread if path.with_suffix("") not in twins]
    total = len(unread) + len(readable)
    known = not_read(unread[0])
    kind = f", {known}" if known else ""
    return [
        Notice(
            f"{len(unread)} of {total} files in {folder} are not read ({shown}; the first is "
            f"{unread[0].relative_to(folder)}{kind}); save them as PNG or JPEG if they are meant",
            dubious=len(alone) > len(readable),
        )
    ]


def _of_no_files(folder: Path, paths: Sequence[Path]) -> list[Notice]:
    if not paths:
        return []
    return [
        Notice(
            f"{len(paths)} names in {folder} are not opened, as they are no files but links that lead nowhere, pipes "
            f"or devices; the first is {paths[0].relative_to(folder)}"
        )
    ]


def _of_beside(folder: Path, paths: Sequence[Path]) -> list[Notice]:
    if not paths:
        return []
    return [
        Notice(
            f"{len(paths)} files in {folder} are left out, as they are masks or predictions beside their images; the "
            f"first is {paths[0].relative_to(folder)}"
        )
    ]


def _of_folders(folder: Path, paths: Sequence[Path], images: Sequence[Path]) -> list[Notice]:
    if not paths:
        return []
    advice = f"; give the folder of the images, {images[0].parent}" if images else ""
    return [
        Notice(
            f"{len(paths)} files in {folder} are left out, as they look like masks of the images; the first is "
            f"{paths[0].relative_to(folder)}{advice}",
            dubious=True,
        )
    ]


def _ending(path: Path) -> str:
    """Return the suffix of a file, with the one before it where a file is packed (``.nii.gz``)."""
    packed = path.suffix.lower() in (".gz", ".bz2", ".xz", ".zip")
    return "".join(path.suffixes[-2:] if packed else path.suffixes[-1:]).lower() or "without suffix"


def _begins_as_image(path: Path) -> bool:
    try:
        with open_file(path) as file:
            return looks_like_an_image(file.read(HEAD))
    except OSError:
        return False
