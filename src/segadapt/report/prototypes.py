"""Prepare for the page how the pixels of classes divide between their prototypes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from segadapt.report import words
from segadapt.report.figures import stacked_bar
from segadapt.report.pictures import Album
from segadapt.report.reading import RunRecord

USED = 0.01
"""A prototype with a smaller share of its class's pixels counts as unused."""


def prototype_stages(record: RunRecord, album: Album, svg: Any) -> list[dict[str, Any]]:
    """Prepare the section of each stage with prototypes, in the order of the run.

    Returns:
        For each stage: key, title, each (K), signs [{number, color}], least (least share of a prototype in use),
        pictured (number of images counted), images [{id, image, which, rows [{name, part, tiles [{number,
        color, share, map}]}]}], lines [{name, figure, used, each, largest}] of all classes with pixels, unseen
        (names of classes without pixels).
    """
    known = {entry["stage"]: entry for entry in album.prototypes if entry["colors"] and entry["classes"]}
    return [{"key": s, "title": title, **_stage(known[s], svg)} for s, title in record.ordered(known).items()]


def _stage(entry: dict[str, Any], svg: Any) -> dict[str, Any]:
    """Prepare the section of one stage."""
    colors = entry["colors"]
    seen = [c for c in entry["classes"] if sum(c["counts"])]
    images = [
        {**image, "rows": [_row(c, image["pixels"], colors) for c in image["classes"] if any(c["maps"])]}
        for image in entry["images"]
    ]
    return {
        "each": len(colors),
        "signs": [{"number": k + 1, "color": color} for k, color in enumerate(colors)],
        "least": f"{100 * USED:g}%",
        "pictured": entry["pictured"],
        "images": [image for image in images if image["rows"] or image["which"]],
        "lines": [_line(c, colors, svg) for c in seen],
        "unseen": [c["name"] for c in entry["classes"] if c not in seen],
    }


def _row(found: dict[str, Any], pixels: float | None, colors: Sequence[str]) -> dict[str, Any]:
    """Prepare the maps of a class in an image, with its share of the image and the shares of its prototypes."""
    tiles = [
        {"number": k + 1, "color": colors[k % len(colors)], "share": share, "map": key}
        for k, (share, key) in enumerate(zip(_shares(found["counts"]), found["maps"], strict=False))
        if key
    ]
    return {"name": found["name"], "part": sum(found["counts"]) / pixels if pixels else None, "tiles": tiles}


def _line(found: dict[str, Any], colors: Sequence[str], svg: Any) -> dict[str, Any]:
    """Prepare the line of one class over all counted images."""
    shares = _shares(found["counts"])
    spoken = [f"prototype {k + 1}: {words.share(share)}" for k, share in enumerate(shares)]
    parts = [(text, share, colors[k % len(colors)]) for k, (text, share) in enumerate(zip(spoken, shares, strict=True))]
    return {
        "name": found["name"],
        "figure": svg(stacked_bar(parts, f"{found['name']}: {', '.join(spoken)}")),
        "used": sum(share >= USED for share in shares),
        "each": len(shares),
        "largest": max(shares),
    }


def _shares(counts: Sequence[float]) -> list[float]:
    whole = sum(counts)
    return [count / whole if whole else 0.0 for count in counts]
