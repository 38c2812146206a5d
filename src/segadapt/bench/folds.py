"""Tables over folds: the runs of a recipe on the parts of one set of images become one result, as CBST reports them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segadapt.bench.measures import averaged
from segadapt.errors import RequestError
from segadapt.runs.config import load_config
from segadapt.runs.folds import Fold, in_two_sets


def runs_of(out: Path, method: str, seed: int, folds: int | None = None) -> dict[Fold | None, Path]:
    """Return the folders of the runs of a recipe with a seed, by fold; one folder, of None, without folds."""
    if not folds:
        return {None: out / method / f"seed{seed}"}
    every = [Fold(number, folds) for number in range(1, folds + 1)]
    return {fold: out / method / f"fold{fold.number}of{folds}" / f"seed{seed}" for fold in every}


def folds_by_recipe(
    task: str, taken: Mapping[str, Sequence[str]], folds: int | None, fold_option: str = "--folds"
) -> dict[str, int | None]:
    """Return, per recipe, the number of folds that it is run in: None where it tests on other images than its target's.

    Args:
        task: name of the task.
        taken: overrides by recipe.
        folds: as asked for; None asks for none.
        fold_option: how it was asked for, for messages.

    Raises:
        RequestError: folds are asked for and no recipe can have them, or an override chooses one already.
    """
    if folds is None:
        return dict.fromkeys(taken)
    if folds < 2:
        raise RequestError(f"{fold_option} is {folds}; give 2 or more")
    if any(override.partition("=")[0].strip() == "data.fold" for own in taken.values() for override in own):
        raise RequestError(f"{fold_option} sets data.fold, all of them in turn; leave out data.fold")
    two = {method: in_two_sets(load_config(f"{task}/{method}", own).data) for method, own in taken.items()}
    if all(two.values()):
        method, names = next(iter(two.items()))
        raise RequestError(
            f"{fold_option} {folds}: no recipe of {task} has one set of images as target and as test, e.g. {method}: "
            f"data.target and data.test differ in {' and '.join(names)}"
        )
    return {method: None if names else folds for method, names in two.items()}


def over_folds(found: Mapping[Fold, Mapping[str, Any]]) -> dict[str, Any]:
    """Return one row of results for a stage that was run in folds.

    The IoU of a class is the mean over the folds in which it occurs, in the truth or in the prediction. The mIoU is the
    mean over classes of these, as the rows of CBST's Table 1 are, and not the mean of the folds' own mIoU, in each of
    which other classes may be missing.

    Args:
        found: row of each finished fold, with ``scores``.

    Returns:
        Such a row, with ``folds``: the mIoU of each fold by its number. Seconds are the mean of a fold.
    """
    rows = list(found.values())
    scores = averaged([row["scores"] for row in rows])
    labels = averaged([row["labels"][-1] for row in rows if row["labels"]])
    return {
        **rows[0],
        "scores": {**scores, "miou": _over_classes(scores["iou"]), "mpa": _over_classes(scores["accuracy"])},
        "seconds": statistics.mean(row["seconds"] for row in rows),
        "peak_memory_mb": max(row["peak_memory_mb"] for row in rows),
        "labels": [labels] if labels else [],
        "measures": averaged([row["measures"] for row in rows]),
        "folds": {str(fold.number): row["scores"]["miou"] for fold, row in found.items()},
    }


def _over_classes(scores: Mapping[str, float | None]) -> float:
    """Return the mean over the classes that occur; a fold without labelled pixels has no scores, and comes not here."""
    return statistics.mean([value for value in scores.values() if value is not None])


def fold_scores(by_seed: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what a row of a table says of its folds; nothing where there were none.

    Returns:
        ``folds``, the mIoU by fold (mean over seeds), and ``fold_spread``, their sample standard deviation.
    """
    folds = averaged([row["folds"] for row in by_seed.values() if "folds" in row])
    known = [value for value in folds.values() if value is not None]
    return {"folds": folds, "fold_spread": statistics.stdev(known) if len(known) > 1 else None} if folds else {}
