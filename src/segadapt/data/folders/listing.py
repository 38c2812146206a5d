"""Finding files on the disk and pairing images with labels, with one-line errors that say how to fix them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from segadapt.core.reading import read_text
from segadapt.data.dataset import Dataset, Item
from segadapt.data.decode import read_picture
from segadapt.data.files.formats import IMAGE_SUFFIXES as IMAGE_SUFFIXES
from segadapt.data.masks.labelling import ReadLabel, SizedLabels, no_labels
from segadapt.errors import RequestError
from segadapt.labels import LabelSpace

LARGEST_LIST = 64 << 20
"""Bytes of the largest list of files: a million of long names."""


def files_below(folder: Path, leave_out: Path | None = None) -> Iterator[Path]:
    """Yield all that lies below ``folder`` and is no folder, sorted; not what is hidden, nor what is in ``leave_out``.

    Links are followed, but each folder is entered once, so that a link to a folder above it ends. Links that lead
    nowhere, pipes and devices are yielded too.

    Raises:
        RequestError: a folder below cannot be listed.
    """
    entered = {leave_out.resolve()} - {folder.resolve()} if leave_out is not None else set()
    for place, folders, files in os.walk(folder, followlinks=True, onerror=_refuse_folder):
        here = Path(place)
        real = here.resolve()
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for name in sorted(files):
            if not name.startswith("."):
                yield here / name


def walk(folder: Path, suffixes: Sequence[str] = IMAGE_SUFFIXES, leave_out: Path | None = None) -> Iterator[Path]:
    """Yield those of :func:`files_below` that have one of the suffixes and are files."""
    endings = tuple(suffix.lower() for suffix in suffixes)
    for path in files_below(folder, leave_out):
        if path.name.lower().endswith(endings) and path.is_file():
            yield path


def _refuse_folder(problem: OSError) -> None:
    raise RequestError(f"the folder {problem.filename} cannot be read: {problem.strerror or problem}") from None


def folder_in(root: Path, *parts: str, who: str, hint: str = "") -> Path:
    """Return the sub-folder ``parts`` of ``root``; RequestError naming it when it is missing."""
    if not root.is_dir():
        raise RequestError(f"{who}: the folder {root} does not exist")
    folder = root.joinpath(*parts)
    if not folder.is_dir():
        raise RequestError(f"{who}: {root} has no folder '{'/'.join(parts)}'{'; ' + hint if hint else ''}")
    return folder


def files_in(folder: Path, endings: Sequence[str], who: str) -> list[Path]:
    """List the files below ``folder`` with one of the endings, sorted; RequestError when there are none."""
    found = list(walk(folder, endings))
    if not found:
        raise RequestError(f"{who}: no file *{' or *'.join(endings)} in {folder}")
    return found


def read_list(file: Path, who: str) -> list[str]:
    """Return the lines of a list file that are not empty, without their spaces at both ends.

    Raises:
        RequestError: the file cannot be read, or lists nothing.
    """
    try:
        lines = [line.strip() for line in read_text(file, LARGEST_LIST).splitlines() if line.strip()]
    except OSError as problem:
        raise RequestError(f"{who}: the list file {file} cannot be read: {problem.strerror}") from None
    except UnicodeDecodeError:
        raise RequestError(f"{who}: the list file {file} is not a text file") from None
    if not lines:
        raise RequestError(f"{who}: the list file {file} is empty; write one image per line")
    return lines


def chosen(file: Path, folder: Path, images: Sequence[Path], who: str) -> list[Path]:
    """Return the images of a folder that a list file names, in the order of the folder.

    A line is a path below the folder or the end of one (``0.png`` for ``x/0.png``), with or without suffix.

    Raises:
        RequestError: the list cannot be read, or a line names no image or several.
    """
    whole: dict[str, list[Path]] = {}
    ends: dict[str, list[Path]] = {}
    for path in images:
        inside = path.relative_to(folder)
        for parts in (inside.parts, inside.with_suffix("").parts):
            whole.setdefault("/".join(parts), []).append(path)
            for start in range(1, len(parts)):
                ends.setdefault("/".join(parts[start:]), []).append(path)
    lines = read_list(file, who)
    found = {line: whole.get(line) or ends.get(line) or [] for line in lines}
    lacking = [line for line, paths in found.items() if not paths]
    if lacking:
        raise RequestError(
            f"{who}: {len(lacking)} of {len(found)} lines of {file} name no image in {folder}, the first is "
            f"'{lacking[0]}'; a line is a path below that folder"
        )
    for line, paths in found.items():
        if len(paths) > 1:
            raise RequestError(
                f"{who}: '{line}' in {file} may be {paths[0]} or {paths[1]}; write the path below {folder}, with suffix"
            )
    wanted = {paths[0] for paths in found.values()}
    return [path for path in images if path in wanted]


def by_id(files: Sequence[Path], who: str, ending: str = "") -> dict[str, Path]:
    """Key files by their name without ``ending`` or else without suffix; RequestError when two share a name."""
    found: dict[str, Path] = {}
    for path in files:
        name = path.name[: -len(ending)] if ending else path.stem
        if name in found:
            raise RequestError(f"{who}: two images are named '{name}': {found[name]} and {path}; remove one of them")
        found[name] = path
    return found


def build(
    name: str,
    space: LabelSpace,
    images: dict[str, Path],
    label_of: Callable[[str, Path], Path] | None,
    read_label: ReadLabel,
    resize_labels: bool = False,
) -> Dataset:
    """Build a data set from images by id.

    Args:
        name: for messages.
        space: of ``read_label``.
        images: id -> image file.
        label_of: from id and image file to label file; None leaves the data set without labels,
            and no path to a label is ever formed.
        read_label: decodes a label file.
        resize_labels: see :class:`SizedLabels`.

    Raises:
        RequestError: an image has no label.
    """
    if label_of is None:
        return Dataset(name, space, tuple(Item(i, images[i]) for i in sorted(images)), read_picture, no_labels)
    labels = {i: label_of(i, images[i]) for i in sorted(images)}
    items = tuple(Item(i, images[i], label) for i, label in labels.items())
    require_labels(name, items)
    partner = {label: images[i] for i, label in labels.items()}
    return Dataset(name, space, items, read_picture, SizedLabels(read_label, partner, resize_labels))


def require_labels(name: str, items: Sequence[Item]) -> None:
    """Raise RequestError where images have no label file; it names the first and says how many they are."""
    lacking = [item for item in items if not isinstance(item.label, Path) or not item.label.is_file()]
    if lacking:
        first = lacking[0]
        expected = f" (expected {first.label})" if first.label is not None else ""
        raise RequestError(
            f"{name}: {len(lacking)} of {len(items)} images have no label, the first is {first.image}{expected}; "
            "add the labels, or take these images out"
        )
