"""The page that shows a run: one HTML file, and the pictures and features that a run keeps for it.

>>> from segadapt.report import write_report
>>> write_report(Path("runs/toy"))
PosixPath('runs/toy/report.html')
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from segadapt.core.exports import on_demand

if TYPE_CHECKING:
    from segadapt.report.page import write_report

_MODULES = {"write_report": "page"}

__all__ = ["write_report"]

if not TYPE_CHECKING:  # hidden from type checkers, so that they report a misspelt name
    __getattr__, __dir__ = on_demand(__name__, _MODULES)
