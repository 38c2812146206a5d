"""What a run achieved: results.json, and the model that it leaves."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
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


def results_of(
    config: RunConfig, space: LabelSpace, test: Dataset | None, done: Iterable[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the results of the finished stages as written to results.json.

    Args:
        config: of the run.
        space: its label space.
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
    """Return the stage whose model is the result of a run: the last finished one that is not an oracle."""
    rows = [r for r in results["rows"] if r["role"] != "oracle"] or results["rows"]
    return str(rows[-1]["stage"])


def find_model(path: Path) -> Path:
    """Return the model file behind a path: the path itself, or the result of the run in this folder.

    Raises:
        RequestError: the folder holds no finished stage.
    """
    if not path.is_dir():
        return path
    results = read_json(path / "results.json")
    if not results or not results["rows"]:
        raise RequestError(f"'{path}' is a folder without a finished stage; give a model file or the folder of a run")
    return path / "stages" / result_stage(results) / MODEL
