"""Methods side by side on one task: several seeds, one table, resumable."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from segadapt.core.files import read_json, write_json, write_text
from segadapt.errors import RequestError, nearest
from segadapt.methods.registry import METHODS
from segadapt.recipes import recipe_names
from segadapt.runs.config import load_config
from segadapt.runs.run import Run


def task_recipes(task: str) -> list[str]:
    """The recipes of a task in the order of the house: source only, the methods, the oracle.

    A variant stands beside its method: ``mpcl_centroid`` is one of ``mpcl``, and a recipe with a name of its own
    belongs to the method that it ends with. ``task`` is one that ships, or a folder of recipes.
    """
    shipped = [recipe.partition("/") for recipe in recipe_names()]
    names = [name for of, _, name in shipped if of == task]
    if not names:
        names = [path.stem for path in Path(task).glob("*.yaml") if not path.stem.startswith("_")]
    if not names:
        tasks = sorted({of for of, _, _ in shipped})
        raise RequestError(f"no task '{task}'{nearest(task, tasks)}; there are: {', '.join(tasks)}")
    return sorted(names, key=lambda name: _place(task, name))


def _place(task: str, recipe: str) -> tuple[bool, int, str]:
    """Where a recipe stands among those of its task."""
    order = list(METHODS)
    named = [name for name in order if recipe == name or recipe.startswith(f"{name}_")]
    method = max(named, key=len) if named else load_config(f"{task}/{recipe}").stages[-1].method
    return method == "oracle", order.index(method), recipe


def bench_table(
    task: str,
    methods: Sequence[str] | None,
    seeds: Sequence[int],
    out: Path,
    roots: Mapping[str, str],
    overrides: Sequence[str] = (),
    quiet: bool = False,
    on_row: Callable[[int, Mapping[str, Any]], None] = lambda seed, row: None,
) -> dict[str, Any]:
    """Run the recipes of a task with every seed and summarise.

    ``methods`` are their names; None takes all of them (:func:`task_recipes`). Runs lie in
    ``out/METHOD/seedN``. What is finished is not run again, and equal stages (such as the source model
    of a seed) are trained once. ``out/table.json`` and ``out/table.md`` are rewritten after every run;
    ``on_row`` is called with the seed and the method's row of results.
    """
    methods = task_recipes(task) if methods is None else methods
    table: dict[str, Any] = {}
    known = _settings_by_method(task, methods, overrides)
    out.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        for method in methods:
            config = load_config(f"{task}/{method}", [*known[method], f"seed={seed}"])
            folder = out / method / f"seed{seed}"
            Run.open(config, folder, roots, quiet=quiet, reuse=(out,)).execute()
            table = summarise(task, _measured(task, methods, out), seeds, out)
            write_json(out / "table.json", table)
            write_text(out / "table.md", markdown(table))
            for row in _own_rows(folder):
                on_row(seed, row)
    return table


def _measured(task: str, methods: Sequence[str], out: Path) -> list[str]:
    """The recipes asked for and those of the task that were run before, in the order of the house."""
    return [name for name in task_recipes(task) if name in methods or (out / name).is_dir()]


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


def summarise(task: str, methods: Sequence[str], seeds: Sequence[int], out: Path) -> dict[str, Any]:
    """Mean and spread over the finished seeds, for every stage that belongs to a method.

    A row has the recipe (``method``), the stage and its title, its ``role`` (``source``, ``adapted``,
    ``oracle``), whether it is the ``result`` of the recipe or a stage on the way, and its numbers.
    """
    rows: list[dict[str, Any]] = []
    machine: dict[str, Any] = {}
    for method in methods:
        found: dict[str, dict[int, dict[str, Any]]] = {}
        for seed in seeds:
            folder = out / method / f"seed{seed}"
            for row in _own_rows(folder):
                if row["scores"] is not None:
                    found.setdefault(row["stage"], {})[seed] = row
                    machine = row["machine"]
        for stage in found.values():
            _add(rows, _summary(method, stage))
    return {"task": task, "seeds": list(seeds), "rows": rows, "machine": machine}


def _add(rows: list[dict[str, Any]], summary: dict[str, Any]) -> None:
    """Add a row, unless it is a stage (such as a warm-up) that was trained once for this recipe and another.

    It then stands under the recipe that it is the result of.
    """
    same = next((r for r in rows if all(r[key] == summary[key] for key in ("stage", "title", "seeds"))), None)
    if same is None:
        rows.append(summary)
    elif summary["result"]:
        same.update(method=summary["method"], result=True)


def _own_rows(folder: Path) -> list[dict[str, Any]]:
    """Results of the finished stages that a run is about: all that adapt, or the bound that it ends with."""
    held, results = read_json(folder / "config.json"), read_json(folder / "results.json")
    if not held or not results:
        return []
    stages = held["config"]["stages"]
    own = [stage["name"] for stage in stages if stage["role"] == "adapted"] or [stages[-1]["name"]]
    networks = {stage["name"]: stage["network"]["name"] for stage in stages if stage.get("network")}
    return [
        {
            **row,
            "result": row["stage"] == own[-1],
            "labels": [summary for summary in results["labels"] if summary["stage"] == row["stage"]],
            "network": networks.get(row["stage"], held["config"]["model"]["name"]),
            "machine": results["machine"],
        }
        for row in results["rows"]
        if row["stage"] in own
    ]


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
        "network": first["network"],
        "role": first["role"],
        "result": first["result"],
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
    return f"# {table['task']}\n\n{tables(table)}"


def _counted(seeds: Sequence[str]) -> str:
    return f"{len(seeds)} seeds (mean, sample standard deviation)" if len(seeds) > 1 else "one seed"


def tables(table: Mapping[str, Any]) -> str:
    """All stages by seed, their IoU by class, and the machine, in Markdown."""
    seeds = [str(s) for s in table["seeds"]]
    lines = [
        f"mIoU of the last checkpoint on the test images, {_counted(seeds)}.",
        "",
        "| method | network | mIoU | "
        + " | ".join(f"seed {s}" for s in seeds)
        + " | MPA | labels right | minutes | peak MB |",
        "|---|---|---|" + "---|" * len(seeds) + "---|---|---|---|",
    ]
    for row in table["rows"]:
        spread = f" ± {row['spread']:.1f}" if row["spread"] is not None else ""
        single = " | ".join(f"{row['seeds'][s]:.1f}" if s in row["seeds"] else "-" for s in seeds)
        right = f"{row['label_accuracy']:.1%}" if row["label_accuracy"] is not None else "-"
        lines.append(
            f"| {row['title']} | `{row['network']}` | {row['miou']:.1f}{spread} | {single} | {row['mpa']:.1f} "
            f"| {right} | {row['minutes']:.1f} | {row['peak_memory_mb']} |"
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
