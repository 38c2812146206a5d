"""Lists of settings, from the settings classes and their docstrings: for the command and the docs."""

from __future__ import annotations

from segadapt.core.settings import Setting, Settings, describe
from segadapt.methods.registry import METHODS, method_info, stage_settings
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

    Raises:
        RequestError: there is no such method.
    """
    if name in GROUPS and name not in METHODS:
        return describe(GROUPS[name])
    info = method_info(name)
    cls, values = stage_settings("stage", {"method": name})
    return describe(cls, {**values, "title": info.title or name}, leave_out=("name", "method"))
