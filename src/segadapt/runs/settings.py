"""Lists of settings, from the settings classes and their docstrings: for the command and the docs."""

from __future__ import annotations

from segadapt.core.settings import Setting, Settings, describe
from segadapt.methods.registry import METHODS, method_info, stage_settings
from segadapt.methods.stage_config import StageConfig
from segadapt.models.build import ModelConfig
from segadapt.models.inference import InferenceConfig
from segadapt.runs.config import DataConfig, RunConfig

GROUPS: dict[str, type[Settings]] = {
    "run": RunConfig,
    "data": DataConfig,
    "model": ModelConfig,
    "inference": InferenceConfig,
}
"""Settings that do not belong to a method."""


def settings_of(name: str) -> list[Setting]:
    """Return the settings of a method with its defaults, or of one of :data:`GROUPS`.

    Names of a group are as an override gives them, e.g. ``data.workers``; in front of the names of a method, as of
    ``inference``, an override has the name of the stage.

    Args:
        name: of a method or a group.

    Raises:
        RequestError: there is no such method.

    >>> [setting.default for setting in settings_of("dacs") if setting.name == "feature_distance"]
    ['0']
    """
    if name in GROUPS and name not in METHODS:
        return describe(
            GROUPS[name], prefix="" if name == "run" else f"{name}.", closed=("model", "data", "evaluation")
        )
    info = method_info(name)
    cls, values = stage_settings("stage", {"method": name})
    return describe(cls, {**values, "title": info.title or name}, leave_out=("name", "method"))


def shared_settings() -> list[Setting]:
    """Return the settings that every stage has, with their defaults."""
    return describe(StageConfig, leave_out=("name", "method"))


def own_settings(name: str) -> list[Setting]:
    """Return the settings that a method adds to those of every stage, or gives another default or meaning.

    Raises:
        RequestError: there is no such method.
    """
    shared = {setting.name: setting for setting in shared_settings()}
    return [s for s in settings_of(name) if s.name != "title" and shared.get(s.name) != s]
