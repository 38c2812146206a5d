"""The pictures of a run, packed into the page: every different picture once, as a data URI."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from segadapt.core.files import read_json
from segadapt.report.log import number

THUMBNAIL_WIDTH = 200
SHEET_WIDTH = 640
_JPEG_START = b"\xff\xd8\xff"
_LOSSLESS = [cv2.IMWRITE_WEBP_QUALITY, 101]


@dataclass
class Album:
    """What the page shows: pictures of test and pseudo labels, with keys into ``assets``.

    Attributes:
        assets: data URI by key.
        test: id, image, thumb, truth, ``stages`` {stage: {label, confidence}}; absent ones are None.
        pseudo: id, stage, round, image, label, confidence, density.
        prototypes: stage, colors, pictured, classes [{name, counts}], images [{id, image, which, pixels,
            classes [{name, counts, maps}]}]; see :mod:`segadapt.report.prototypes`.
    """

    assets: dict[str, str] = field(default_factory=dict)
    test: list[dict[str, Any]] = field(default_factory=list)
    pseudo: list[dict[str, Any]] = field(default_factory=list)
    prototypes: list[dict[str, Any]] = field(default_factory=list)

    def add(self, kind: str, data: bytes) -> str:
        """Keep a picture and return its key; equal pictures share one."""
        key = hashlib.sha256(data).hexdigest()[:12]
        self.assets[key] = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
        return key


def read_album(folder: Path) -> Album:
    """The pictures below ``folder``; those that are missing or damaged are left out."""
    album = Album()
    index = read_json(folder / "index.json")
    if not isinstance(index, dict):
        return album
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
    """How classes divide between prototypes in one stage; classes without counts are left out."""
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
    colors = [[number(c) or 0 for c in color] for color in _list(entry.get("colors")) if len(_list(color)) == 3]
    return {
        "stage": str(entry.get("stage", "")),
        "colors": ["#" + "".join(f"{min(max(int(c), 0), 255):02x}" for c in color) for color in colors],
        "pictured": number(entry.get("pictured")),
        "classes": [counted for raw in _entries(entry.get("classes")) if (counted := _counted(raw))],
        "images": images,
    }


def _counted(raw: Mapping[str, Any]) -> dict[str, Any] | None:
    """Name of a class and pixels of each of its prototypes; None where one is not known."""
    counts = [number(count) for count in _list(raw.get("counts"))]
    if not counts or any(count is None or count < 0 for count in counts):
        return None
    return {"name": str(raw.get("name", "")), "counts": counts}


def _list(raw: Any) -> list[Any]:
    return raw if isinstance(raw, list) else []


def _prediction(album: Album, folder: Path, paths: Mapping[str, Any]) -> dict[str, str | None]:
    return {
        "label": _label(album, folder, paths.get("label")),
        "confidence": _photo(album, folder, paths.get("confidence")),
    }


def _entries(raw: Any) -> list[dict[str, Any]]:
    return [entry for entry in raw if isinstance(entry, dict)] if isinstance(raw, list) else []


def _bytes(folder: Path, name: Any) -> bytes:
    """The content of a file, empty when there is none. Nothing outside ``folder`` is read."""
    if not isinstance(name, str) or not name:
        return b""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        return b""
    return path.read_bytes()


def _decode(data: bytes) -> npt.NDArray[np.uint8] | None:
    """A picture [H, W, 3] in OpenCV's channel order, or None."""
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    return None if picture is None else np.asarray(picture, np.uint8)


def _at_most(picture: npt.NDArray[np.uint8], width: int, method: int = cv2.INTER_AREA) -> npt.NDArray[np.uint8]:
    if picture.shape[1] <= width:
        return picture
    height = max(1, round(picture.shape[0] * width / picture.shape[1]))
    return np.asarray(cv2.resize(picture, (width, height), interpolation=method), np.uint8)


def _jpeg(picture: npt.NDArray[np.uint8], quality: int) -> bytes:
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def _photo(album: Album, folder: Path, name: Any, width: int = 1 << 14) -> str | None:
    picture = _decode(_bytes(folder, name))
    return None if picture is None else album.add("jpeg", _jpeg(_at_most(picture, width), 85))


def _label(album: Album, folder: Path, name: Any, width: int = 1 << 14) -> str | None:
    """A coloured label, lossless, with its black (ignored or unlabelled) pixels made transparent."""
    picture = _decode(_bytes(folder, name))
    if picture is None:
        return None
    picture = _at_most(picture, width, cv2.INTER_NEAREST)
    seen = np.where(picture.any(-1), 255, 0).astype(np.uint8)
    data = cv2.imencode(".webp", np.dstack([picture, seen]), _LOSSLESS)[1].tobytes()
    return album.add("webp", data)
