"""A run: configuration, data, networks, stages in order, results. Names are imported when they are first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segadapt.core.exports import on_demand

if TYPE_CHECKING:
    from segadapt.runs.config import DataConfig, DataSpec, RunConfig, build_config, folder_config, load_config
    from segadapt.runs.fingerprint import Fingerprints
    from segadapt.runs.labelling import label_images
    from segadapt.runs.model_card import card_of, write_card
    from segadapt.runs.networks import Networks
    from segadapt.runs.opening import OpenedData, open_data
    from segadapt.runs.plan import plan_run
    from segadapt.runs.results import RunResult, StageResult, find_model
    from segadapt.runs.run import Run, resumed
    from segadapt.runs.settings import settings_of

_MODULES = {
    "DataConfig": "config",
    "DataSpec": "config",
    "Fingerprints": "fingerprint",
    "Networks": "networks",
    "OpenedData": "opening",
    "Run": "run",
    "RunConfig": "config",
    "RunResult": "results",
    "StageResult": "results",
    "build_config": "config",
    "card_of": "model_card",
    "find_model": "results",
    "folder_config": "config",
    "label_images": "labelling",
    "load_config": "config",
    "open_data": "opening",
    "plan_run": "plan",
    "resumed": "run",
    "settings_of": "settings",
    "write_card": "model_card",
}

__all__ = [
    "DataConfig",
    "DataSpec",
    "Fingerprints",
    "Networks",
    "OpenedData",
    "Run",
    "RunConfig",
    "RunResult",
    "StageResult",
    "build_config",
    "card_of",
    "find_model",
    "folder_config",
    "label_images",
    "load_config",
    "open_data",
    "plan_run",
    "resumed",
    "settings_of",
    "write_card",
]

if not TYPE_CHECKING:  # hidden from type checkers, so that they report a misspelt name
    __getattr__, __dir__ = on_demand(__name__, _MODULES)
