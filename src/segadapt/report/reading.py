"""Read the results, the configuration and the log of a run for the report.

Only ``results.json`` is needed. Everything else may be missing or cut off, as in a run that was stopped;
the page leaves unreadable parts out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from segadapt.core.files import read_json
from segadapt.errors import RequestError
from segadapt.labels import LabelSpace
from segadapt.report.log import Log, number, read_log

FORMAT = 1
"""The format of results.json that this version reads."""


@dataclass(frozen=True)
class Scores:
    """Test scores in percent, None if undefined; ``iou`` by class, ``subsets`` by name of a subset of classes."""

    miou: float | None
    mpa: float | None
    pixel_accuracy: float | None
    iou: Mapping[str, float | None]
    subsets: Mapping[str, float | None]


@dataclass(frozen=True)
class Row:
    """One finished stage; ``role`` is ``source``, ``adapted``, ``oracle`` or empty, ``memory`` the peak in MB."""

    stage: str
    method: str
    title: str
    role: str
    scores: Scores | None
    seconds: float | None
    steps: float | None
    memory: float | None
    selection: str

    @property
    def miou(self) -> float | None:
        """Mean IoU in percent, or None if it was not measured."""
        return self.scores.miou if self.scores else None

    @property
    def by_oracle(self) -> bool:
        """Whether target labels chose this model."""
        return "oracle" in self.selection.lower()


@dataclass(frozen=True)
class ClassLabels:
    """Pseudo labels of one class; everything in [0, 1] except ``predicted``, and None if unknown.

    Attributes:
        name: the class.
        threshold: least confidence of a label.
        predicted: number of pixels predicted as the class.
        share_selected: share of these pixels that are labelled.
        density: share of all pixels that are labelled as the class.
        accuracy: share of the labels that are right.
        label_share: share of the class among the labels with a known truth.
        truth_share: share of the class in the truth.
    """

    name: str
    threshold: float | None
    predicted: float | None
    share_selected: float | None
    density: float | None
    accuracy: float | None
    label_share: float | None
    truth_share: float | None


@dataclass(frozen=True)
class Round:
    """The stored pseudo labels of one round of a stage (``number`` from 0); shares in [0, 1], ``miou`` in percent."""

    stage: str
    number: int
    portion: float | None
    density: float | None
    accuracy: float | None
    miou: float | None
    classes: Sequence[ClassLabels]


@dataclass(frozen=True)
class RunRecord:
    """Everything about a run except its pictures and features; ``target_labels``: target images with learnt labels."""

    title: str
    task: str
    seed: str
    space: LabelSpace
    test_name: str
    test_images: int
    labelled: bool
    selection: str
    target_images: int
    target_labels: int
    machine: Mapping[str, str]
    rows: Sequence[Row]
    rounds: Sequence[Round]
    config: str = ""
    log: Log = field(default_factory=Log)
    guard: Mapping[str, Any] | None = None
    published: Sequence[Mapping[str, Any]] = ()

    def role(self, role: str) -> list[Row]:
        """Return the rows of a role, in the order of the run."""
        return [row for row in self.rows if row.role == role]

    @property
    def scored(self) -> str:
        """How many classes a mean IoU is over: those in the truth or the predictions, e.g. ``7 of 11``.

        It differs between stages where one of them predicts a class that another does not: ``7 to 8 of 11``.
        """
        rows = [row.scores.iou.values() for row in self.rows if row.scores]
        counts = sorted({sum(value is not None for value in values) for values in rows})
        total = len(self.space)
        if not counts or counts == [total]:
            return str(total)
        return f"{' to '.join(map(str, dict.fromkeys((counts[0], counts[-1]))))} of {total}"

    @property
    def titles(self) -> dict[str, str]:
        """Title of every finished stage by its name, in the order of the run."""
        return {row.stage: row.title for row in self.rows}

    def ordered(self, stages: Iterable[str]) -> dict[str, str]:
        """Return the titles of stages in the order of the run; stages without a row come last, with their name."""
        found, titles = dict.fromkeys(stages), self.titles
        return {s: titles.get(s, s) for s in [*(t for t in titles if t in found), *found]}


def read_run(run: Path) -> RunRecord:
    """Read the record of the run in folder ``run``.

    Raises:
        RequestError: the results are missing or damaged, or have the format of another version.
    """
    path = run / "results.json"
    if not path.is_file():
        raise RequestError(f"'{run}' has no results.json; give the folder of a run that finished at least one stage")
    raw = read_json(path)
    repair = f"write it again with 'segadapt resume {run}'"
    if not isinstance(raw, dict):
        raise RequestError(f"'{path}' is damaged: it is not a JSON object; {repair}")
    if raw.get("format", FORMAT) != FORMAT:
        raise RequestError(
            f"'{path}' has format {raw['format']!r}, but this version reads format {FORMAT}; "
            "use the version of segadapt that made the run"
        )
    log = read_log(run / "log.jsonl")
    try:
        return _record(raw, _config_text(run / "config.json"), log)
    except KeyError as error:
        raise RequestError(f"'{path}' is damaged: {error} is missing; {repair}") from None
    except (TypeError, ValueError, AttributeError, RequestError) as error:
        raise RequestError(f"'{path}' is damaged: {str(error).splitlines()[0]}; {repair}") from None


def _record(raw: Mapping[str, Any], config: str, log: Log) -> RunRecord:
    test, target = raw.get("test") or {}, raw.get("target") or {}
    selection = str(raw.get("selection") or "")
    space = raw["space"]
    return RunRecord(
        title=str(raw["title"]),
        task=str(raw.get("task") or ""),
        seed=str(raw.get("seed", "")),
        space=LabelSpace.from_json(space if isinstance(space, str) else json.dumps(space)),
        test_name=str(test.get("name") or ""),
        test_images=int(test.get("images") or 0),
        labelled=bool(test.get("labelled")),
        selection=selection,
        target_images=int(target.get("images") or 0),
        target_labels=int(target.get("labelled") or 0),
        machine={str(k): str(v) for k, v in (raw.get("machine") or {}).items()},
        rows=[_row(row, selection) for row in raw["rows"]],
        rounds=[_round(entry) for entry in raw.get("labels") or []],
        config=config,
        log=log,
        guard=raw.get("guard"),
        published=[_published(entry) for entry in raw.get("published") or []],
    )


def _row(raw: Mapping[str, Any], selection: str) -> Row:
    return Row(
        stage=str(raw["stage"]),
        method=str(raw.get("method") or ""),
        title=str(raw.get("title") or raw["stage"]),
        role=str(raw.get("role") or ""),
        scores=_scores(raw["scores"]) if raw.get("scores") else None,
        seconds=number(raw.get("seconds")),
        steps=number(raw.get("steps")),
        memory=number(raw.get("peak_memory_mb")),
        selection=str(raw.get("selection") or selection),
    )


def _published(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return a published row beside the score of a stage, see :mod:`segadapt.runs.ledger`."""
    numbers = {key: number(raw.get(key)) for key in ("published", "score", "difference")}
    texts = {key: str(raw.get(key) or "") for key in ("stage", "method", "network", "source", "note", "why")}
    return {**texts, **numbers, "quoted": bool(raw.get("quoted"))}


def _scores(raw: Mapping[str, Any]) -> Scores:
    return Scores(
        miou=number(raw.get("miou")),
        mpa=number(raw.get("mpa")),
        pixel_accuracy=number(raw.get("pixel_accuracy")),
        iou={str(k): number(v) for k, v in (raw.get("iou") or {}).items()},
        subsets={str(k): number(v) for k, v in (raw.get("subsets") or {}).items()},
    )


def _round(raw: Mapping[str, Any]) -> Round:
    keys = ("threshold", "predicted", "share_selected", "density", "accuracy", "label_share", "truth_share")
    return Round(
        stage=str(raw["stage"]),
        number=int(raw["round"]),
        **{k: number(raw.get(k)) for k in ("portion", "density", "accuracy", "miou")},
        classes=[
            ClassLabels(name=str(c["name"]), **{k: number(c.get(k)) for k in keys}) for c in raw.get("classes") or []
        ],
    )


def _config_text(path: Path) -> str:
    """Return the configuration as YAML, without ``roots``: readers of the page need not know where data lay."""
    raw = read_json(path)
    if not isinstance(raw, dict):
        return ""
    shown = {k: v for k, v in raw.items() if k != "roots"}
    return yaml.safe_dump(shown, sort_keys=False, allow_unicode=True, width=100) if shown else ""
