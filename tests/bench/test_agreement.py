"""Numbers of the study of criteria, by hand and against scipy."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from segadapt.bench.agreement import (
    MARGIN,
    Errors,
    agreement_table,
    agreements,
    errors_of,
    guard_table,
    judged,
    measured_words,
    spearman,
)
from segadapt.evaluation.criteria import CRITERIA
from segadapt.runs.guard import MEASURED

STUDY = Path(__file__).parents[2] / "benchmarks" / "criteria.json"


def model(task: str, group: str, role: str, miou: float, value: float | None) -> dict[str, Any]:
    where = {"task": task, "group": group, "role": role, "row": "row", "seed": 0}
    return {**where, "miou": miou, "criteria": dict.fromkeys(CRITERIA, value)}


def test_rank_correlation_is_that_of_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = random.Random(0)
    for _ in range(20):
        one, other = ([rng.randrange(8) for _ in range(9)] for _ in range(2))
        assert spearman(one, other) == pytest.approx(stats.spearmanr(one, other).statistic)
    assert spearman([1, 1, 1], [1, 2, 3]) is None
    assert spearman([1, 2], [1, 2]) is None


def test_regret_is_what_the_chosen_model_lacks() -> None:
    models = [
        model("a", "s", "source", 40, 1.0),
        model("a", "s", "adapted", 46, 2.0),
        model("a", "s", "adapted", 38, 3.0),
        model("a", "t", "source", 40, 2.0),
        model("a", "t", "adapted", 41, 3.0),
        model("a", "t", "adapted", 39, 1.0),
    ]
    found = agreements(models)["a"]["light"]
    assert (found.regret, found.worst, found.over_source) == (4.0, 8.0, -0.5)
    assert found.spearman == pytest.approx((-0.5 + 1.0) / 2)
    assert "| `light` | +0.25, 4.0 |" in agreement_table(models)


def test_verdicts_are_compared_with_the_truth() -> None:
    def rule(before: Any, after: Any) -> Any:
        change = after["light"] - before["light"]
        return "helped" if change > 0 else "not helped" if change < 0 else "unknown"

    models = [model("a", "s", "source", 40, 0.0)]
    models += [model("a", "s", "adapted", *pair) for pair in ((43, 1.0), (38, 1.0), (44, -1.0), (30, -1.0), (50, 0.0))]
    found = errors_of(judged(models, rule))
    assert found == Errors(5, 2, 1, 2, 1, 1, 1, 0, 2, 1, 1.0, pytest.approx(0.2), pytest.approx(3.4))
    assert guard_table(models).count("\n") == 3


def test_the_guard_says_what_the_study_measured() -> None:
    models = json.loads(STUDY.read_text())["models"]
    for with_source in (True, False):
        assert measured_words(models, with_source) == MEASURED[with_source]


def test_where_nothing_helps_the_guard_keeps_the_source_model() -> None:
    models = json.loads(STUDY.read_text())["models"]
    found = [one for one in judged(models) if one.model["task"].startswith("null")]
    assert len(found) > 5
    assert max(one.gain for one in found) < MARGIN
    assert [one.verdict for one in found if one.verdict == "helped"] == []


def test_few_harmful_models_of_the_study_are_recommended() -> None:
    found = errors_of(judged(json.loads(STUDY.read_text())["models"]))
    assert found.harmful > 10
    assert found.harm_let_through <= 0.05 * found.harmful
    assert found.mean_guard > max(0.0, found.mean_always)
