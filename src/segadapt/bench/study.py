"""A study: rows of recipes on several tasks and seeds, all rows of a task from one source model, resumable.

A study file says what is compared::

    seeds: [0, 1, 2]
    tasks: {camvid_day_dusk: {}, camvid_idd: {rows: [source_only, control, cbst]}}   # the rows of a task; all without
    rows:                                                                            # in order of importance
      source_only: {}
      control: {recipe: source_only, title: Source only for longer, set: [source.steps=1000]}
      mic: {}
      mic_all: {recipe: mic, of: mic, part: trust q, paper: +, set: [adapt.masked_confidence=false]}

A row is a recipe of the task (by its own name, or ``recipe``) with the settings ``set``. The row ``source_only`` is
trained first; every other row starts from its model of the same seed. A row ``of`` another one is an ablation: it lacks
a ``part`` whose effect in the paper has the sign ``paper``; it waits for the other row and takes over equal stages.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

from segadapt.bench.table import markdown, summarise
from segadapt.core.files import read_json, write_json, write_text
from segadapt.core.settings import Settings, checked
from segadapt.errors import RequestError, RunError, nearest
from segadapt.recipes import read_recipe, resolved_stages
from segadapt.recipes.merging import parse_yaml
from segadapt.runs.config import RunConfig, load_config
from segadapt.runs.networks import MODEL

SOURCE = "source_only"
"""Row and recipe that every other row of a task starts from."""


_PATIENCE = 60
"""Seconds that a run has to save its state before it is killed."""


class Row(Settings):
    """A row of a study.

    Attributes:
        recipe: recipe of the task; the name of the row if empty.
        title: title in tables; if empty, the title of the recipe's result.
        set: settings that differ from the recipe.
        of: row that this one is an ablation of.
        part: what this row lacks, in words.
        paper: sign of the effect of the part in the paper: ``+``, ``-``, ``0`` or empty.
    """

    recipe: str = ""
    title: str = ""
    set: tuple[str, ...] = ()
    of: str = ""
    part: str = ""
    paper: str = ""


class TaskRows(Settings):
    """Rows and settings that a study runs of a task.

    Attributes:
        rows: names of rows; null for all.
        set: settings of every row.
    """

    rows: tuple[str, ...] | None = None
    set: tuple[str, ...] = ()


class Study(Settings):
    """A study file.

    Attributes:
        seeds: one run per row and seed.
        tasks: tasks by name.
        rows: rows by name, the most important ones first.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    tasks: dict[str, TaskRows]
    rows: dict[str, Row]


@dataclass(frozen=True)
class Job:
    """One run of a study."""

    task: str
    row: str
    seed: int

    def folder(self, out: Path) -> Path:
        """Return the folder of the run."""
        return out / self.task / self.row / f"seed{self.seed}"

    def __str__(self) -> str:
        return f"{self.task}/{self.row}, seed {self.seed}"


class _Running(NamedTuple):
    """The process of a job, where its complaint comes from, and when it was started."""

    process: BaseProcess
    complaints: Connection
    since: float

    def problem(self) -> str:
        """Return why the ended process left no result."""
        try:
            return str(self.complaints.recv())
        except EOFError:
            return f"its process ended with status {self.process.exitcode}, perhaps for lack of memory"


def read_study(path: Path) -> Study:
    """Read a study file.

    Raises:
        RequestError: there is no such file, or it is not a study.
    """
    if not path.is_file():
        raise RequestError(f"no study file '{path}'")
    raw = parse_yaml(path.read_text(encoding="utf-8"))
    if not isinstance(raw, Mapping):
        raise RequestError(f"study '{path}' is not a mapping with tasks and rows")
    study = checked(Study, {**raw, "rows": {k: v or {} for k, v in (raw.get("rows") or {}).items()}}, f"study '{path}'")
    known = list(study.rows)
    if SOURCE not in known:
        raise RequestError(f"study '{path}' has no row '{SOURCE}', which the others start from")
    for task, chosen in study.tasks.items():
        for name in chosen.rows or ():
            if name not in known:
                raise RequestError(f"study '{path}': task '{task}' names no row '{name}'{nearest(name, known)}")
    for name, row in study.rows.items():
        if row.of and row.of not in known:
            raise RequestError(
                f"study '{path}': row '{name}' is of '{row.of}', which is no row{nearest(row.of, known)}"
            )
    return study


def jobs_of(study: Study) -> list[Job]:
    """List the runs of a study, the most important ones first: rows, then seeds, then tasks."""
    return [
        Job(task, row, seed)
        for row in study.rows
        for seed in study.seeds
        for task, chosen in study.tasks.items()
        if chosen.rows is None or row in chosen.rows
    ]


def config_of(study: Study, job: Job, out: Path) -> RunConfig:
    """Return the configuration of a run; rows other than ``source_only`` start from its model.

    Raises:
        RequestError: there is no such recipe, or a setting is wrong.
    """
    row = study.rows[job.row]
    recipe = f"{job.task}/{row.recipe or job.row}"
    changes = [*study.tasks[job.task].set, *row.set, f"seed={job.seed}"]
    stages = list(resolved_stages(read_recipe(recipe), recipe))
    if job.row != SOURCE:
        model = (Job(job.task, SOURCE, job.seed).folder(out) / "stages" / "source" / MODEL).absolute()
        if len(stages) > 1:
            changes.append("source=null")
            stages = [stage for stage in stages if stage != "source"]
        kept = next(stage for stage in stages if f"{stage}=null" not in changes)
        changes.append(f"{kept}.initial='{model}'")
    if row.title:
        last = [stage for stage in stages if f"{stage}=null" not in changes][-1]
        changes.append(f"{last}.title='{row.title}'")
    return load_config(recipe, changes)


def run_study(
    study: Study,
    out: Path,
    roots: Mapping[str, str],
    *,
    workers: int = 1,
    minutes: float | None = None,
    seeds: Sequence[int] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Run what is missing of a study and write ``out/TASK/table.json`` and ``table.md`` for every task.

    Args:
        study: see :func:`read_study`.
        out: folder of the results; a study that was stopped goes on there.
        roots: folder of each data set by name.
        workers: runs at a time, one process each.
        minutes: stop after about as many, with the state of unfinished runs saved; None for no limit.
        seeds: of the study's seeds only these.
        say: takes a line about every run that ends.

    Returns:
        The tables by task; ``left_out`` of each names runs that are missing and why.

    Raises:
        RequestError: a setting of any row is wrong; found before anything runs.
    """
    study = study if seeds is None else study.model_copy(update={"seeds": tuple(seeds)})
    jobs = jobs_of(study)
    for job in jobs:
        config_of(study, job, out)
    started = time.monotonic()
    deadline = None if minutes is None else started + 60 * minutes
    waiting = [job for job in jobs if not _finished(job, out)]
    say(f"{len(jobs)} runs, {len(jobs) - len(waiting)} done before")
    problems: dict[Job, str] = {}
    running: dict[Job, _Running] = {}
    try:
        while waiting or running:
            for job in _ready(waiting, out, study, workers - len(running)):
                waiting.remove(job)
                running[job] = _started(study, job, out, roots)
            left = None if deadline is None else deadline - time.monotonic()
            if not running or (left is not None and left <= 0):
                break  # what waits needs a run that failed, or time is up
            wait([run.process.sentinel for run in running.values()], left)
            for job in [job for job, run in running.items() if not run.process.is_alive()]:
                ended = running.pop(job)
                if not _finished(job, out):
                    problems[job] = ended.problem()
                score = problems.get(job) or _score(job, out)
                say(f"{job}: {score} ({(time.monotonic() - ended.since) / 60:.1f} min, {len(waiting)} waiting)")
    finally:
        for run in running.values():
            run.process.terminate()  # a run saves its state and stops
        for run in running.values():
            run.process.join(_PATIENCE)
            run.process.kill()
    reasons = {job: problems.get(job, "not run yet") for job in jobs if not _finished(job, out)}
    return write_tables(study, out, reasons)


def _ready(waiting: Iterable[Job], out: Path, study: Study, free: int) -> list[Job]:
    """Return the first waiting jobs that can start: their source model, and the row they are an ablation of, exist."""
    found: list[Job] = []
    for job in waiting:
        if len(found) >= free:
            break
        needed = {SOURCE, study.rows[job.row].of} - {job.row, ""}
        if all(_finished(Job(job.task, row, job.seed), out) for row in needed):
            found.append(job)
    return found


def _started(study: Study, job: Job, out: Path, roots: Mapping[str, str]) -> _Running:
    """Start the process of a job; the modules that it needs are imported once for all of them."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["segadapt.runs.run", "segadapt.bench.study"])
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(study, job, out, dict(roots), there), name=str(job))
    process.start()
    there.close()
    return _Running(process, here, time.monotonic())


def _run(study: Study, job: Job, out: Path, roots: Mapping[str, str], complaints: Connection) -> None:
    """Run a job in a process of its own; send why it failed."""
    from segadapt.runs.run import Run

    of = study.rows[job.row].of
    reuse = [Job(job.task, of, job.seed).folder(out)] if of else []
    try:
        run = Run.open(config_of(study, job, out), job.folder(out), roots, quiet=True, reuse=reuse)
        run.execute(pictures=False)
    except (RequestError, RunError) as error:
        complaints.send(str(error))
    except Exception as error:  # one run must not take the study with it
        complaints.send(f"{type(error).__name__}: {error}")


def _finished(job: Job, out: Path) -> bool:
    held, results = read_json(job.folder(out) / "config.json"), read_json(job.folder(out) / "results.json")
    return bool(held and results) and len(results["rows"]) == len(held["config"]["stages"])


def _score(job: Job, out: Path) -> str:
    results = read_json(job.folder(out) / "results.json") or {"rows": []}
    scores = [row["scores"]["miou"] for row in results["rows"] if row["scores"] is not None]
    return "mIoU " + ", ".join(f"{score:.1f}" for score in scores)


def write_tables(study: Study, out: Path, reasons: Mapping[Job, str]) -> dict[str, Any]:
    """Write the tables of all tasks from the finished runs; return them by task."""
    tables: dict[str, Any] = {}
    for task in study.tasks:
        names = [row for row in study.rows if (out / task / row).is_dir()]
        main = [row for row in names if not study.rows[row].of]
        table = summarise(task, main, study.seeds, out / task)
        table["ablations"] = _ablations(study, task, [row for row in names if study.rows[row].of], out / task)
        table["left_out"] = {f"{job.row}, seed {job.seed}": why for job, why in reasons.items() if job.task == task}
        if table["rows"]:
            write_json(out / task / "table.json", table)
            write_text(out / task / "table.md", markdown(table))
        tables[task] = table
    return tables


def _ablations(study: Study, task: str, names: Sequence[str], out: Path) -> list[dict[str, Any]]:
    """Compare each ablation with its row, seed by seed, at the stage that the ablation ends with."""
    found = []
    for name in names:
        row = study.rows[name]
        with_part = {r["stage"]: r for r in summarise(task, [row.of], study.seeds, out)["rows"]}
        without = summarise(task, [name], study.seeds, out)["rows"]
        if not without or without[-1]["stage"] not in with_part:
            continue
        own, other = without[-1], with_part[without[-1]["stage"]]
        seeds = {s: other["seeds"][s] - miou for s, miou in own["seeds"].items() if s in other["seeds"]}
        if seeds:
            found.append(
                {
                    "row": name,
                    "of": row.of,
                    "part": row.part,
                    "paper": row.paper,
                    "settings": list(row.set),
                    "miou": own["miou"],
                    "effects": seeds,
                }
            )
    return found
