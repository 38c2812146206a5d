"""The files of the page: a fixed table, read once before the first request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from segadapt.core.limits import most_pixels
from segadapt.data.files.formats import IMAGE_SUFFIXES
from segadapt.report.page import TEMPLATES
from segadapt.serve.models import Served
from segadapt.serve.results import KINDS

PAGE = Path(__file__).parent / "page"
_HTML, _CSS, _JS = ("text/html; charset=utf-8", "text/css; charset=utf-8", "text/javascript; charset=utf-8")
_FILES = {
    "": (PAGE / "index.html", _HTML),
    "serve.css": (PAGE / "serve.css", _CSS),
    "serve.js": (PAGE / "serve.js", _JS),
    "viewer.js": (PAGE / "viewer.js", _JS),
    "details.js": (PAGE / "details.js", _JS),
    "report.css": (TEMPLATES / "report.css", _CSS),
    "slider.js": (TEMPLATES / "slider.js", _JS),
}


class PageFile(NamedTuple):
    """A file as it is sent."""

    content: bytes
    kind: str


def page_files(served: Served, upload: int, results: int) -> dict[str, PageFile]:
    """Return all that is the same for every request, by its address behind the root.

    Args:
        served: the models.
        upload: bytes of the largest image.
        results: most results that are kept.
    """
    facts = json.dumps(facts_of(served, upload, results)).encode()
    files = {address: PageFile(path.read_bytes(), kind) for address, (path, kind) in _FILES.items()}
    return {**files, "facts.json": PageFile(facts, "application/json")}


def facts_of(served: Served, upload: int, results: int) -> dict[str, Any]:
    """Return all that the page has to know before the first image, as plain JSON values."""
    space = served.space
    return {
        "title": served.title,
        "models": [{"key": model.key, "title": model.title} for model in served.models],
        "recommended": served.recommended,
        "why": served.why,
        "classes": [
            {"name": name, "color": list(color)} for name, color in zip(space.names, space.colors, strict=True)
        ],
        "ids": served.masks.ids,
        "kinds": KINDS,
        "suffixes": list(IMAGE_SUFFIXES),
        "limits": {"upload": upload, "pixels": most_pixels(), "results": results},
    }
