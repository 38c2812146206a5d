"""Methods: one file per paper, each with its algorithm box. Names are imported when they are first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segadapt.core.exports import on_demand

if TYPE_CHECKING:
    from segadapt.methods.method import Method, OnlineLabels, Trained
    from segadapt.methods.registry import METHODS, MethodInfo, method_info, register_method

_MODULES = {
    "METHODS": "registry",
    "Method": "method",
    "MethodInfo": "registry",
    "OnlineLabels": "method",
    "Trained": "method",
    "method_info": "registry",
    "register_method": "registry",
}
__all__ = ["METHODS", "Method", "MethodInfo", "OnlineLabels", "Trained", "method_info", "register_method"]

if not TYPE_CHECKING:  # hidden from type checkers, so that they report a misspelt name
    __getattr__, __dir__ = on_demand(__name__, _MODULES)
