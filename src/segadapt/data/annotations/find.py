"""Telling annotation files apart, by their content."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from segadapt.core.reading import read_file, read_text
from segadapt.data.annotations.coco import TOOL as COCO
from segadapt.data.annotations.coco import read_coco
from segadapt.data.annotations.cvat import TOOL as CVAT
from segadapt.data.annotations.cvat import read_cvat
from segadapt.data.annotations.labelme import TOOL as LABELME
from segadapt.data.annotations.labelme import labelme_picture, read_labelme
from segadapt.data.annotations.regions import Annotated, Annotations
from segadapt.data.annotations.supervisely import META, read_supervisely, supervisely_picture
from segadapt.data.annotations.supervisely import TOOL as SUPERVISELY
from segadapt.data.annotations.yolo import TOOL as YOLO
from segadapt.data.annotations.yolo import is_yolo, names_near, read_yolo
from segadapt.data.folders.listing import IMAGE_SUFFIXES, walk
from segadapt.data.folders.pairing import MASK_ENDINGS
from segadapt.data.masks.labelling import some
from segadapt.errors import RequestError

_LARGEST = 1 << 30
"""Bytes of the largest file; that of a whole COCO is half of it."""
SUFFIXES = (".json", ".txt", ".xml")
READ = "COCO JSON, YOLO segmentation text, labelme JSON, Supervisely JSON, CVAT XML"
"""The formats that are read, for messages."""
_ONE_FILE: dict[str, Callable[[Path, Any], Annotations]] = {COCO: read_coco, CVAT: read_cvat}
_PER_IMAGE = {LABELME: (labelme_picture, read_labelme), SUPERVISELY: (supervisely_picture, read_supervisely)}
_REFUSED = {
    "panoptic": "holds COCO's panoptic segments, whose masks are PNG files with colours of their own; convert them to "
    "COCO's instances or to index masks",
    "VOC": "(Pascal VOC) holds boxes, not masks; name the folder of the masks (SegmentationClass)",
    "VIA": "is a project of the VGG Image Annotator, which cannot be read; export it as COCO",
    "Label Studio": "is an export of Label Studio in its own JSON, which cannot be read; export it as COCO or as masks "
    "(PNG)",
}


def annotations_at(labels: Path, images: Path) -> Annotations | None:
    """Read the annotations that ``labels`` stands for; None where it is a folder of masks, or is missing.

    Args:
        labels: a file, or a folder of files of one tool; masks in it come first.
        images: the image folder, whose images are no masks. A list of YOLO's classes may lie there.

    Raises:
        RequestError: the files are of several tools, of none that can be read, or damaged.
    """
    if labels.is_file():
        if labels.suffix.lower() not in SUFFIXES:
            raise RequestError(f"{labels} is a file; labels are a folder of masks, or annotations: {READ}")
        return _read([labels], labels.parent, images, labels)
    if not labels.is_dir() or _masks_in(labels, images):
        return None
    return _read(list(walk(labels, SUFFIXES)), labels, images, labels)


def _masks_in(labels: Path, images: Path) -> bool:
    """Return whether there are masks in a folder: pictures that are no images."""
    here = labels.resolve() == images.resolve()
    found = walk(labels, (*IMAGE_SUFFIXES, ".gif"), leave_out=None if here else images)
    return any(not here or path.stem.endswith(MASK_ENDINGS) for path in found)


def _read(files: Sequence[Path], folder: Path, images: Path, labels: Path) -> Annotations | None:
    """Read files of one tool; None where a folder holds none. Of a folder, other files are left out."""
    single: dict[str, Annotations] = {}
    per_image: dict[str, dict[Path, Annotated]] = {}
    texts: dict[Path, str] = {}
    of: dict[str, Path] = {}
    others: list[str] = []
    for file in files:
        kind, content = _content(file)
        if kind in _REFUSED:
            raise RequestError(f"{file} {_REFUSED[kind]}")
        if kind is None:
            if file == labels:
                raise RequestError(f"{file} holds no annotations that can be read; known are {READ}")
            others += [file.name] * (file.suffix.lower() == ".json" and file.name != META)
            continue
        if kind in of and kind in _ONE_FILE:
            raise RequestError(
                f"{labels} holds several {kind} files, such as {of[kind].name} and {file.name}; name one of them"
            )
        of.setdefault(kind, file)
        if kind == YOLO:
            texts[file] = content
        elif kind in _ONE_FILE:
            single[kind] = _ONE_FILE[kind](file, content)
        else:
            per_image.setdefault(kind, {})[file] = _PER_IMAGE[kind][0](file, content)
    if not any(text.strip() for text in texts.values()) and len(of) > 1:
        of.pop(YOLO, None)  # empty text files beside other annotations
    if not of:
        return None
    if len(of) > 1:
        (one, first), (other, second) = list(of.items())[:2]
        raise RequestError(
            f"{labels} holds annotations of {one} ({first.name}) and of {other} ({second.name}); keep one of them there"
        )
    (kind,) = of
    if kind == YOLO:
        return read_yolo(texts, folder, names_near([folder, images]))
    found = single[kind] if kind in single else _PER_IMAGE[kind][1](per_image[kind], folder)
    notes = (f"{len(others)} files in {labels} hold no annotations and are left out: {some(others)}",) * bool(others)
    return found._replace(notes=(*found.notes, *notes))


def _content(file: Path) -> tuple[str | None, Any]:
    """Return the tool of a file, or the kind in messages, and its content parsed; None where it is no annotations.

    Raises:
        RequestError: it cannot be read or parsed.
    """
    if file.suffix.lower() == ".txt":
        text = _text(file)
        empty_list = not text.strip() and file.stem.lower() in ("readme", "classes", "labels", "notes")
        return (YOLO if is_yolo(text) and not empty_list else None), text
    if file.suffix.lower() == ".json":
        try:
            tree = json.loads(_text(file))
        except ValueError as problem:
            raise RequestError(f"{file} is damaged JSON ({' '.join(str(problem).split())}); save it again") from None
        return kind_of(tree), tree
    try:
        root = ElementTree.fromstring(read_file(file, _LARGEST))
    except (ElementTree.ParseError, OSError) as problem:
        raise RequestError(f"{file} cannot be read ({problem}); export it again") from None
    if root.tag == "annotations" and root.find("image") is not None:
        return CVAT, root
    return ("VOC" if root.tag == "annotation" else None), root


def kind_of(tree: Any) -> str | None:
    """Return the tool, or the kind in messages, that parsed JSON is of; None where it is no annotations."""
    if isinstance(tree, list):
        tasks = bool(tree) and all(isinstance(t, Mapping) and {"data", "annotations"} <= set(t) for t in tree)
        return "Label Studio" if tasks else None
    if not isinstance(tree, Mapping):
        return None
    if isinstance(tree.get("shapes"), list):
        return LABELME
    if isinstance(tree.get("objects"), list) and ("size" in tree or "description" in tree):
        return SUPERVISELY
    entries = tree.get("annotations")
    if isinstance(entries, list) and "images" in tree:
        return "panoptic" if entries and isinstance(entries[0], Mapping) and "segments_info" in entries[0] else COCO
    projects = tree.get("_via_img_metadata", tree)
    values = list(projects.values()) if isinstance(projects, Mapping) else []
    if values and all(isinstance(v, Mapping) and {"filename", "regions"} <= set(v) for v in values):
        return "VIA"
    return None


def _text(file: Path) -> str:
    try:
        return read_text(file, _LARGEST)
    except UnicodeDecodeError:
        raise RequestError(f"{file} is not a text file in UTF-8; save it again") from None
    except OSError as problem:
        raise RequestError(f"{file} cannot be read: {problem.strerror}") from None
