"""The measured section of docs/no_source.md: what adapting without source images is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.cells import cell, in_words

METHODS = {"cbst": "CBST", "mic": "MIC", "best": "best"}
BEGIN, END = "<!-- begin no source -->", "<!-- end no source -->"
TEXT = """## Measured

camvid, day to dusk: {steps} steps on crops of 96 x 128 pixels from the source model of each seed, with and without the
577 source images; mIoU in percent of the last checkpoint, mean and sample standard deviation over seeds {seeds}.

{rows}

Machine: {machine}. `python -m benchmarks.no_source` makes these numbers."""


def section(measured: Mapping[str, Any]) -> str:
    """Return the section: mIoU of the given model, and after adapting it with and without source.

    Args:
        measured: ``machine``, ``steps`` and ``runs`` with ``method``, ``source`` (whether it had source images),
            ``seed`` and the mIoU ``before`` and ``after``.
    """
    runs: Sequence[Mapping[str, Any]] = measured["runs"]
    seeds = sorted({run["seed"] for run in runs})
    given = cell({run["seed"]: run["before"] for run in runs}, seeds)
    lines = ["| method | without source | with source |", "|---|---|---|", f"| the given model | {given} | |"]
    for method, title in METHODS.items():
        columns = [
            {run["seed"]: run["after"] for run in runs if run["method"] == method and run["source"] is source}
            for source in (False, True)
        ]
        lines.append(f"| {title} | {' | '.join(cell(scores, seeds) for scores in columns)} |")
    return TEXT.format(
        steps=measured["steps"],
        seeds=", ".join(map(str, seeds)),
        rows="\n".join(lines),
        machine=in_words(measured["machine"]),
    )
