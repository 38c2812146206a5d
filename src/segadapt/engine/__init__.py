"""The one training loop: stages, checkpoints, schedules, logs. Names are imported when they are first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segadapt.core.exports import on_demand

if TYPE_CHECKING:
    from segadapt.engine.bundle import DataBundle
    from segadapt.engine.checkpoint import load_checkpoint, save_checkpoint
    from segadapt.engine.environment import RoundEnvironment
    from segadapt.engine.loop import Loop
    from segadapt.engine.optim import build_optimiser, schedule_factor
    from segadapt.engine.record import Record
    from segadapt.engine.runtime import Runtime
    from segadapt.engine.together import Together

_MODULES = {
    "DataBundle": "bundle",
    "Loop": "loop",
    "Record": "record",
    "RoundEnvironment": "environment",
    "Runtime": "runtime",
    "Together": "together",
    "build_optimiser": "optim",
    "load_checkpoint": "checkpoint",
    "save_checkpoint": "checkpoint",
    "schedule_factor": "optim",
}

__all__ = [
    "DataBundle",
    "Loop",
    "Record",
    "RoundEnvironment",
    "Runtime",
    "Together",
    "build_optimiser",
    "load_checkpoint",
    "save_checkpoint",
    "schedule_factor",
]

if not TYPE_CHECKING:  # hidden from type checkers, so that they report a misspelt name
    __getattr__, __dir__ = on_demand(__name__, _MODULES)
