"""Benchmarks: methods side by side, the cost of a training step, of passes and of class thresholds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segadapt.core.exports import on_demand

if TYPE_CHECKING:
    from segadapt.bench.passes import bench_passes
    from segadapt.bench.step import bench_step
    from segadapt.bench.table import bench_table
    from segadapt.bench.thresholds import bench_thresholds

_MODULES = {
    "bench_passes": "passes",
    "bench_step": "step",
    "bench_table": "table",
    "bench_thresholds": "thresholds",
}

__all__ = [
    "bench_passes",
    "bench_step",
    "bench_table",
    "bench_thresholds",
]

if not TYPE_CHECKING:  # hidden from type checkers, so that they report a misspelt name
    __getattr__, __dir__ = on_demand(__name__, _MODULES)
