"""The tables of a study: rows as in ``segadapt bench table``, ablations beside their rows, and what is missing."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segadapt.bench.pages import markdown, sign_of
from segadapt.bench.study import Job, Study, task_folder
from segadapt.bench.table import summarise
from segadapt.core.files import write_json, write_text


def write_tables(study: Study, out: Path, reasons: Mapping[Job, str]) -> dict[str, Any]:
    """Write ``table.json`` and ``table.md`` of all tasks from the finished stages.

    Args:
        study: see :func:`segadapt.bench.study.read_study`.
        out: folder of the results.
        reasons: why each missing run is missing.

    Returns:
        The tables by task: what :func:`segadapt.bench.table.summarise` returns for the rows that are no ablations and
        the seeds that were run, with ``ablations`` (see :func:`ablations_of`) and ``left_out``, a reason by
        ``ROW, seed N``. A task without any result has an empty table, which is not written.
    """
    tables: dict[str, Any] = {}
    for task in study.tasks:
        folder = task_folder(task, out)
        rows = [row for row in study.rows_of(task) if (folder / row).is_dir()]
        table = summarise(task, [row for row in rows if not study.rows[row].of], study.seeds, folder)
        table["rows"].sort(key=lambda row: row["role"] == "oracle")  # as in `bench table`, the upper bound is last
        table["seeds"] = [seed for seed in study.seeds if any(str(seed) in row["seeds"] for row in table["rows"])]
        table["ablations"] = ablations_of(study, [row for row in rows if study.rows[row].of], folder)
        table["left_out"] = {f"{job.row}, seed {job.seed}": why for job, why in reasons.items() if job.task == task}
        if table["rows"]:
            write_json(folder / "table.json", table)
            write_text(folder / "table.md", markdown(table))
        tables[task] = table
    return tables


def ablations_of(study: Study, names: Sequence[str], folder: Path) -> list[dict[str, Any]]:
    """Compare ablations with their rows, seed by seed, at the stage that the ablation ends with.

    Args:
        study: see :func:`segadapt.bench.study.read_study`.
        names: rows that are ablations.
        folder: folder of the runs of a task.

    Returns:
        For each ablation with a seed in common with its row: ``row``, ``of``, ``part``, ``paper`` and ``settings`` of
        the study; its ``miou``; ``effects``, by seed the mIoU with the part minus the mIoU without it, their ``mean``,
        sample standard deviation ``spread`` (None for one seed), and ``sign`` by
        :data:`segadapt.bench.pages.RULE_OF_SIGNS`.
    """
    found = []
    for name in names:
        row = study.rows[name]
        with_part = {r["stage"]: r for r in summarise(name, [row.of], study.seeds, folder)["rows"]}
        without = summarise(name, [name], study.seeds, folder)["rows"]
        if not without or without[-1]["stage"] not in with_part:
            continue
        own, other = without[-1], with_part[without[-1]["stage"]]
        effects = {s: other["seeds"][s] - miou for s, miou in own["seeds"].items() if s in other["seeds"]}
        if effects:
            values = list(effects.values())
            found.append(
                {
                    "row": name,
                    "of": row.of,
                    "part": row.part,
                    "paper": row.paper,
                    "settings": list(row.set),
                    "miou": own["miou"],
                    "effects": effects,
                    "mean": statistics.mean(values),
                    "spread": statistics.stdev(values) if len(values) > 1 else None,
                    "sign": sign_of(values),
                }
            )
    return found
