"""Supervisely: a JSON file per image, with bitmaps and polygons that are painted in their order."""

from __future__ import annotations

import base64
import binascii
import io
import json
import zlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from segadapt.core.limits import most_pixels
from segadapt.core.reading import read_text
from segadapt.data.annotations.regions import (
    Annotated,
    Annotations,
    Mask,
    Region,
    digest_of,
    filled,
    placed,
    points_of,
    reach_of,
    size_of,
)
from segadapt.errors import RequestError

TOOL = "Supervisely"
META = "meta.json"
_FOLDERS_UP = 2


def read_supervisely(files: Mapping[Path, Annotated], folder: Path) -> Annotations:
    """Return all that Supervisely's files say, each parsed by :func:`supervisely_picture`.

    Args:
        files: what each file says.
        folder: above the files; the classes come from the ``meta.json`` in or above it, where there is one.
    """
    used = sorted({region.name for picture in files.values() for region in picture.regions})
    keys = {}
    for file, picture in files.items():
        parts = file.relative_to(folder).with_suffix("").parts  # street.jpg.json, or in old projects street.json
        keys["/".join("img" if part == "ann" else part for part in parts)] = picture
    return Annotations(TOOL, tuple(dict.fromkeys([*_titles(folder), *used])), keys)


def supervisely_picture(file: Path, tree: Mapping[str, Any]) -> Annotated:
    """Read the content of one file.

    Raises:
        RequestError: an object is neither bitmap nor polygon, or cannot be used.
    """
    objects, said = tree["objects"], tree.get("size")
    size: Mapping[str, Any] = said if isinstance(said, Mapping) else {}
    regions = tuple(_region(thing, f"{file}: object {number}") for number, thing in enumerate(objects, 1))
    shape = size_of(size.get("height"), size.get("width"))
    kept = [[o["classTitle"], o.get("bitmap"), o.get("points")] for o in objects]
    return Annotated(file, regions, shape, digest_of([shape, kept]))


def _titles(folder: Path) -> list[str]:
    for place in (folder, *folder.absolute().parents[:_FOLDERS_UP]):
        try:
            classes = json.loads(read_text(place / META))["classes"]
            return [str(c["title"]) for c in classes]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
    return []


def _region(thing: Any, where: str) -> Region:
    if not isinstance(thing, Mapping) or not isinstance(thing.get("classTitle"), str):
        raise RequestError(f"{where} has no classTitle; export the project again")
    name, kind = thing["classTitle"], thing.get("geometryType") or ("bitmap" if thing.get("bitmap") else "polygon")
    where = f"{where} ('{name}', {kind})"
    if kind == "bitmap":
        given: Mapping[str, Any] = thing["bitmap"] if isinstance(thing.get("bitmap"), Mapping) else {}
        ((left, top),) = points_of([given.get("origin")], where).round().astype(int)
        return Region(name, partial(placed, _png(given.get("data"), where), int(left), int(top), where=where))
    if kind == "polygon":
        given = thing["points"] if isinstance(thing.get("points"), Mapping) else {}
        holes: Sequence[Any] = given["interior"] if isinstance(given.get("interior"), list) else ()
        outer = points_of(given.get("exterior"), where, 3).round()
        inner = [points_of(hole, where, 3).round() for hole in holes]
        return Region(name, partial(filled, outer, inner), reach=max(map(reach_of, (outer, *inner))))
    raise RequestError(f"{where} cannot be read; known are bitmap and polygon: turn it into one of them, or remove it")


def _png(text: Any, where: str) -> Mask:
    try:
        with Image.open(io.BytesIO(zlib.decompress(base64.b64decode(text, validate=True))), formats=["PNG"]) as image:
            if image.width * image.height > most_pixels():
                raise ValueError
            if "transparency" in image.info or image.mode in ("LA", "PA", "RGBA"):
                return np.asarray(image.convert("RGBA"))[..., 3] > 0
            return np.asarray(image.convert("L")) > 0
    except (binascii.Error, zlib.error, TypeError, ValueError, OSError, SyntaxError):
        raise RequestError(f"{where} has a bitmap that is no packed PNG in base64; export the project again") from None
