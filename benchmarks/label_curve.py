"""The measured section of docs/few_labels.md: mIoU by the number of labelled target images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.cells import cell, in_words

TITLES = {"camvid_day_dusk": "day to dusk", "toy_camvid": "toy world to CamVid"}
BEGIN, END = "<!-- begin few labels -->", "<!-- end few labels -->"
TEXT = """## Measured

{rows}

mIoU in percent of the last checkpoint on the test images, {seeds}. MIC on `lite`, images of 240x180, crops of
128x96, {steps} steps from the source model of the seed, values by the rules of [short runs](short_runs.md). Images of
"random" are drawn by the seed of the run; those of "suggested" are named by the source model of the seed. 62 labels are
all target images of the dusk drive, 100 are of the 367 of CamVid. Machine: {machine}.{note} All numbers:
`benchmarks/measured/few_labels.json`, by `python -m benchmarks.few_labels`."""


def section(measured: Mapping[str, Any]) -> str:
    """Return the section: the table, and how it was measured.

    Args:
        measured: ``machine``, perhaps a ``note``, and ``runs`` with ``task``, ``labels``, ``choice`` (random or
            suggested), ``seed`` and ``miou``.
    """
    runs: Sequence[Mapping[str, Any]] = measured["runs"]
    counts, seeds = sorted({run["labels"] for run in runs}), sorted({run["seed"] for run in runs})
    columns = [(task, choice) for task in TITLES for choice in ("random", "suggested")]
    columns = [(task, choice) for task, choice in columns if any(run["task"] == task for run in runs)]
    lines = [
        ["labelled images", *(f"{TITLES[task]}, {choice}" for task, choice in columns)],
        ["---"] * (1 + len(columns)),
    ]
    for count in counts:
        found = [
            {
                run["seed"]: run["miou"]
                for run in runs
                if (run["task"], run["choice"], run["labels"]) == (task, choice, count)
            }
            for task, choice in columns
        ]
        lines.append([str(count), *(cell(scores, seeds) for scores in found)])
    rows = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    several = f"seeds {', '.join(map(str, seeds))} (mean ± sample standard deviation)"
    return TEXT.format(
        rows=rows,
        seeds=several if len(seeds) > 1 else f"seed {seeds[0]} alone",
        steps=runs[0]["steps"],
        machine=in_words(measured["machine"]),
        note=f" {measured['note']}" if measured.get("note") else "",
    )
