"""The page that shows a run: one HTML file, and the pictures and features that a run keeps for it.

>>> from segadapt.report import write_report
>>> write_report(Path("runs/toy"))
PosixPath('runs/toy/report.html')
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segadapt.report.page import write_report

_HOMES = {"write_report": "page"}

__all__ = ["write_report"]


def __getattr__(name: str) -> Any:
    """Import a public name on its first use."""
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """List the public names, used already or not."""
    return sorted({*globals(), *__all__})
