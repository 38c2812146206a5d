"""The call that ranks models of runs without labels: :func:`rank`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from segadapt.engine.runtime import device_named
from segadapt.runs.config import listed
from segadapt.runs.own_data import PathLike
from segadapt.runs.ranking import Ranking, rank_runs


def rank(
    runs: PathLike | Sequence[PathLike],
    *,
    images: PathLike | None = None,
    criterion: str | None = None,
    roots: Mapping[str, str] | None = None,
    device: str = "cpu",
) -> Ranking:
    """Compare the models of all stages of runs without target labels; the one found best comes first.

    Every model predicts a fixed sample of the target images, some of them changed, and of the source images.

    Args:
        runs: folder of a run, or of several with the same classes and target images.
        images: folder of images to compare on instead of the runs' target images.
        criterion: name of :data:`segadapt.evaluation.criteria.CRITERIA` to sort by; None takes the recommended one.
        roots: where named data sets lie now; the others lie where they did.
        device: where to compute.

    Raises:
        RequestError: a folder holds no finished stage, the runs have other classes or other target images, or there is
            no such criterion.

    >>> best = segadapt.rank(["runs/cbst", "runs/mic"]).best  # doctest: +SKIP
    >>> best.model, best.criteria["steady"]  # doctest: +SKIP
    (PosixPath('runs/mic/stages/adapt/model.safetensors'), 54.2)
    """
    folders = [Path(run) for run in listed(runs)]
    where = Path(images) if images is not None else None
    return rank_runs(folders, where, criterion, roots, device_named(device))
