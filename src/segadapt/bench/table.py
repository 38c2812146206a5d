"""Compare methods on one task: several seeds, one table, resumable."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from segadapt.bench.folds import fold_scores, folds_by_recipe, over_folds, runs_of
from segadapt.bench.measures import averaged, measures
from segadapt.bench.pages import markdown
from segadapt.core.files import read_events, write_json, write_text
from segadapt.core.names import file_name
from segadapt.engine.run_files import read_held, read_results
from segadapt.errors import RequestError, nearest
from segadapt.methods.registry import METHODS
from segadapt.recipes import recipe_names
from segadapt.recipes.ledger import rows_of
from segadapt.runs.config import build_config, load_config
from segadapt.runs.folds import Fold
from segadapt.runs.ledger import published_rows
from segadapt.runs.run import Run

SOURCE_ONLY = "source_only"
"""Method that trains on the source alone; a recipe of it whose role is ``adapted`` is a control."""


def task_recipes(task: str) -> list[str]:
    """List the recipes of a task: source only, the methods in the registry's order, the oracle.

    A variant stands beside its method: ``mpcl_centroid`` belongs to ``mpcl``. A recipe with a name that starts
    with no method belongs to the method of its last stage.

    Args:
        task: a task that ships with the library, or a folder of recipes.

    Returns:
        Names of recipes without the task.

    Raises:
        RequestError: there is no such task.
    """
    shipped = [recipe.partition("/") for recipe in recipe_names()]
    names = [name for shipped_task, _, name in shipped if shipped_task == task]
    if not names:
        names = [path.stem for path in Path(task).glob("*.yaml") if not path.stem.startswith("_")]
    if not names:
        tasks = sorted({shipped_task for shipped_task, _, _ in shipped})
        known = ", ".join(tasks)
        raise RequestError(f"no task '{task}'{nearest(task, tasks)}; name a folder of recipes or one of: {known}")
    return sorted(names, key=lambda name: _place(task, name))


def _place(task: str, recipe: str) -> tuple[bool, int, str]:
    """Return a sort key: the place of a recipe among the recipes of its task."""
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
    *,
    overrides: Sequence[str] = (),
    folds: int | None = None,
    quiet: bool = False,
    on_row: Callable[[int, Mapping[str, Any]], None] = lambda seed, row: None,
) -> dict[str, Any]:
    """Run the recipes of a task with every seed and summarise the results.

    Finished stages are not run again, and equal stages (such as the source model of a seed) are trained
    once. Recipes of the task that were run into ``out`` before stay in the table.

    Args:
        task: a task that ships with the library, or a folder of recipes.
        methods: names of recipes without the task; None takes all of them (:func:`task_recipes`).
        seeds: random seeds; one run per recipe and seed.
        out: folder of the results. Runs lie in ``out/METHOD/seedN``, those of folds in ``out/METHOD/foldKofN/seedN``;
            ``out/table.json`` and ``out/table.md`` are rewritten after every run.
        roots: folder of each data set by name.
        overrides: settings as ``stage.key=value``. Each applies to the recipes that have the setting; at
            least one recipe must have it.
        folds: number of folds of the target images: each recipe is run as often, adapted to all images but a fold and
            tested on it (``data.fold``), and a row is the mean over them (:func:`segadapt.bench.folds.over_folds`).
            Recipes that test on other images than their target's have no folds and are run once. None changes nothing.
        quiet: show no progress.
        on_row: called after a run with its seed and each of its rows of results; ``fold`` in it is ``K/N``, or "".

    Returns:
        The table as in ``out/table.json``, see :func:`summarise`; with ``published``, where there are such, the rows of
        the ledger that its rows stand beside, see :func:`segadapt.runs.ledger.published_rows`.

    Raises:
        RequestError: there is no such task, recipe or setting, or no recipe can be run in folds.

    Example::

        roots = {"camvid": "/data/camvid"}
        table = bench_table("camvid_day_dusk", ["source_only", "cbst"], [0, 1], Path("bench"), roots)
        print(markdown(table))
    """
    methods = task_recipes(task) if methods is None else [file_name(name, "recipe") for name in methods]
    table: dict[str, Any] = {}
    taken = _overrides_by_recipe(task, methods, overrides)
    folded = folds_by_recipe(task, taken, folds)
    out.mkdir(parents=True, exist_ok=True)
    for seed, method in itertools.product(seeds, methods):
        for fold, folder in runs_of(out, method, seed, folded[method]).items():
            chosen = [f"data.fold={fold}"] if fold is not None else []
            config = load_config(f"{task}/{method}", [*taken[method], f"seed={seed}", *chosen])
            Run.open(config, folder, roots, quiet=quiet, reuse=(out,)).execute()
            table = summarise(task, _measured(task, methods, out), seeds, out, folds)
            if beside := _published(table, out):
                table["published"] = beside
            write_json(out / "table.json", table)
            write_text(out / "table.md", markdown(table))
            for row in _own_rows(folder):
                on_row(seed, {**row, "fold": str(fold or "")})
    return table


def _measured(task: str, methods: Sequence[str], out: Path) -> list[str]:
    """List the recipes asked for and the task's recipes that were run before, in the order of the table."""
    known = task_recipes(task)
    others = [name for name in methods if name not in known]  # of methods of other packages
    return [name for name in known if name in methods or (out / name).is_dir()] + others


def _overrides_by_recipe(task: str, methods: Sequence[str], overrides: Sequence[str]) -> dict[str, list[str]]:
    """Return, per recipe, the overrides that it has a stage or setting for.

    Raises:
        RequestError: no recipe has the stage or setting of an override.
    """
    result: dict[str, list[str]] = {method: [] for method in methods}
    for override in overrides:
        refusals: list[RequestError] = []
        for method in methods:
            try:
                load_config(f"{task}/{method}", [override])
            except RequestError as problem:
                refusals.append(problem)
            else:
                result[method].append(override)
        if refusals and len(refusals) == len(methods):
            raise refusals[-1]
    return result


def summarise(
    task: str, methods: Sequence[str], seeds: Sequence[int], out: Path, folds: int | None = None
) -> dict[str, Any]:
    """Compute mean and spread over the finished seeds, for every stage that belongs to a method.

    Args:
        task: name of the task.
        methods: recipes, in the order of the rows.
        seeds: seeds to look for; unfinished ones are left out.
        out: folder of the runs, see :func:`bench_table`.
        folds: number of folds; recipes that were not run in so many have the results of their one run.

    Returns:
        ``task``, ``seeds``, ``rows``, ``machine`` and, where given, ``folds``. A row has the recipe (``method``), the
        ``stage`` and its ``title``, ``network``, ``role`` (``source``, ``adapted``, ``oracle``), ``result`` (whether
        the recipe ends with this stage), and its numbers: mIoU in percent per seed (``seeds``), mean
        ``miou`` and sample standard deviation ``spread`` (None for one seed), mean ``mpa`` and ``iou`` per
        class in percent, ``minutes``, ``peak_memory_mb``, and ``label_accuracy`` in 0 .. 1 or None. ``control`` tells
        that an adapted row was trained on the source alone. The means over seeds of :mod:`segadapt.bench.measures`
        are ``steps``; at the end of the stage ``q``, the share of sure pixels in [0, 1] or None, ``labels``, the
        ``accuracy``, ``miou`` and ``density`` of labels made during training by their kind, in [0, 1], and
        ``prototypes``, numbers by name; and shares of each class in the predictions on the test images
        (``predicted``, None where unknown) and in the truth (``truth``), in [0, 1]. A row over folds has ``folds`` and
        ``fold_spread`` of :func:`segadapt.bench.folds.fold_scores` too.
    """
    rows: list[dict[str, Any]] = []
    machine: dict[str, Any] = {}
    for method in methods:
        by_stage: dict[str, dict[int, dict[str, Any]]] = {}
        for seed in seeds:
            for row in _rows_of_seed(out, method, seed, folds):
                by_stage.setdefault(row["stage"], {})[seed] = row
                machine = machine or row["machine"]
        for by_seed in by_stage.values():
            _add(rows, _summary(method, by_seed))
    table = {"task": task, "seeds": list(seeds), "rows": rows, "machine": machine}
    return {**table, "folds": folds} if folds else table


def _rows_of_seed(out: Path, method: str, seed: int, folds: int | None) -> list[dict[str, Any]]:
    """Return the scored stages of a recipe with a seed: of its one run, or over its folds."""
    by_stage: dict[str, dict[Fold, dict[str, Any]]] = {}
    for fold, folder in runs_of(out, method, seed, folds).items() if folds else ():
        for row in _own_rows(folder):
            if row["scores"] is not None and fold is not None:
                by_stage.setdefault(row["stage"], {})[fold] = row
    if by_stage:
        return [over_folds(found) for found in by_stage.values()]
    (folder,) = runs_of(out, method, seed).values()
    return [row for row in _own_rows(folder) if row["scores"] is not None]


def _published(table: Mapping[str, Any], out: Path) -> list[dict[str, Any]]:
    """Return the rows of the ledger that the rows of a table stand beside, with the name of the row (``title``)."""
    found = []
    for row in table["rows"]:
        folds = len(row.get("folds", ()))
        run = next(iter(runs_of(out, row["method"], int(next(iter(row["seeds"]))), folds and table["folds"]).values()))
        held = read_held(run) if row["result"] else None
        if held and rows_of(held["config"]["title"]):
            config = build_config(held["config"], held["config"]["title"])
            stages = [{"stage": row["stage"], "scores": row}]
            beside = published_rows(config, stages, folds)
            found += [{"title": row["title"], **entry} for entry in beside]
    return found


def _add(rows: list[dict[str, Any]], summary: dict[str, Any]) -> None:
    """Add a row, unless the stage (such as a warm-up) was trained once for this recipe and another one.

    Such a stage is listed once, under the recipe that ends with it.
    """
    same = next((r for r in rows if all(r[key] == summary[key] for key in ("stage", "title", "seeds"))), None)
    if same is None:
        rows.append(summary)
    elif summary["result"]:
        same.update(method=summary["method"], result=True)


def _own_rows(folder: Path) -> list[dict[str, Any]]:
    """Read the results of a run's own finished stages: all that adapt, or the last one if none does."""
    held, results = read_held(folder), read_results(folder)
    if not held or not results:
        return []
    stages = held["config"]["stages"]
    own = [stage["name"] for stage in stages if stage["role"] == "adapted"] or [stages[-1]["name"]]
    networks = {stage["name"]: stage["network"]["name"] for stage in stages if stage.get("network")}
    events = list(read_events(folder / "log.jsonl"))
    return [
        {
            **row,
            "result": row["stage"] == own[-1],
            "labels": [summary for summary in results["labels"] if summary["stage"] == row["stage"]],
            "network": networks.get(row["stage"], held["config"]["model"]["name"]),
            "machine": results["machine"],
            "measures": measures(events, row) if row["scores"] is not None else None,
        }
        for row in results["rows"]
        if row["stage"] in own
    ]


def _summary(method: str, by_seed: Mapping[int, dict[str, Any]]) -> dict[str, Any]:
    """Summarise one stage of a recipe over its finished seeds."""
    scores = [row["scores"] for row in by_seed.values()]
    values = [score["miou"] for score in scores]
    first = next(iter(by_seed.values()))
    return {
        "method": method,
        "stage": first["stage"],
        "title": first["title"],
        "network": first["network"],
        "role": first["role"],
        "control": first["role"] == "adapted" and first["method"] == SOURCE_ONLY,
        "result": first["result"],
        "seeds": {str(seed): row["scores"]["miou"] for seed, row in by_seed.items()},
        "miou": statistics.mean(values),
        "spread": statistics.stdev(values) if len(values) > 1 else None,
        "mpa": statistics.mean([score["mpa"] for score in scores]),
        "iou": averaged([score["iou"] for score in scores]),
        "minutes": statistics.mean([row["seconds"] for row in by_seed.values()]) / 60,
        "peak_memory_mb": max(row["peak_memory_mb"] for row in by_seed.values()),
        "label_accuracy": _label_accuracy(by_seed),
        **averaged([row["measures"] for row in by_seed.values()]),
        **fold_scores(by_seed),
    }


def _label_accuracy(by_seed: Mapping[int, dict[str, Any]]) -> float | None:
    """Average the accuracy of the last round's pseudo labels over seeds; None if it was not measured."""
    values = [row["labels"][-1]["accuracy"] for row in by_seed.values() if row["labels"]]
    known = [v for v in values if v is not None]
    return statistics.mean(known) if known else None
