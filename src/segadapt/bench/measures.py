"""Measures of a finished stage beside its scores: sure pixels, pseudo labels at its end, predictions, prototypes."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

LAST = 5
"""Events of the log, of twenty steps each, that are the end of a stage."""

LABELS = ("accuracy", "miou", "density")


def measures(events: Iterable[Mapping[str, Any]], row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the measures of a stage; see :func:`segadapt.bench.table.summarise` for their meaning.

    Args:
        events: log of the run, of all its stages.
        row: result of the stage, with ``stage`` and ``scores``.

    Returns:
        ``steps``, ``q``, ``labels``, ``prototypes``, ``predicted`` and ``truth``; what was not measured is None or
        empty.
    """
    own = [event for event in events if event.get("stage") == row["stage"]]
    steps = [event.get("measured") or {} for event in own if event.get("event") == "step"][-LAST:]
    online = [event["sets"] for event in own if event.get("event") == "online_labels"][-LAST:]
    measured = averaged(steps)
    return {
        "steps": row["steps"],
        "q": measured.get("confident share"),
        "labels": {name: {key: found.get(key) for key in LABELS} for name, found in averaged(online).items()},
        "prototypes": {name: value for name, value in measured.items() if "prototype" in name},
        **shares(row["scores"]),
    }


def averaged(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Average mappings of numbers key by key, at any depth; numbers that are None or not there do not count.

    Example:
        >>> averaged([{"a": 1, "b": {"c": None}}, {"a": 3, "b": {"c": 5}}, {"b": {"c": None}}])
        {'a': 2, 'b': {'c': 5}}
    """
    means: dict[str, Any] = {}
    for key in dict.fromkeys(key for mapping in found for key in mapping):
        values = [mapping[key] for mapping in found if mapping.get(key) is not None]
        if values and isinstance(values[0], Mapping):
            means[key] = averaged(values)
        elif not values or isinstance(values[0], (int, float)):
            means[key] = statistics.mean(values) if values else None
    return means


def shares(scores: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
    """Return the share of every class in the predictions (``predicted``) and in the truth (``truth``), in [0, 1].

    With T pixels of a class in the truth, TP of them found, and P predicted: TP = accuracy T and
    IoU = TP / (T + P - TP). Where no pixel is found, P is what the other classes leave of all pixels; None if this is
    so for several classes. Every pixel is predicted as one of the classes, as networks do.

    Args:
        scores: ``iou`` and ``accuracy`` in percent and ``pixels``, by class.
    """
    true = scores["pixels"]
    total = sum(true.values())
    predicted: dict[str, float | None] = {}
    for name, pixels in true.items():
        iou, found = scores["iou"][name], (scores["accuracy"][name] or 0) / 100 * pixels
        predicted[name] = 0.0 if iou is None else 100 * found / iou + found - pixels if found else None
    open_ones = [name for name, pixels in predicted.items() if pixels is None]
    if len(open_ones) == 1:
        predicted[open_ones[0]] = max(0.0, total - sum(pixels or 0 for pixels in predicted.values()))
    return {
        "predicted": {name: None if pixels is None else pixels / total for name, pixels in predicted.items()},
        "truth": {name: pixels / total for name, pixels in true.items()},
    }
