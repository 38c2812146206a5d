"""Read the pictures of a run and pack them into the page: every different picture once, as a data URI.

:mod:`segadapt.report.write_pictures` and :mod:`segadapt.report.write_prototypes` write the pictures and list
them in the file :data:`INDEX`.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator
from typing_extensions import NotRequired, TypedDict

from segadapt.core.documents import read_document
from segadapt.core.files import read_json
from segadapt.core.names import require_ids
from segadapt.report.figures import css_color
from segadapt.report.log import number

PICTURES = "pictures"
"""Folder of the pictures, below the folder of a run."""
INDEX = "index.json"
"""List of all pictures: ``test``, ``pseudo`` and ``prototypes``."""

WIDEST = 1024
"""Largest width in pixels of a test picture."""
SHEET_WIDTH = 640
"""Largest width in pixels of pictures shown side by side."""
THUMBNAIL_WIDTH = 200
UNLIMITED = 1 << 14
"""Wider than any picture of a run."""
_JPEG_START = b"\xff\xd8\xff"
_LOSSLESS = [cv2.IMWRITE_WEBP_QUALITY, 101]


@dataclass
class Album:
    """The pictures on the page; entries hold keys into ``assets``, or None for an absent picture.

    Attributes:
        assets: data URI by key.
        test: id, image, thumb, width, height, truth, stages {stage: {label, confidence}}.
        pseudo: id, stage, round, image, label, confidence, density (share of labelled pixels).
        prototypes: stage, colors, pictured, classes [{name, counts}], images [{id, image, which, pixels,
            classes [{name, counts, maps}]}]; see :mod:`segadapt.report.prototypes`.
    """

    assets: dict[str, str] = field(default_factory=dict)
    test: list[dict[str, Any]] = field(default_factory=list)
    pseudo: list[dict[str, Any]] = field(default_factory=list)
    prototypes: list[dict[str, Any]] = field(default_factory=list)

    def add(self, kind: str, data: bytes) -> str:
        """Keep a picture and return its key; equal pictures share one key."""
        key = hashlib.sha256(data).hexdigest()[:12]
        self.assets[key] = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
        return key


def _inside(name: str) -> str:
    require_ids([name], "pictures")
    return name


class _Test(TypedDict):
    id: str
    image: Annotated[str, AfterValidator(_inside)]
    truth: str | None
    stages: dict[str, Any]


class _OfStage(TypedDict):
    stage: str


class _Index(TypedDict):
    test: list[_Test]
    pseudo: list[_OfStage]
    prototypes: NotRequired[list[_OfStage]]


def picture_index(folder: Path) -> dict[str, Any]:
    """Read the list of pictures below ``folder``, for adding to it; without entries if it is missing.

    Raises:
        RequestError: it is damaged.
    """
    mend = f"remove '{folder}' and the files 'shown' of the stages: the next start of the run draws them again"
    return read_document(folder / INDEX, _Index, mend) or {"test": [], "pseudo": []}


def read_album(folder: Path) -> Album:
    """Read the pictures below ``folder``; missing or damaged ones are left out."""
    album, index = Album(), read_json(folder / INDEX)
    index = index if isinstance(index, dict) else {}
    for entry in _entries(index.get("test")):
        data = _bytes(folder, entry.get("image"))
        image = _decode(data)
        if image is None:
            continue
        stages = entry.get("stages")
        stages = stages if isinstance(stages, dict) else {}
        album.test.append(
            {
                "id": str(entry.get("id", "")),
                "image": album.add("jpeg", data if data.startswith(_JPEG_START) else _jpeg(image, 90)),
                "thumb": album.add("jpeg", _jpeg(_at_most(image, THUMBNAIL_WIDTH), 80)),
                "width": image.shape[1],
                "height": image.shape[0],
                "truth": _label(album, folder, entry.get("truth")),
                "stages": {str(k): _prediction(album, folder, v) for k, v in stages.items() if isinstance(v, dict)},
            }
        )
    for entry in _entries(index.get("pseudo")):
        image = _decode(_bytes(folder, entry.get("image")))
        turn = number(entry.get("round"))
        if image is None or turn is None:
            continue
        album.pseudo.append(
            {
                "id": str(entry.get("id", "")),
                "stage": str(entry.get("stage", "")),
                "round": int(turn),
                "image": album.add("jpeg", _jpeg(_at_most(image, SHEET_WIDTH), 85)),
                "label": _label(album, folder, entry.get("label"), SHEET_WIDTH),
                "confidence": _photo(album, folder, entry.get("confidence"), SHEET_WIDTH),
                "density": number(entry.get("density")),
            }
        )
    album.prototypes = [_prototypes(album, folder, entry) for entry in _entries(index.get("prototypes"))]
    return album


def _prototypes(album: Album, folder: Path, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Read how classes divide between prototypes in one stage; classes without counts are left out."""
    images = [
        {
            "id": str(image.get("id", "")),
            "image": _photo(album, folder, image.get("image"), SHEET_WIDTH),
            "which": _photo(album, folder, image.get("which"), SHEET_WIDTH),
            "pixels": number(image.get("pixels")),
            "classes": [
                {**counted, "maps": [_photo(album, folder, path, SHEET_WIDTH) for path in _list(raw.get("maps"))]}
                for raw in _entries(image.get("classes"))
                if (counted := _counted(raw))
            ],
        }
        for image in _entries(entry.get("images"))
    ]
    colors = [[int(number(c) or 0) for c in color] for color in _list(entry.get("colors")) if len(_list(color)) == 3]
    return {
        "stage": str(entry.get("stage", "")),
        "colors": [css_color(color) for color in colors],
        "pictured": number(entry.get("pictured")),
        "classes": [counted for raw in _entries(entry.get("classes")) if (counted := _counted(raw))],
        "images": images,
    }


def _counted(raw: Mapping[str, Any]) -> dict[str, Any] | None:
    """Read the name of a class and the pixels of each of its prototypes; None if one is unknown."""
    counts = [number(count) for count in _list(raw.get("counts"))]
    if not counts or any(count is None or count < 0 for count in counts):
        return None
    return {"name": str(raw.get("name", "")), "counts": counts}


def _list(raw: Any) -> list[Any]:
    return raw if isinstance(raw, list) else []


def _prediction(album: Album, folder: Path, paths: Mapping[str, Any]) -> dict[str, str | None]:
    """Keep a stage's prediction and confidence, and return their keys."""
    return {
        "label": _label(album, folder, paths.get("label")),
        "confidence": _photo(album, folder, paths.get("confidence")),
    }


def _entries(raw: Any) -> list[dict[str, Any]]:
    return [entry for entry in raw if isinstance(entry, dict)] if isinstance(raw, list) else []


def _bytes(folder: Path, name: Any) -> bytes:
    """Read a file; empty if it is missing or lies outside ``folder``."""
    if not isinstance(name, str) or not name:
        return b""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        return b""
    return path.read_bytes()


def _decode(data: bytes) -> npt.NDArray[np.uint8] | None:
    """Decode a picture [H, W, 3] in OpenCV's channel order, or return None."""
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    return None if picture is None else np.asarray(picture, np.uint8)


def fitting(height: int, width: int, widest: int) -> tuple[int, int]:
    """Return (height, width) of a picture shrunk to at most ``widest`` pixels of width."""
    scale = min(1.0, widest / width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _at_most(picture: npt.NDArray[np.uint8], widest: int, method: int = cv2.INTER_AREA) -> npt.NDArray[np.uint8]:
    """Shrink a picture to at most ``widest`` pixels of width."""
    if picture.shape[1] <= widest:
        return picture
    height, width = fitting(picture.shape[0], picture.shape[1], widest)
    return np.asarray(cv2.resize(picture, (width, height), interpolation=method), np.uint8)


def _jpeg(picture: npt.NDArray[np.uint8], quality: int) -> bytes:
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def _photo(album: Album, folder: Path, name: Any, width: int = UNLIMITED) -> str | None:
    """Keep a picture as JPEG and return its key, or None if it is missing or damaged."""
    picture = _decode(_bytes(folder, name))
    return None if picture is None else album.add("jpeg", _jpeg(_at_most(picture, width), 85))


def _label(album: Album, folder: Path, name: Any, width: int = UNLIMITED) -> str | None:
    """Keep a coloured label map, lossless, and return its key; black (unlabelled) pixels become transparent."""
    picture = _decode(_bytes(folder, name))
    if picture is None:
        return None
    picture = _at_most(picture, width, cv2.INTER_NEAREST)
    seen = np.where(picture.any(-1), 255, 0).astype(np.uint8)
    data = cv2.imencode(".webp", np.dstack([picture, seen]), _LOSSLESS)[1].tobytes()
    return album.add("webp", data)
