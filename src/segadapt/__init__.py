"""segadapt: adapt a semantic segmentation model to a domain that has images but no labels.

>>> import segadapt
>>> result = segadapt.adapt("toy/cbst", roots={"toy": "demo/toy"}, out="run")  # doctest: +SKIP
>>> model = segadapt.load("run")  # doctest: +SKIP
>>> label_map, confidence = segadapt.predict(model, image)  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from segadapt.errors import RequestError, RunError
from segadapt.version import __version__

if TYPE_CHECKING:
    from segadapt.api import adapt, evaluate, export, label, load, predict, resume

__all__ = [
    "RequestError",
    "RunError",
    "__version__",
    "adapt",
    "evaluate",
    "export",
    "label",
    "load",
    "predict",
    "resume",
]


def __getattr__(name: str) -> Any:
    """Import torch and the rest only when one of the calls is used."""
    if name in __all__:
        from segadapt import api

        return getattr(api, name)
    raise AttributeError(f"module 'segadapt' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])
