"""The results of a run: results.json, and the model that it leaves."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segadapt.engine.run_files import read_data, read_done, read_held, read_results, require_intact
from segadapt.engine.runtime import machine
from segadapt.errors import RequestError
from segadapt.runs.config import RunConfig
from segadapt.runs.ledger import published_rows
from segadapt.runs.networks import MODEL
from segadapt.runs.opening import OpenedData

SELECTION = "last checkpoint"
"""The weights that every score belongs to; nothing is chosen by target labels."""


@dataclass(frozen=True)
class StageResult:
    """A finished stage.

    Attributes:
        stage: name of the stage.
        method: name of its method.
        title: title in tables.
        role: ``source`` (the unadapted model), ``adapted``, or ``oracle``.
        model: model file of the stage.
        scores: on the test images, in percent: ``miou``, ``mpa``, ``pixel_accuracy``, ``fwiou``, ``subsets``, and
            ``iou``, ``accuracy``, ``pixels`` by class name; None without labelled test images.
        seconds: training time.
        steps: all steps of the stage.
    """

    stage: str
    method: str
    title: str
    role: str
    model: Path
    scores: Mapping[str, Any] | None
    seconds: float
    steps: int

    @property
    def miou(self) -> float | None:
        """Mean IoU in percent over the classes that occur; None without labelled test images."""
        return None if self.scores is None else self.scores["miou"]


@dataclass(frozen=True)
class RunResult:
    """The results of a run.

    Attributes:
        out: folder of the run.
        title: e.g. ``folders/cbst``.
        seed: seed of everything random.
        stages: the finished stages, in order.
        report: the HTML page, if it was written.
        raw: the results as written to ``out/results.json``.
    """

    out: Path
    title: str
    seed: int
    stages: tuple[StageResult, ...]
    report: Path | None
    raw: Mapping[str, Any]

    @classmethod
    def of(cls, results: Mapping[str, Any], out: Path, report: Path | None) -> RunResult:
        """Return the results of :func:`results_of` as typed values."""
        stages = tuple(
            StageResult(
                stage=row["stage"],
                method=row["method"],
                title=row["title"],
                role=row["role"],
                model=model_file(out, row["stage"]),
                scores=row["scores"],
                seconds=row["seconds"],
                steps=row["steps"],
            )
            for row in results["rows"]
        )
        return cls(out=out, title=results["title"], seed=results["seed"], stages=stages, report=report, raw=results)

    @property
    def result(self) -> StageResult:
        """The stage with the model that is the result of the run, see :func:`result_stage`."""
        chosen = result_stage(self.raw)
        return next(stage for stage in self.stages if stage.stage == chosen)

    @property
    def data(self) -> Mapping[str, Any] | None:
        """Facts of the data that were read before training: ``parts`` and ``findings``, as in ``out/data.json``."""
        return read_data(self.out)

    @property
    def model(self) -> Path:
        """Model file of the result; :func:`segadapt.load` opens it when it gets the folder of the run."""
        return self.result.model

    @property
    def miou(self) -> float | None:
        """Mean IoU of the result in percent; None without labelled test images."""
        return self.result.miou

    @property
    def scores(self) -> Mapping[str, Any] | None:
        """Scores of the result, see :class:`StageResult`."""
        return self.result.scores


def results_of(config: RunConfig, opened: OpenedData, done: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the results of the finished stages as written to results.json.

    Args:
        config: configuration of the run.
        opened: opened data of the run.
        done: contents of done.json of the finished stages, in order.
    """
    finished, test = list(done), opened.test
    rows = [stage["row"] for stage in finished]
    labelled = opened.training.labelled
    return {
        "format": 1,
        "title": config.title,
        "task": config.title.split("/")[0],
        "seed": config.seed,
        "space": json.loads(opened.space.to_json()),
        "test": {
            "name": test.name if test is not None else None,
            "images": len(test) if test is not None else 0,
            "labelled": test is not None,
        },
        "target": {
            "images": len(opened.training.target),
            "labelled": len(labelled) if labelled is not None else 0,
        },
        "selection": SELECTION,
        "machine": machine(),
        "rows": rows,
        "published": published_rows(config, rows),
        "labels": [summary for stage in finished for summary in stage["labels"]],
    }


def result_stage(results: Mapping[str, Any]) -> str:
    """Return the name of the stage with the model that is the result: the last finished one that is adapted.

    Where none is, it is the source-only model; an oracle only where it is alone. What the guard recommends counts
    more, see :mod:`segadapt.runs.guard`.
    """
    rows, recommended = results["rows"], results.get("guard", {}).get("recommended")
    if recommended is not None:
        return str(recommended)
    found = next((of for role in ("adapted", "source") if (of := [r for r in rows if r["role"] == role])), rows)
    return str(found[-1]["stage"])


def model_file(run: Path, stage: str) -> Path:
    """Return the model file of a stage of the run in a folder."""
    return run / "stages" / stage / MODEL


def before_and_after(results: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the stage of the source model and that of the result; None without the one, or if that is not adapted."""
    before = next((row["stage"] for row in results["rows"] if row["role"] == "source"), None)
    after = result_stage(results)
    adapted = any(row["role"] == "adapted" and row["stage"] == after for row in results["rows"])
    return (before, after) if before is not None and adapted else None


def find_model(path: str | os.PathLike[str], stage: str | None = None) -> Path:
    """Return the model file behind a path: the path itself, or a model of the run in this folder.

    Args:
        path: a model file, or the folder of a run.
        stage: the stage whose model is wanted; None takes the result of the run, see :func:`result_stage`.

    Raises:
        RequestError: it is not a path, the folder holds no finished stage or not this one, or of a run that adapts only
            stages before that are finished; or the file is not the one that the stage left.
    """
    if not isinstance(path, (str, os.PathLike)):
        fix = "; give its attribute 'model'" if isinstance(path, RunResult) else ""
        raise RequestError(f"a model must be a loaded model or a path, not a {type(path).__name__}{fix}")
    path = Path(path)
    if not path.is_dir():
        if stage is not None:
            raise RequestError(f"'{path}' is a model file, and not the folder of a run that has a stage '{stage}'")
        return path
    results = read_results(path)
    if not results or not results["rows"]:
        raise RequestError(f"'{path}' is a folder without a finished stage; give a model file or the folder of a run")
    if stage is not None:
        names = [row["stage"] for row in results["rows"]]
        if stage not in names:
            raise RequestError(f"'{path}' has no finished stage '{stage}'; it has: {', '.join(names)}")
    else:
        _require_adapted(path, results)
        stage = result_stage(results)
    file = model_file(path, stage)
    done = read_done(file.parent)
    if done is not None:
        require_intact(file.parent, done, whole=False)
    return file


def said_of_choice(path: Path) -> str:
    """Return a line on which model of a run's folder is taken and why; "" where the run has no verdict on that."""
    judged = (read_results(path) or {}).get("guard") if path.is_dir() else None
    if not judged:
        return ""
    other = judged["adapted"] if judged["recommended"] == judged["source"] else judged["source"]
    return f"{path}: {judged['line']}; for the other one: --stage {other}"


def _require_adapted(run: Path, results: Mapping[str, Any]) -> None:
    """Refuse to take the model of a comparison, source-only or oracle, for the adapted one that is not there yet."""
    config = (read_held(run) or {}).get("config", {})
    adapted = [stage["name"] for stage in config.get("stages", []) if stage.get("role") == "adapted"]
    if adapted and not any(row["role"] == "adapted" for row in results["rows"]):
        there = model_file(run, result_stage(results))
        raise RequestError(
            f"'{run}' holds no adapted model yet: stage '{adapted[0]}' is not finished; go on with 'segadapt resume "
            f"{run}', or give the model file of another stage, e.g. '{there}'"
        )
