"""Rank the models of runs without labels, on the target images that the runs share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segadapt.core.kept import STATISTICS, kept_folder
from segadapt.core.spacing import evenly_spaced
from segadapt.data.dataset import Dataset
from segadapt.data.folder import open_folder
from segadapt.engine.run_files import read_held, read_results
from segadapt.errors import RequestError, nearest
from segadapt.evaluation.criteria import CRITERIA, criteria_of, ensemble_labels
from segadapt.evaluation.looking import IMAGES, Look, look_at_model
from segadapt.labels import LabelSpace
from segadapt.models.store import load_model
from segadapt.runs.config import build_config
from segadapt.runs.opening import open_data
from segadapt.runs.results import model_file
from segadapt.runs.start import known_of

RECOMMENDED = "steady"
"""Criterion that the study of ``docs/knowing_without_labels.md`` recommends."""


@dataclass(frozen=True)
class Ranked:
    """A model of a run with its criteria.

    Attributes:
        run: folder of the run.
        stage, title, role: of the stage that made it.
        model: its file.
        criteria: numbers by name of :data:`segadapt.evaluation.criteria.CRITERIA`, None where one is not known.
    """

    run: Path
    stage: str
    title: str
    role: str
    model: Path
    criteria: Mapping[str, float | None]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**vars(self), "run": str(self.run), "model": str(self.model), "criteria": dict(self.criteria)}


@dataclass(frozen=True)
class Ranking:
    """Models, the one that the criterion finds best first.

    Attributes:
        criterion: by which they are sorted.
        images: number of target images looked at.
        models: all that were compared; those of which the criterion is not known are last.
    """

    criterion: str
    images: int
    models: tuple[Ranked, ...]

    @property
    def best(self) -> Ranked:
        """The model that the criterion finds best."""
        return self.models[0]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        models = [model.to_dict() for model in self.models]
        return {"criterion": self.criterion, "images": self.images, "models": models}


def rank_runs(
    runs: Sequence[Path],
    images: Path | None = None,
    criterion: str | None = None,
    roots: Mapping[str, str] | None = None,
    device: str = "cpu",
) -> Ranking:
    """Compare all models of runs that share a label space and their target images; no target label is opened.

    Args:
        runs: their folders.
        images: folder of images to compare on instead of the runs' target images.
        criterion: name of the criterion to sort by; None takes the recommended one.
        roots: where named data sets lie now; the others lie where they did.
        device: where to compute.

    Raises:
        RequestError: a folder holds no finished stage, the runs have other classes or other target images, or there is
            no such criterion.
    """
    if criterion is not None and criterion not in CRITERIA:
        raise RequestError(
            f"no criterion '{criterion}'{nearest(criterion, CRITERIA)}; there are: {', '.join(CRITERIA)}"
        )
    opened = {run: finished_stages(run) for run in dict.fromkeys(runs)}
    if not opened:
        raise RequestError("nothing to rank: give the folder of a run, or of several")
    data = {run: data_of(run, roots) for run in opened}
    _require_same(data, on_target=images is None)
    first = data[next(iter(data))]
    target = open_folder(images, name="images") if images is not None else first.target
    rows = [(run, row) for run, found in opened.items() for row in found]
    looks = {}
    for run, row in rows:
        loaded = load_model(model_file(run, row["stage"]), device)
        looks[run, row["stage"]] = look_at_model(loaded, target, first.source)
    return Ranking(*_sorted(rows, looks, criterion, min(IMAGES, len(target))))


def _sorted(
    rows: Sequence[tuple[Path, Mapping[str, Any]]],
    looks: Mapping[tuple[Path, str], Look],
    criterion: str | None,
    images: int,
) -> tuple[str, int, tuple[Ranked, ...]]:
    """Return what a :class:`Ranking` holds."""
    together = ensemble_labels(list(looks.values())) if len(looks) > 1 else None
    sources = {run: row["stage"] for run, row in reversed(rows) if row["role"] == "source"}
    ranked = []
    for run, row in rows:
        adapted = row["role"] == "adapted" and run in sources
        before = looks[run, sources[run]] if adapted else None
        found = criteria_of(looks[run, row["stage"]], before, together)
        ranked.append(Ranked(run, row["stage"], row["title"], row["role"], model_file(run, row["stage"]), found))
    by = criterion or RECOMMENDED

    def place(model: Ranked) -> float:
        value = model.criteria[by]
        return float("inf") if value is None else -value

    return by, images, tuple(sorted(ranked, key=place))


@dataclass(frozen=True)
class TargetAndSource:
    """The images of a run to look at.

    Attributes:
        target: target images without labels.
        source: labelled source images in the classes of the run, or None.
        space: label space of the run.
    """

    target: Dataset
    source: Dataset | None
    space: LabelSpace


def data_of(run: Path, roots: Mapping[str, str] | None = None) -> TargetAndSource:
    """Open the target images, without labels, and the source images of the run in a folder.

    Raises:
        RequestError: the folder holds no run, or its data are not there.
    """
    held = read_held(run)
    if held is None:
        raise RequestError(f"'{run}' is not the folder of a run: it has no readable config.json")
    config = build_config(held["config"], held["config"]["title"])
    unlabelled = config.data.model_copy(
        update={"test": None, "oracle": None, "labelled": None, "measure_labels": False}
    )
    places = {**held["roots"], **(roots or {})}
    opened = open_data(unlabelled, places, kept_folder(STATISTICS), known=known_of(config))
    return TargetAndSource(opened.training.target, opened.training.source, opened.space)


def finished_stages(run: Path) -> list[Mapping[str, Any]]:
    """Return the results of the finished stages of a run that left a model.

    Raises:
        RequestError: there is none.
    """
    results = read_results(run)
    rows = [row for row in (results or {}).get("rows", []) if model_file(run, row["stage"]).is_file()]
    if not rows:
        raise RequestError(f"'{run}' is a folder without a finished stage; give the folder of a run")
    return rows


def _require_same(data: Mapping[Path, TargetAndSource], on_target: bool) -> None:
    """Refuse runs that cannot be compared."""
    (first, one), *others = data.items()
    for run, other in others:
        if one.space.names != other.space.names:
            raise RequestError(
                f"'{first}' and '{run}' have different classes ({_some(one.space.names)}; {_some(other.space.names)}); "
                "rank runs of one label space"
            )
        if on_target and _sample(one.target) != _sample(other.target):
            raise RequestError(
                f"'{first}' and '{run}' have different target images; give the images to compare on: --images FOLDER"
            )


def _sample(target: Dataset) -> list[list[str | int]]:
    """Return what identifies the images that are looked at."""
    return [[len(target)], *(target.file_fingerprint(index) for index in evenly_spaced(len(target), IMAGES))]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f", ... {len(names)} classes" if len(names) > 4 else "")
