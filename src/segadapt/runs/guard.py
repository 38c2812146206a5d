"""Judge without target labels whether adapting helped, and recommend a model.

The rule compares criteria of the adapted model with those of its source model on a sample of images. It was chosen on
two tasks and measured on all of ``docs/knowing_without_labels.md``; :data:`MEASURED` is what was found there.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from segadapt.core.documents import write_document
from segadapt.data.dataset import Dataset
from segadapt.engine.run_files import RESULTS
from segadapt.errors import RequestError
from segadapt.evaluation.criteria import STEADY, criteria_of
from segadapt.evaluation.looking import IMAGES, look_at_model
from segadapt.models.store import LoadedModel, load_model
from segadapt.runs.results import model_file

Verdict = Literal["helped", "not helped", "unknown"]

WORDS: Mapping[Verdict, str] = {
    "helped": "adaptation probably helped",
    "not helped": "adaptation probably did not help",
    "unknown": "cannot tell whether adaptation helped",
}
THRESHOLDS: Mapping[str, tuple[float, float]] = dict.fromkeys(STEADY, (-1.0, 1.0))
"""Changes of criteria in points: an adaptation helped where all are at least the second number, and not where one is
below the first."""
MEASURED: Mapping[bool, Mapping[Verdict, str]] = {
    True: {
        "helped": "wrong for 1 of 26 models in the study",
        "not helped": "wrong for 4 of 37 models in the study",
        "unknown": "of 14 such models in the study 5 got better and 1 worse",
    },
    False: {
        "helped": "wrong for 2 of 32 models in the study",
        "not helped": "wrong for 2 of 29 models in the study",
        "unknown": "of 16 such models in the study 2 got better and 3 worse",
    },
}
"""Verdicts of the study that were wrong, with source images and without."""


def verdict_of(before: Mapping[str, float | None], after: Mapping[str, float | None]) -> Verdict:
    """Judge an adaptation by the criteria of the model before and after it; without source images by those that remain.

    Args:
        before, after: see :func:`segadapt.evaluation.criteria.criteria_of`.
    """
    pairs = [(before[name], after[name], limits) for name, limits in THRESHOLDS.items()]
    changes = [(new - old, limits) for old, new, limits in pairs if old is not None and new is not None]
    if any(change < low for change, (low, _) in changes):
        return "not helped"
    return "helped" if changes and all(change >= high for change, (_, high) in changes) else "unknown"


def guard(
    out: Path,
    results: Mapping[str, Any],
    models: Mapping[str, LoadedModel],
    target: Dataset,
    labelled: Dataset | None,
    device: str,
) -> tuple[dict[str, Any], list[str]] | None:
    """Judge the result of a run beside its source model, and add that to results.json as ``guard``.

    Args:
        out: folder of the run; the models of all its stages stay.
        results: as in results.json.
        models: by stage, first that of the source model, then that of the result; others are loaded.
        target: target images of the run; their labels are not needed.
        labelled: labelled source images, or None.
        device: where to compute.

    Returns:
        The results with ``guard``: ``verdict``, ``recommended`` (the stage whose model the run recommends), ``source``
        and ``adapted`` (the stages compared), ``line`` (the verdict in words), ``images`` and ``stages`` (criteria by
        stage); and a warning where the adapted model is not recommended. None where a model on the way is damaged.
    """
    source, adapted = models
    judged = [row["stage"] for row in results["rows"] if row["role"] in ("source", "adapted")]
    try:
        looks = {
            stage: look_at_model(models.get(stage) or load_model(model_file(out, stage), device), target, labelled)
            for stage in (source, *(stage for stage in judged if stage != source))
        }
    except RequestError:  # damaged or unknown to this process: the run itself is finished
        return None
    stages = {stage: criteria_of(look, looks[source]) for stage, look in looks.items()}
    verdict = verdict_of(stages[source], stages[adapted])
    recommended = adapted if verdict == "helped" else source
    found = {
        "verdict": verdict,
        "recommended": recommended,
        "source": source,
        "adapted": adapted,
        "line": line_of(verdict, recommended, labelled is not None),
        "images": min(IMAGES, len(target)),
        "stages": stages,
    }
    whole = {**results, "guard": found}
    write_document(out / RESULTS, whole)
    kept = f"{found['line']}; the adapted model is kept: {model_file(out, adapted)}"
    return whole, [] if recommended == adapted else [kept]


def line_of(verdict: Verdict, recommended: str, with_source: bool) -> str:
    """Return a verdict in words, with how often such verdicts were wrong and the stage that is recommended."""
    return f"{WORDS[verdict]} ({MEASURED[with_source][verdict]}); recommended: the model of stage '{recommended}'"
