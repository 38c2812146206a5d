"""Prepare the part of the report that tells without labels how the stages compare, and which model is recommended."""

from __future__ import annotations

from typing import Any

from segadapt.evaluation.criteria import CRITERIA
from segadapt.report import words
from segadapt.report.reading import RunRecord


def judged_stages(record: RunRecord) -> dict[str, Any] | None:
    """Return the verdict ``line``, the number of ``images``, and ``stages`` with criteria; None without a verdict.

    A stage has ``title``, whether it is ``recommended``, and ``values``, texts in the order of ``criteria``: name and
    meaning of those that are known of any stage.
    """
    held = record.guard
    if not held:
        return None
    stages = {stage: found for stage, found in held["stages"].items() if isinstance(found, dict)}
    known = {name: text for name, text in CRITERIA.items() if any(f.get(name) is not None for f in stages.values())}
    return {
        "line": str(held["line"]),
        "images": held["images"],
        "criteria": [{"name": name, "meaning": text} for name, text in known.items()],
        "stages": [
            {
                "title": record.titles.get(stage, stage),
                "recommended": stage == held["recommended"],
                "values": [_number(found.get(name)) for name in known],
            }
            for stage, found in stages.items()
        ],
    }


def _number(value: float | None) -> str:
    if value is None or abs(value) >= 10:
        return words.score(value)
    return f"{value:.2f}".replace("-", words.MINUS)
