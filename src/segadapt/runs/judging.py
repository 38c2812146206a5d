"""Looking at a finished run without target labels: what adapting changed, and whether it helped."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segadapt.data.dataset import Dataset
from segadapt.models.store import load_model
from segadapt.runs.before_after import compare
from segadapt.runs.guard import guard
from segadapt.runs.results import before_and_after, model_file


def judged(
    out: Path, results: Mapping[str, Any], target: Dataset, source: Dataset | None, device: str, *, guarded: bool
) -> tuple[dict[str, Any], list[str]]:
    """Compare the result of a run with its source model and judge it; both models are loaded once.

    Args:
        out: folder of the run; results.json in it gets what is found.
        results: as in results.json.
        target: target images of the run; their labels are not needed.
        source: labelled source images, or None.
        device: where to predict.
        guarded: whether the result is judged, too, see :func:`segadapt.runs.guard.guard`.

    Returns:
        The results with ``change`` and ``guard``, and warnings; nothing is added where a run has no source model or no
        adapted one.
    """
    stages = before_and_after(results)
    if stages is None:
        return dict(results), []
    models = {stage: load_model(model_file(out, stage), device) for stage in stages}
    found, warnings = compare(out, results, models, target)
    if guarded and (told := guard(out, found, models, target, source, device)) is not None:
        found, more = told
        warnings = [*warnings, *more]
    return found, warnings
