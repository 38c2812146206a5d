"""Methods side by side on one task: several seeds, one table, resumable."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from segadapt.config import load_config
from segadapt.engine.checkpoint import read_json, write_atomically, write_json
from segadapt.errors import RequestError
from segadapt.run import Run


def bench_table(
    task: str,
    methods: Sequence[str],
    seeds: Sequence[int],
    out: Path,
    roots: Mapping[str, str],
    overrides: Sequence[str] = (),
    quiet: bool = False,
    on_row: Callable[[int, Mapping[str, Any]], None] = lambda seed, row: None,
) -> dict[str, Any]:
    """Run every method of a task with every seed and summarise.

    Runs lie in ``out/METHOD/seedN``. What is finished is not run again, and equal stages (such as
    the source model of a seed) are trained once. ``out/table.json`` and ``out/table.md`` are
    rewritten after every run; ``on_row`` is called with the seed and the method's row of results.
    """
    table: dict[str, Any] = {}
    known = _settings_by_method(task, methods, overrides)
    for seed in seeds:
        for method in methods:
            config = load_config(f"{task}/{method}", [*known[method], f"seed={seed}"])
            results = Run(config, out / method / f"seed{seed}", roots, quiet, reuse=(out,)).execute()
            table = summarise(task, methods, seeds, out)
            write_json(out / "table.json", table)
            _write_text(out / "table.md", markdown(table))
            for row in _own_rows(results, method):
                on_row(seed, row)
    return table


def _settings_by_method(task: str, methods: Sequence[str], overrides: Sequence[str]) -> dict[str, list[str]]:
    """The overrides that each method's recipe has a stage for; RequestError if none of them has."""
    result: dict[str, list[str]] = {method: [] for method in methods}
    for override in overrides:
        problem: RequestError | None = None
        taken = False
        for method in methods:
            try:
                load_config(f"{task}/{method}", [override])
            except RequestError as found:
                problem = found
            else:
                result[method].append(override)
                taken = True
        if not taken and problem is not None:
            raise problem
    return result


def _write_text(path: Path, text: str) -> None:
    write_atomically(path, lambda file: file.write(text.encode()))


def summarise(task: str, methods: Sequence[str], seeds: Sequence[int], out: Path) -> dict[str, Any]:
    """Mean and spread over the finished seeds, for every stage that belongs to a method."""
    rows: list[dict[str, Any]] = []
    machine: dict[str, Any] = {}
    for method in methods:
        found: dict[str, dict[int, dict[str, Any]]] = {}
        for seed in seeds:
            results = read_json(out / method / f"seed{seed}" / "results.json")
            for row in _own_rows(results, method) if results else []:
                if row["scores"] is not None:
                    labels = [summary for summary in results["labels"] if summary["stage"] == row["stage"]]
                    found.setdefault(row["stage"], {})[seed] = {**row, "labels": labels}
                    machine = results["machine"]
        summaries = [_summary(method, stage) for stage in found.values()]
        rows += [s for s in summaries if not any(_same_stage(s, row) for row in rows)]
    return {"task": task, "seeds": list(seeds), "rows": rows, "machine": machine}


def _same_stage(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether two methods share a stage, such as a warm-up, that was trained once for both."""
    return all(a[key] == b[key] for key in ("stage", "title", "seeds"))


def _own_rows(results: Mapping[str, Any], method: str) -> list[dict[str, Any]]:
    """The stages that a method's recipe is about: all that adapt, or the bound that it is."""
    role = {"source_only": "source", "oracle": "oracle"}.get(method, "adapted")
    return [dict(row) for row in results["rows"] if row["role"] == role]


def _summary(method: str, found: Mapping[int, dict[str, Any]]) -> dict[str, Any]:
    values = [row["scores"]["miou"] for row in found.values()]
    names = next(iter(found.values()))["scores"]["iou"]
    iou = {}
    for name in names:
        known = [row["scores"]["iou"][name] for row in found.values() if row["scores"]["iou"][name] is not None]
        iou[name] = statistics.mean(known) if known else None
    first = next(iter(found.values()))
    return {
        "method": method,
        "stage": first["stage"],
        "title": first["title"],
        "seeds": {str(seed): row["scores"]["miou"] for seed, row in found.items()},
        "miou": statistics.mean(values),
        "spread": statistics.stdev(values) if len(values) > 1 else None,
        "mpa": statistics.mean([row["scores"]["mpa"] for row in found.values()]),
        "iou": iou,
        "minutes": statistics.mean([row["seconds"] for row in found.values()]) / 60,
        "peak_memory_mb": max(row["peak_memory_mb"] for row in found.values()),
        "label_accuracy": _label_accuracy(found),
    }


def _label_accuracy(found: Mapping[int, dict[str, Any]]) -> float | None:
    values = [row["labels"][-1]["accuracy"] for row in found.values() if row["labels"]]
    known = [v for v in values if v is not None]
    return statistics.mean(known) if known else None


def markdown(table: Mapping[str, Any]) -> str:
    """The table as a Markdown page."""
    seeds = [str(s) for s in table["seeds"]]
    lines = [
        f"# {table['task']}",
        "",
        f"mIoU of the last checkpoint on the test images, {len(seeds)} seeds (mean, sample standard deviation).",
        "",
        "| method | mIoU | " + " | ".join(f"seed {s}" for s in seeds) + " | MPA | labels right | minutes | peak MB |",
        "|---|---|" + "---|" * len(seeds) + "---|---|---|---|",
    ]
    for row in table["rows"]:
        spread = f" ± {row['spread']:.1f}" if row["spread"] is not None else ""
        single = " | ".join(f"{row['seeds'][s]:.1f}" if s in row["seeds"] else "-" for s in seeds)
        right = f"{row['label_accuracy']:.1%}" if row["label_accuracy"] is not None else "-"
        lines.append(
            f"| {row['title']} | {row['miou']:.1f}{spread} | {single} | {row['mpa']:.1f} | {right} "
            f"| {row['minutes']:.1f} | {row['peak_memory_mb']} |"
        )
    lines += ["", "Labels right: of the last round's pseudo labels. Minutes: of the method's own stage."]
    lines += ["", "IoU by class (mean over seeds):", ""]
    names = list(table["rows"][0]["iou"]) if table["rows"] else []
    lines += ["| method | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for row in table["rows"]:
        cells = ["-" if row["iou"][n] is None else f"{row['iou'][n]:.1f}" for n in names]
        lines.append(f"| {row['title']} | " + " | ".join(cells) + " |")
    machine = table["machine"]
    if machine:
        lines += [
            "",
            f"Made with segadapt {machine['segadapt']}, torch {machine['torch']}, Python {machine['python']} on "
            f"{machine['cpu']} ({machine['cores']} cores, {machine['device']}).",
        ]
    return "\n".join(lines) + "\n"
