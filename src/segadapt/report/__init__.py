"""The page that shows a run."""

from segadapt.report.page import write_report

__all__ = ["write_report"]
