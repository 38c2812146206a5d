"""segadapt: adapt a semantic segmentation model to a domain that has images but no labels.

import segadapt
segadapt.adapt("toy/cbst", roots={"toy": "demo/toy"}, out="run")
model = segadapt.load("run")
label, confidence = segadapt.predict(model, image)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from segadapt.errors import RequestError, RunError
from segadapt.version import __version__

__all__ = ["RequestError", "RunError", "__version__", "adapt", "load", "predict"]

if TYPE_CHECKING:
    from segadapt.api import adapt, load, predict


def __getattr__(name: str) -> Any:
    """Import torch and the rest only when one of the three calls is used."""
    if name in ("adapt", "load", "predict"):
        from segadapt import api

        return getattr(api, name)
    raise AttributeError(f"module 'segadapt' has no attribute '{name}'")
