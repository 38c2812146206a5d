"""What a stage says beside its scores: from the log of its run, and shares of classes from its scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from segadapt.bench.measures import LAST, averaged, measures, shares
from segadapt.bench.table import summarise
from segadapt.core.files import read_events
from segadapt.evaluation.metrics import ConfusionMatrix
from segadapt.labels import CITYSCAPES
from tests.bench.test_table import row, write_run


def step(share: float, stage: str = "adapt", **measured: float) -> dict[str, Any]:
    return {"event": "step", "stage": stage, "measured": {"confident share": share, **measured}}


def online(stage: str = "adapt", **accuracies: float | None) -> dict[str, Any]:
    """Make an event about labels of several kinds."""
    sets = {kind: {"accuracy": a, "miou": 0.5, "density": 1.0, "classes": [0.5, 0.5]} for kind, a in accuracies.items()}
    return {"event": "online_labels", "stage": stage, "sets": sets}


def write_log(folder: Path, *events: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "log.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events) + '{"event": "st')


def test_the_end_of_the_own_stage_counts(tmp_path: Path) -> None:
    early = [step(0.0), online(teacher=0.0)]
    late = [event for i in range(LAST) for event in (step(0.5 + i / 10), online(teacher=0.6 + i / 10))]
    write_log(tmp_path, *early, *late, step(0.1, "next"), online("next", other=0.1))
    found = measures(read_events(tmp_path / "log.jsonl"), row("dacs", 30.0))
    assert found["q"] == pytest.approx(0.7)
    assert found["labels"] == {"teacher": {"accuracy": pytest.approx(0.8), "miou": 0.5, "density": 1.0}}
    assert found["steps"] == 40


def test_prototypes_are_measured_and_nothing_else_of_a_step(tmp_path: Path) -> None:
    write_log(tmp_path, step(0.5, **{"prototype use": 0.8, "confident share, masked": 0.1}), step(0.5))
    assert measures(read_events(tmp_path / "log.jsonl"), row("mpcl", 30.0))["prototypes"] == {"prototype use": 0.8}


def test_without_a_log_nothing_is_measured(tmp_path: Path) -> None:
    found = measures(read_events(tmp_path / "log.jsonl"), row("st", 30.0))
    assert (found["q"], found["labels"], found["prototypes"]) == (None, {}, {})


def test_a_table_has_the_means_over_seeds_that_know_a_number(tmp_path: Path) -> None:
    for seed, (share, accuracy) in enumerate([(0.2, None), (0.4, 0.9), (None, 0.7)]):
        folder = tmp_path / f"dacs/seed{seed}"
        write_run(folder, [row("dacs", 30.0)])
        write_log(folder, *([step(share)] if share else []), online(teacher=accuracy))
    (only,) = summarise("task", ["dacs"], [0, 1, 2], tmp_path)["rows"]
    assert only["q"] == pytest.approx(0.3)
    assert only["labels"]["teacher"]["accuracy"] == pytest.approx(0.8)
    assert only["truth"] == {"sky": 0.25, "road": 0.75}


def test_averages_skip_what_is_not_a_number() -> None:
    assert averaged([]) == {}
    assert averaged([{"a": None, "b": [1]}, {"a": None, "c": 1.0}]) == {"a": None, "c": 1.0}


# ---- shares of the classes ----


def scored(truth: list[int], predicted: list[int]) -> tuple[dict[str, Any], list[str]]:
    """Score pixels as a run does; return the names of the classes too."""
    matrix = ConfusionMatrix(len(CITYSCAPES))
    matrix.update(prediction=torch.as_tensor(predicted)[None], label=torch.as_tensor(truth)[None])
    return matrix.scores(CITYSCAPES).to_dict(), list(CITYSCAPES.names)


def test_shares_are_those_of_the_counted_pixels() -> None:
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(0, 9, 500), rng.integers(1, 8, 500)  # ten classes are nowhere
    scores, names = scored(truth.tolist(), predicted.tolist())
    found = shares(scores)
    assert list(found["truth"].values()) == pytest.approx(
        (np.bincount(truth, minlength=len(CITYSCAPES)) / 500).tolist()
    )
    counts = np.bincount(predicted, minlength=len(CITYSCAPES)) / 500
    for number, name in enumerate(names):
        if number in (0, 8):  # in the truth, never predicted: no share follows for both of them
            assert found["predicted"][name] is None
        else:
            assert found["predicted"][name] == pytest.approx(counts[number])


def test_one_class_that_is_never_found_has_what_the_others_leave() -> None:
    scores, names = scored([0, 0, 1, 1, 1, 2], [0, 0, 1, 1, 2, 1])
    assert shares(scores)["predicted"][names[2]] == pytest.approx(1 / 6)
