"""Generated parts of the pages of methods: scores, effects of parts and costs of a step, from committed measurements.

A page asks for them by lines ``<!-- begin results NAMES -->`` and ``<!-- begin cost NAMES -->``, each with its
``<!-- end results -->`` and ``<!-- end cost -->`` below. The names, with spaces between them, are those of rows in
``benchmarks/TASK.json``, or of methods in ``benchmarks/measured/step.json``; ``mic:daformer`` also compares two rows.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segadapt.bench.pages import RULE_OF_SIGNS, control_of, gain, score, sign_of, source_of
from segadapt.bench.steps import table as step_table
from segadapt.core.markdown import grid

TASKS = {"camvid_day_dusk": "day to dusk", "toy_camvid": "rendered to real", "camvid_idd": "another city"}
MACHINES = {"step": "On a CPU", "step_gpu": "On a GPU, the network and crops of the paper"}
OPENING = re.compile(r"<!-- begin (results|cost) ([\w: ]+) -->")
Table = Mapping[str, Any]
Row = Mapping[str, Any]


def blocks(pages: Mapping[Path, str], benchmarks: Path) -> dict[tuple[Path, str], tuple[str, str]]:
    """Return opening line and content of every block of results or costs, by page and kind.

    Args:
        pages: texts of the pages.
        benchmarks: folder of the measurements.
    """
    found = [(page, match) for page, text in pages.items() for match in OPENING.finditer(text)]
    if not found:
        return {}
    tables = {task: read(benchmarks / f"{task}.json")["table"] for task in TASKS}
    steps = {name: read(benchmarks / f"measured/{name}.json") for name in MACHINES}
    made = {}
    for page, match in found:
        kind, names = match[1], match[2].split()
        body = results(tables, names) if kind == "results" else costs(steps, names)
        if not body:
            sys.exit(f"{page.name}: '{match[0]}', but nothing of that name was measured")
        made[page, kind] = (match[0], body)
    return made


def read(path: Path) -> Any:
    """Return what a file of measurements holds."""
    return json.loads(path.read_text(encoding="utf-8"))


def results(tables: Mapping[str, Table], names: Sequence[str]) -> str:
    """Write the scores of methods on every task beside the bounds and the control, and what their parts bring."""
    rows = [row for table in tables.values() for row in table["rows"]]
    wanted = [name.partition(":")[0] for name in names]
    titles = dict.fromkeys((row["method"], row["title"]) for name in wanted for row in rows if row["method"] == name)
    if not titles:
        return ""
    ends = [[(row["method"], row["title"]) for row in bounds(table)] for table in tables.values()]
    before, after = ends[0][:-1], ends[0][-1:]
    lines = [
        [title, *(cell(table, method, title) for table in tables.values())]
        for method, title in [*before, *titles, *after]
    ]
    head = ["mIoU (against the control)", *(f"[{title}](../../benchmarks/{task}.md)" for task, title in TASKS.items())]
    return "\n\n".join([grid(head, lines), *parts(tables, names), *labels(tables, list(titles))])


def bounds(table: Table) -> list[Row]:
    """Return the source model, the control and the oracle of a task."""
    return [row for row in (source_of(table), control_of(table), oracle_of(table)) if row is not None]


def oracle_of(table: Table) -> Row:
    """Return the row of the model that was trained with the target's labels."""
    oracle: Row = next(row for row in table["rows"] if row["role"] == "oracle")
    return oracle


def cell(table: Table, method: str, title: str) -> str:
    """Write the score of a row, and what it gains over the control; nothing where it was not run."""
    row = next((row for row in table["rows"] if (row["method"], row["title"]) == (method, title)), None)
    if row is None:
        return ""
    control = control_of(table)
    gained = None if control is None or row is control else gain(row, control)
    return score(row) + ("" if gained is None or row["role"] == "source" else f" ({points(gained)})")


def parts(tables: Mapping[str, Table], names: Sequence[str]) -> list[str]:
    """Write what each part of the methods brings on every task, where it was measured."""
    found = [(task, one) for task, table in tables.items() for one in [*compared(table, names), *table["ablations"]]]
    found = [(task, one) for task, one in found if one["of"] in [name.partition(":")[0] for name in names]]
    if not found:
        return []
    lines = []
    for part in dict.fromkeys(one["part"] for _, one in found):
        cells = {task: effect(one) for task, one in found if one["part"] == part}
        paper = next(one["paper"] for _, one in found if one["part"] == part)
        lines.append([part, *(cells.get(task, "") for task in TASKS), paper])
    head = ["part: mIoU with it, less without it", *TASKS.values(), "expected"]
    return [grid(head, lines), f"In brackets: each seed. {RULE_OF_SIGNS}"]


def compared(table: Table, names: Sequence[str]) -> list[Row]:
    """Return as effects of parts what rows ``NAME:HOST`` gain over their hosts, seed by seed."""
    known = {row["method"]: row for row in table["rows"] if row["result"]}
    made: list[Row] = []
    for name, _, host in (name.partition(":") for name in names):
        if host and name in known and host in known:
            row, base = known[name], known[host]["seeds"]
            effects = {seed: miou - base[seed] for seed, miou in row["seeds"].items() if seed in base}
            about = {"part": f"{row['title']}, against {known[host]['title']}", "of": name, "paper": "+"}
            mean, sign = statistics.mean(effects.values()), sign_of(effects.values())
            made.append({**about, "effects": effects, "mean": mean, "sign": sign})
    return made


def effect(ablation: Row) -> str:
    """Write the mean effect of a part, the effects by seed, and its sign."""
    if len(ablation["effects"]) == 1:
        return f"{points(ablation['mean'])} (one seed)"
    seeds = ", ".join(points(value) for value in ablation["effects"].values())
    return f"{points(ablation['mean'])} ({seeds}): {ablation['sign']}"


def points(value: float) -> str:
    """Write a difference of scores; what rounds to nothing has no sign."""
    return f"{value:+.1f}" if abs(value) >= 0.05 else "0.0"


def labels(tables: Mapping[str, Table], wanted: Sequence[tuple[str, str]]) -> list[str]:
    """Write how good the pseudo labels of rows were at the end of training, where that was measured."""
    found = {
        (row["title"], kind, task): f"{one['accuracy']:.0%}, {one['density']:.0%}, {100 * one['miou']:.1f}"
        for task, table in tables.items()
        for row in table["rows"]
        if (row["method"], row["title"]) in wanted
        for kind, one in row["labels"].items()
    }
    if not found:
        return []
    kinds = dict.fromkeys((title, kind) for title, kind, _ in found)
    lines = [[f"{title}: {kind}", *(found.get((title, kind, task), "") for task in TASKS)] for title, kind in kinds]
    head = ["labels at the end: right, pixels labelled, mIoU", *TASKS.values()]
    return [grid(head, lines)]


def costs(steps: Mapping[str, Any], names: Sequence[str]) -> str:
    """Write what a step of methods costs on each machine."""
    made = []
    for machine, title in MACHINES.items():
        rows = [row for row in steps[machine]["rows"] if row["method"] in names]
        if rows:
            made.append(f"{title}:\n\n{step_table({**steps[machine], 'rows': rows})}")
    return "\n\n".join(made)
