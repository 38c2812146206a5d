"""Numbers and pages of the study of criteria without labels: rank correlation, regret, errors of the guard."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from segadapt.core.markdown import grid
from segadapt.evaluation.criteria import CRITERIA
from segadapt.runs.guard import Verdict, verdict_of

Model = Mapping[str, Any]
"""A model as :func:`segadapt.bench.criteria.measure_criteria` returns it."""

MARGIN = 0.5
"""Points of mIoU by which a model must be better than its source model to have been helped; seeds differ by as much."""


class Agreement(NamedTuple):
    """How well a criterion agrees with the mIoU on the test images, over the groups of a task.

    Attributes:
        spearman: mean rank correlation, in [-1, 1]; None where a group has fewer than three different values.
        regret: mean points of mIoU that the model it chooses lacks to the best one.
        over_source: mean points of mIoU that the model it chooses has over the source model.
        worst: largest regret of a group.
    """

    spearman: float | None
    regret: float
    over_source: float
    worst: float


def agreements(models: Sequence[Model]) -> dict[str, dict[str, Agreement]]:
    """Return the agreement of every criterion, by task and criterion.

    Args:
        models: of all groups; the groups of a task count alike.
    """
    found: dict[str, dict[str, Agreement]] = {}
    for task in dict.fromkeys(model["task"] for model in models):
        groups = list(_groups([model for model in models if model["task"] == task]))
        found[task] = {name: _agreement(name, groups) for name in CRITERIA}
    return found


def _agreement(name: str, groups: Sequence[Sequence[Model]]) -> Agreement:
    correlations, regrets, gains = [], [], []
    for group in groups:
        known = [model for model in group if model["criteria"][name] is not None]
        chosen = max(known, key=lambda model: model["criteria"][name])
        regrets.append(max(model["miou"] for model in known) - chosen["miou"])
        gains.append(chosen["miou"] - _source(group)["miou"])
        correlations.append(spearman([m["criteria"][name] for m in known], [m["miou"] for m in known]))
    defined = [value for value in correlations if value is not None]
    mean = statistics.mean(defined) if defined else None
    return Agreement(mean, statistics.mean(regrets), statistics.mean(gains), max(regrets))


def spearman(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Compute the rank correlation: Pearson's correlation of the ranks, equal values sharing their mean rank.

    Returns:
        A number in [-1, 1]; None for fewer than three pairs, or where all values of a side are equal.

    Example:
        >>> spearman([1, 2, 3, 4], [10, 20, 40, 30])
        0.8
    """
    if len(one) < 3 or len(set(one)) == 1 or len(set(other)) == 1:
        return None
    return round(statistics.correlation(_ranks(one), _ranks(other)), 12)


def _ranks(values: Sequence[float]) -> list[float]:
    """Return the rank of each value from 1, the mean of their ranks for equal ones."""
    return [sum(v < value for v in values) + (sum(v == value for v in values) + 1) / 2 for value in values]


# ---- the guard ----


class Judged(NamedTuple):
    """An adaptation, what the guard says of it, and what is true.

    Attributes:
        model: the adapted model.
        gain: its mIoU minus that of its source model, in points.
        verdict: of the guard.
    """

    model: Model
    gain: float
    verdict: Verdict


Rule = Callable[[Mapping[str, float | None], Mapping[str, float | None]], Verdict]


def judged(models: Sequence[Model], rule: Rule = verdict_of) -> list[Judged]:
    """Return the verdict of a rule on every adapted model."""
    found = []
    for group in _groups(models):
        source = _source(group)
        for model in group:
            if model["role"] == "adapted":
                verdict = rule(source["criteria"], model["criteria"])
                found.append(Judged(model, model["miou"] - source["miou"], verdict))
    return found


class Errors(NamedTuple):
    """Counts of verdicts; "worse" and "better" are by more than :data:`MARGIN` points.

    Attributes:
        judged: adaptations judged.
        helped: verdicts "helped", and ``helped_wrong`` where the model is not better.
        not_helped: verdicts "not helped", and ``not_helped_wrong`` where the model is better.
        unknown: no verdict; of these ``unknown_better`` and ``unknown_worse``.
        harmful: adaptations that made the model worse, and ``harm_let_through`` where the guard recommends them.
        mean_always: mean gain in points of always taking the adapted model, ``mean_guard`` of what is recommended, and
            ``mean_best`` of the better one of both.
    """

    judged: int
    helped: int
    helped_wrong: int
    not_helped: int
    not_helped_wrong: int
    unknown: int
    unknown_better: int
    unknown_worse: int
    harmful: int
    harm_let_through: int
    mean_always: float
    mean_guard: float
    mean_best: float


def errors_of(found: Sequence[Judged]) -> Errors:
    """Count how often verdicts are wrong."""
    helped = [one for one in found if one.verdict == "helped"]
    refused = [one for one in found if one.verdict == "not helped"]
    open_ones = [one for one in found if one.verdict == "unknown"]
    return Errors(
        judged=len(found),
        helped=len(helped),
        helped_wrong=sum(one.gain <= MARGIN for one in helped),
        not_helped=len(refused),
        not_helped_wrong=sum(one.gain > MARGIN for one in refused),
        unknown=len(open_ones),
        unknown_better=sum(one.gain > MARGIN for one in open_ones),
        unknown_worse=sum(one.gain < -MARGIN for one in open_ones),
        harmful=sum(one.gain < -MARGIN for one in found),
        harm_let_through=sum(one.gain < -MARGIN for one in helped),
        mean_always=_mean(one.gain for one in found),
        mean_guard=_mean(one.gain if one.verdict == "helped" else 0.0 for one in found),
        mean_best=_mean(max(one.gain, 0.0) for one in found),
    )


def measured_words(models: Sequence[Model], with_source: bool) -> dict[Verdict, str]:
    """Return how often each verdict was wrong, in the words of :data:`segadapt.runs.guard.MEASURED`.

    Args:
        models: of the study.
        with_source: False judges as where there are no source images.
    """
    if not with_source:
        models = [{**model, "criteria": {**model["criteria"], "recoloured": None}} for model in models]
    e = errors_of(judged(models))
    return {
        "helped": f"wrong for {e.helped_wrong} of {e.helped} models in the study",
        "not helped": f"wrong for {e.not_helped_wrong} of {e.not_helped} models in the study",
        "unknown": f"of {e.unknown} such models in the study {e.unknown_better} got better and {e.unknown_worse} worse",
    }


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return statistics.mean(found) if found else 0.0


def _groups(models: Sequence[Model]) -> Iterable[list[Model]]:
    """Yield the models of each source model, that first."""
    for key in dict.fromkeys((model["task"], model["group"]) for model in models):
        yield [model for model in models if (model["task"], model["group"]) == key]


def _source(group: Sequence[Model]) -> Model:
    return next(model for model in group if model["role"] == "source")


# ---- pages ----


def agreement_table(models: Sequence[Model]) -> str:
    """Write a table in Markdown: rank correlation and regret of every criterion by task."""
    found = agreements(models)
    counts = {task: sum(model["task"] == task for model in models) for task in found}
    head = ["criterion", *(f"`{task}` ({counts[task]})" for task in found), "mean correlation", "mean regret"]
    lines = []
    for name in CRITERIA:
        rows = [found[task][name] for task in found]
        cells = [f"{_signed(row.spearman)}, {row.regret:.1f}" for row in rows]
        known = [row.spearman for row in rows if row.spearman is not None]
        lines.append(
            [f"`{name}`", *cells, _signed(_mean(known) if known else None), f"{_mean(r.regret for r in rows):.1f}"]
        )
    return grid(head, lines)


def guard_table(models: Sequence[Model]) -> str:
    """Write a table in Markdown: verdicts of the guard and how many are wrong, by task and over all."""
    head = ["task", "adapted models", "helped (wrong)", "did not help (wrong)", "cannot tell", "harmful (recommended)"]
    head += ["always adapted", "guard", "better one"]
    found = judged(models)
    tasks = {
        f"`{task}`": [j for j in found if j.model["task"] == task] for task in dict.fromkeys(m["task"] for m in models)
    }
    lines = []
    for name, own in {**tasks, "**all**": found}.items():
        e = errors_of(own)
        cells = [
            str(e.judged),
            f"{e.helped} ({e.helped_wrong})",
            f"{e.not_helped} ({e.not_helped_wrong})",
            str(e.unknown),
        ]
        cells += [f"{e.harmful} ({e.harm_let_through})"]
        lines.append([name, *cells, *(f"{x:+.1f}" for x in (e.mean_always, e.mean_guard, e.mean_best))])
    return grid(head, lines)


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.2f}"
