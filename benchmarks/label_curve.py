"""The table of docs/few_labels.md: mIoU by the number of labelled target images, from measured/few_labels.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any

TITLES = {"camvid_day_dusk": "day to dusk", "toy_camvid": "toy world to CamVid"}
BEGIN, END = "<!-- begin few labels -->", "<!-- end few labels -->"


def table(measured: Mapping[str, Any]) -> str:
    """Return the table, and a line on seeds and machine.

    Args:
        measured: ``machine``, and ``runs`` with ``task``, ``labels``, ``choice`` (random or suggested), ``seed`` and
            ``miou``.
    """
    runs: Sequence[Mapping[str, Any]] = measured["runs"]
    counts = sorted({run["labels"] for run in runs})
    columns = [(task, choice) for task in TITLES for choice in ("random", "suggested")]
    columns = [(task, choice) for task, choice in columns if any(run["task"] == task for run in runs)]
    lines = [
        ["labelled images", *(f"{TITLES[task]}, {choice}" for task, choice in columns)],
        ["---"] * (1 + len(columns)),
    ]
    for count in counts:
        found = [
            [run["miou"] for run in runs if (run["task"], run["choice"], run["labels"]) == (task, choice, count)]
            for task, choice in columns
        ]
        lines.append([str(count), *map(_cell, found)])
    rows = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    seeds = sorted({run["seed"] for run in runs})
    kept = ", ".join(f"{key} {value}" for key, value in measured["machine"].items())
    several = (
        f"seeds {', '.join(map(str, seeds))} (mean ± sample standard deviation)"
        if len(seeds) > 1
        else f"seed {seeds[0]} alone"
    )
    return f"{rows}\n\nmIoU in percent of the last checkpoint on the test images, {several}. Machine: {kept}."


def _cell(scores: Sequence[float]) -> str:
    if not scores:
        return ""
    return f"{mean(scores):.1f} ± {stdev(scores):.1f}" if len(scores) > 1 else f"{scores[0]:.1f}"
