"""The results of a run: results.json, and the model that it leaves."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segadapt.core.files import read_json
from segadapt.data.dataset import Dataset
from segadapt.engine.runtime import machine
from segadapt.errors import RequestError
from segadapt.labels import LabelSpace
from segadapt.runs.config import RunConfig
from segadapt.runs.networks import MODEL

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
                model=out / "stages" / row["stage"] / MODEL,
                scores=row["scores"],
                seconds=row["seconds"],
                steps=row["steps"],
            )
            for row in results["rows"]
        )
        return cls(out=out, title=results["title"], seed=results["seed"], stages=stages, report=report, raw=results)

    @property
    def result(self) -> StageResult:
        """The stage with the model that is the result of the run: the last stage that is not an oracle."""
        chosen = result_stage(self.raw)
        return next(stage for stage in self.stages if stage.stage == chosen)

    @property
    def data(self) -> Mapping[str, Any] | None:
        """Facts of the data that were read before training: ``parts`` and ``findings``, as in ``out/data.json``."""
        held: Mapping[str, Any] | None = read_json(self.out / "data.json")
        return held

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


def results_of(
    config: RunConfig, space: LabelSpace, test: Dataset | None, done: Iterable[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the results of the finished stages as written to results.json.

    Args:
        config: configuration of the run.
        space: label space of the run.
        test: labelled test images, or None.
        done: contents of done.json of the finished stages, in order.
    """
    finished = list(done)
    return {
        "format": 1,
        "title": config.title,
        "task": config.title.split("/")[0],
        "seed": config.seed,
        "space": json.loads(space.to_json()),
        "test": {
            "name": test.name if test is not None else None,
            "images": len(test) if test is not None else 0,
            "labelled": test is not None,
        },
        "selection": SELECTION,
        "machine": machine(),
        "rows": [stage["row"] for stage in finished],
        "labels": [summary for stage in finished for summary in stage["labels"]],
    }


def result_stage(results: Mapping[str, Any]) -> str:
    """Return the name of the stage with the model that is the result: the last finished one that is not an oracle."""
    rows = [r for r in results["rows"] if r["role"] != "oracle"] or results["rows"]
    return str(rows[-1]["stage"])


def find_model(path: str | os.PathLike[str]) -> Path:
    """Return the model file behind a path: the path itself, or the result of the run in this folder.

    Raises:
        RequestError: it is not a path, or the folder holds no finished stage.
    """
    if not isinstance(path, (str, os.PathLike)):
        fix = "; give its attribute 'model'" if isinstance(path, RunResult) else ""
        raise RequestError(f"a model must be a loaded model or a path, not a {type(path).__name__}{fix}")
    path = Path(path)
    if not path.is_dir():
        return path
    results = read_json(path / "results.json")
    if not results or not results["rows"]:
        raise RequestError(f"'{path}' is a folder without a finished stage; give a model file or the folder of a run")
    return path / "stages" / result_stage(results) / MODEL
