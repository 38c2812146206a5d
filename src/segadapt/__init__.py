"""segadapt: adapt a semantic segmentation model to a domain that has images but no labels.

>>> import segadapt
>>> result = segadapt.adapt("toy/cbst", roots={"toy": "demo/toy"}, out="run")  # doctest: +SKIP
>>> model = segadapt.load("run")  # doctest: +SKIP
>>> label_map, confidence = segadapt.predict(model, image)  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from segadapt.core.exports import on_demand
from segadapt.errors import RequestError, RunError
from segadapt.version import __version__

if TYPE_CHECKING:
    from segadapt.api import adapt, evaluate, export, label, load, plan, predict, rank, resume, suggest

__all__ = [
    "RequestError",
    "RunError",
    "__version__",
    "adapt",
    "evaluate",
    "export",
    "label",
    "load",
    "plan",
    "predict",
    "rank",
    "resume",
    "suggest",
]

if not TYPE_CHECKING:  # hidden from type checkers, so that they report a misspelt name
    _CALLS = {name: "api" for name in __all__ if name not in globals()}
    __getattr__, __dir__ = on_demand("segadapt", _CALLS, __all__)
