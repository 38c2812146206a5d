"""A study: rows of recipes on several tasks and seeds, all rows of a task from one source model.

A study file says what is compared; :mod:`segadapt.bench.study_runs` runs it::

    seeds: [0, 1, 2]
    tasks: {camvid_day_dusk: {}, camvid_idd: {rows: [source_only, control, cbst]}}   # the rows of a task; all without
    rows:                                                                            # in order of importance
      source_only: {}
      control: {recipe: source_only, title: Source only for longer, set: [source.steps=1000, source.role=adapted]}
      mic: {}
      mic_all: {recipe: mic, of: mic, part: trust q, paper: +, set: [adapt.masked_confidence=false]}

A row is a recipe of the task (by its own name, or ``recipe``) with the settings ``set``. The row ``source_only`` is
trained first; every other row starts from its model of the same seed. A row ``of`` another one is an ablation: it lacks
a ``part`` whose effect in the paper has the sign ``paper``; it waits for the other row and takes over equal stages. An
adapted row that trains on the source alone is a control; methods are compared with the first one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field

from segadapt.core.names import file_name
from segadapt.core.settings import Settings, checked
from segadapt.engine.run_files import read_held, read_results
from segadapt.errors import RequestError, nearest
from segadapt.methods.stage_config import StageConfig
from segadapt.recipes.merging import parse_yaml
from segadapt.runs.config import RunConfig, load_config
from segadapt.runs.fingerprint import differing_settings
from segadapt.runs.networks import MODEL

SOURCE = "source_only"
"""Row and recipe that every other row of a task starts from."""


class Row(Settings):
    """A row of a study.

    Attributes:
        recipe: recipe of the task; the name of the row if empty.
        title: title in tables; if empty, the title of the recipe's result.
        set: settings that differ from the recipe.
        of: row that this one is an ablation of.
        part: what this row lacks, in words.
        seeds: of the study's seeds only these; null for all.
        paper: sign of the effect of the part in the paper: ``+``, ``-``, ``0`` or empty.
    """

    recipe: str = ""
    title: str = ""
    set: tuple[str, ...] = ()
    of: str = ""
    part: str = ""
    seeds: tuple[int, ...] | None = None
    paper: Literal["+", "-", "0", ""] = ""


class TaskRows(Settings):
    """Choice of rows for a task.

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
        tasks: tasks by name; a task is one that ships with the library, or a folder of recipes.
        rows: rows by name, the most important ones first.
        plugins: packages to import, beside those that the recipes name.
    """

    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    tasks: dict[str, TaskRows] = Field(min_length=1)
    rows: dict[str, Row]
    plugins: tuple[str, ...] = ()

    def rows_of(self, task: str) -> list[str]:
        """List the rows of a task, the most important ones first."""
        chosen = self.tasks[task].rows
        return [row for row in self.rows if chosen is None or row in chosen]


@dataclass(frozen=True)
class Job:
    """One run of a study."""

    task: str
    row: str
    seed: int

    def folder(self, out: Path) -> Path:
        """Return the folder of the run."""
        return task_folder(self.task, out) / self.row / f"seed{self.seed}"

    def needed(self, study: Study) -> list[Job]:
        """List the runs that this one starts from: its source model, and what it is an ablation of."""
        rows = dict.fromkeys((SOURCE, study.rows[self.row].of))
        return [Job(self.task, row, self.seed) for row in rows if row not in (self.row, "")]

    def __str__(self) -> str:
        return f"{self.task}/{self.row}, seed {self.seed}"


def task_folder(task: str, out: Path) -> Path:
    """Return the folder of the runs and the table of a task."""
    return out / Path(task).name


def read_study(path: Path) -> Study:
    """Read a study file.

    Raises:
        RequestError: there is no such file, or it is not a study.
    """
    if not path.is_file():
        raise RequestError(f"no study file '{path}'")
    where = f"study '{path}'"
    try:
        raw = parse_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as problem:
        raise RequestError(f"{where} is not valid YAML: {' '.join(str(problem).split())}") from None
    if not isinstance(raw, Mapping):
        raise RequestError(f"{where} is not a mapping with tasks and rows")
    study = checked(Study, {**raw, **{key: _filled(raw[key]) for key in ("tasks", "rows") if key in raw}}, where)
    _check(study, where)
    return study


def _filled(values: Any) -> Any:
    """Let an entry without settings, such as ``mic:``, be one with the defaults."""
    return {key: value or {} for key, value in values.items()} if isinstance(values, Mapping) else values


def _check(study: Study, where: str) -> None:
    """Refuse names of rows that are not there, and rows that could never start."""
    known = list(study.rows)
    if SOURCE not in known:
        raise RequestError(f"{where} has no row '{SOURCE}', which the others start from")
    if len(set(study.seeds)) < len(study.seeds):
        raise RequestError(f"{where}: 'seeds' names a seed twice")
    if len({Path(task).name for task in study.tasks}) < len(study.tasks):
        raise RequestError(f"{where}: two tasks have the same last name and would share a folder; rename one")
    for task in study.tasks:
        file_name(Path(task).name, f"{where}: task")
    for name, row in study.rows.items():
        file_name(name, f"{where}: row")
        if row.of and row.of not in known:
            raise RequestError(f"{where}: row '{name}' is of '{row.of}', which is no row{nearest(row.of, known)}")
        if row.of and study.rows[row.of].of:
            raise RequestError(f"{where}: row '{name}' is of '{row.of}', which is an ablation itself")
    for task, chosen in study.tasks.items():
        for name in chosen.rows or ():
            if name not in known:
                raise RequestError(f"{where}: task '{task}' names no row '{name}'{nearest(name, known)}")
        for name in study.rows_of(task):
            for job in Job(task, name, 0).needed(study):
                if job.row not in study.rows_of(task):
                    raise RequestError(f"{where}: task '{task}' has row '{name}' without '{job.row}', which it needs")


def with_settings(study: Study, changes: Sequence[str]) -> Study:
    """Return a study with settings for every row of every task, as ``key.key=value``; a row's own count more."""
    tasks = {name: task.model_copy(update={"set": (*task.set, *changes)}) for name, task in study.tasks.items()}
    return study.model_copy(update={"tasks": tasks})


def jobs_of(study: Study) -> list[Job]:
    """List the runs of a study, the most important ones first: rows, then seeds, then tasks."""
    return [
        Job(task, row, seed)
        for row in study.rows
        for seed in study.seeds
        for task in study.tasks
        if row in study.rows_of(task) and seed in (study.rows[row].seeds or (seed,))
    ]


def config_of(study: Study, job: Job, out: Path) -> RunConfig:
    """Return the configuration of a run; rows other than ``source_only`` start from its model.

    Raises:
        RequestError: there is no such recipe, or a setting is wrong.
    """
    row = study.rows[job.row]
    changes = [*study.tasks[job.task].set, *row.set, f"seed={job.seed}"]
    config = load_config(f"{job.task}/{row.recipe or job.row}", changes, study.plugins)
    stages = list(config.stages)
    if job.row != SOURCE:
        model = Job(job.task, SOURCE, job.seed).folder(out) / "stages" / "source" / MODEL
        stages = _from_model(stages, str(model.absolute()))
    if row.title:
        stages[-1] = stages[-1].model_copy(update={"title": row.title})
    return config.model_copy(update={"stages": tuple(stages)})


def _from_model(stages: list[StageConfig], model: str) -> list[StageConfig]:
    """Leave out the source stage; what starts from it starts from ``model``, and so does the first stage."""
    if len(stages) > 1:
        stages = [stage for stage in stages if stage.name != "source"]
    return [
        stage.model_copy(update={"initial": model}) if place == 0 or stage.initial == "source" else stage
        for place, stage in enumerate(stages)
    ]


def finished(job: Job, out: Path) -> bool:
    """Tell whether a job has the results of all its stages."""
    return is_whole(job.folder(out))


def is_whole(run: Path) -> bool:
    """Tell whether the run in a folder has the results of all its stages."""
    held, results = read_held(run), read_results(run)
    return held is not None and results is not None and len(results["rows"]) == len(held["config"]["stages"])


def changed_settings(study: Study, job: Job, out: Path) -> list[str]:
    """List the settings in which the run in a job's folder differs from the study; paths of models do not count."""
    held = read_held(job.folder(out))
    if held is None:
        return []
    names = differing_settings(held["config"], config_of(study, job, out).model_dump(mode="json"))
    return [name for name in names if not name.endswith(".initial")]
