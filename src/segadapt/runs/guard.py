"""Judge without target labels whether adapting helped, and recommend a model.

The rule compares two criteria of the adapted model with those of its source model on a sample of images. It was chosen
on two tasks and measured on all, see ``docs/knowing_without_labels.md``; ``ERRORS`` holds what was measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from segadapt.core.files import write_json
from segadapt.engine.bundle import DataBundle
from segadapt.errors import RequestError
from segadapt.evaluation.criteria import criteria_of
from segadapt.evaluation.looking import IMAGES, look_at_model
from segadapt.models.store import load_model
from segadapt.runs.networks import MODEL
from segadapt.runs.results import result_stage

Verdict = Literal["helped", "not helped", "unknown"]

WORDS: Mapping[Verdict, str] = {
    "helped": "adaptation probably helped",
    "not helped": "adaptation probably did not help",
    "unknown": "cannot tell whether adaptation helped",
}


def verdict_of(before: Mapping[str, float | None], after: Mapping[str, float | None]) -> Verdict:
    """Judge an adaptation by the criteria of the model before and after it.

    Args:
        before, after: see :func:`segadapt.evaluation.criteria.criteria_of`.
    """
    raise NotImplementedError
