"""Methods: one file per paper, each with its algorithm box. Names are imported when they are first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segadapt.methods.method import Method, OnlineLabels, Trained
    from segadapt.methods.registry import METHODS, MethodInfo, method_info, register_method

_PLACES = {
    "METHODS": "registry",
    "Method": "method",
    "MethodInfo": "registry",
    "OnlineLabels": "method",
    "Trained": "method",
    "method_info": "registry",
    "register_method": "registry",
}
__all__ = ["METHODS", "Method", "MethodInfo", "OnlineLabels", "Trained", "method_info", "register_method"]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(importlib.import_module(f"segadapt.methods.{_PLACES[name]}"), name)
    raise AttributeError(f"module 'segadapt.methods' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
