"""The calls of the Python interface; all of them are names of :mod:`segadapt` itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segadapt.core.exports import on_demand

if TYPE_CHECKING:
    from segadapt.api.adapting import adapt, resume
    from segadapt.api.planning import plan
    from segadapt.api.ranking import rank
    from segadapt.api.suggesting import suggest
    from segadapt.api.using import evaluate, export, label, load, predict

__all__ = ["adapt", "evaluate", "export", "label", "load", "plan", "predict", "rank", "resume", "suggest"]

_MODULES = {
    "adapt": "adapting",
    "evaluate": "using",
    "export": "using",
    "label": "using",
    "load": "using",
    "plan": "planning",
    "predict": "using",
    "rank": "ranking",
    "resume": "adapting",
    "suggest": "suggesting",
}

if not TYPE_CHECKING:  # hidden from type checkers, so that they report a misspelt name
    __getattr__, __dir__ = on_demand(__name__, _MODULES)
