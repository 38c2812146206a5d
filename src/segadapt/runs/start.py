"""Runs that start from a given model (``start``, on the command line ``--model``), with or without source images.

The model takes the place of the stage that trains on the source; it is scored and shown as that stage would be. What
the model file knows is taken from it: network, working size, inference, the crop that it was trained with and, where
there is no source, the classes and how bands are read. Without source images, stages that cannot do without them are
left out, and the others get the settings with which their method leaves out its source terms
(:attr:`~segadapt.methods.stage_config.StageConfig.without_source`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from segadapt.core.settings import checked
from segadapt.data.bands import BandReader, reader_of
from segadapt.errors import RequestError
from segadapt.labels import LabelSpace
from segadapt.methods.mean_teacher import MeanTeacherConfig
from segadapt.methods.registry import METHODS, method_info, stage_settings
from segadapt.methods.stage_config import StageConfig, TaughtConfig
from segadapt.models.build import model_config
from segadapt.models.store import LoadedModel, load_model, model_head
from segadapt.recipes import merge, recipe_names, resolved_stages

if TYPE_CHECKING:
    from segadapt.runs.config import RunConfig

GIVEN = "given"
"""Method of the stage that is the model file."""
_SOURCE = "source"
_TWICE = "hrda:"
_RISK = (
    "stage '{}': {} labels while it trains, and without source images such methods lost half of what the model knew "
    "where cbst gained (docs/no_source.md); look at what the guard says at the end"
)


class Known(NamedTuple):
    """Knowledge of a model file about the data of a run that has no source.

    Attributes:
        space: its classes.
        reading: how it reads images; None for ordinary ones.
    """

    space: LabelSpace
    reading: BandReader | None


def started(raw: Mapping[str, Any], told: Mapping[str, Any], where: str) -> tuple[dict[str, Any], list[str]]:
    """Return the settings of a recipe that start from the model of ``start``; unchanged where there is none.

    Args:
        raw: settings of the recipe.
        told: the same with the overrides of the command, of which ``start`` and ``data.source`` count here.
        where: names the recipe in errors.

    Returns:
        The settings, before overrides, and lines about what is otherwise than in the recipe.

    Raises:
        RequestError: the model cannot be read, or without source images no stage is left.
    """
    if told.get("start") is None:
        return dict(raw), []
    file = Path(str(told["start"])).expanduser().absolute()
    loaded = load_model(file)
    without = (told.get("data") or {}).get("source") is None
    stages, notes = _stages(raw, file, without, where)
    network = model_config(loaded.model).model_dump()
    if not without:  # what starts from ImageNet weights beside it, such as the feature distance of DAFormer, still does
        network["weights"] = (raw.get("model") or {}).get("weights", "imagenet")
    whole = {**raw, "stages": stages, "model": network}
    if str(loaded.model.architecture.get("name")).startswith(_TWICE):  # it looks twice already
        stages = {name: {k: v for k, v in stage.items() if k != "network"} for name, stage in stages.items()}
        whole["stages"] = stages
    twice = any(stage.get("network") or stage.get("short", {}).get("network") for stage in stages.values())
    return (whole if twice else _as_trained(whole, loaded)), notes


def known_of(config: RunConfig) -> Known | None:
    """Return what the given model says of the data of a run without source images; None for a run with them.

    Args:
        config: configuration of the run.

    Raises:
        RequestError: a stage needs source images, or the run does not start from a model file.
    """
    if config.data.source is not None:
        return None
    for stage in config.stages:
        needed = stage.without_source
        if needed is None:
            raise RequestError(f"stage '{stage.name}': {_trains_on_source(stage.method)}")
        for key, value in needed.items():
            if getattr(stage, key) != value:
                said = f"{stage.name}.{key}={_yaml(value)}"
                raise RequestError(
                    f"stage '{stage.name}': {key} looks at source images, and there are none; set {said}"
                )
    first = config.stages[0]
    head = model_head(Path(first.initial))
    if head is None and first.method == GIVEN:
        raise RequestError(
            f"the given model '{first.initial}' is not there, or no model file any more; once stage '{first.name}' was "
            f"finished, the run has a copy, stages/{first.name}/model.safetensors: put it there again"
        )
    if head is None:
        raise RequestError(
            f"without source images a run starts from a model file, and stage '{first.name}' starts from "
            f"'{first.initial}'; give --model FILE (Python: model=..., in a recipe start)"
        )
    space, provenance = head
    return Known(space, reader_of(provenance.get("input")))


def methods_without_source() -> list[str]:
    """Return the names of the methods for folders that adapt without source images."""
    names = [name.removeprefix("folders/") for name in recipe_names() if name.startswith("folders/")]
    return [name for name in METHODS if name in names and _does_without(name)]


# ---- stages ----


def _stages(
    raw: Mapping[str, Any], file: Path, without: bool, where: str
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return the stages with the given model before them, and lines about those that changed."""
    resolved = resolved_stages(raw, where)
    trained = [name for name, stage in resolved.items() if stage.get("method") == "source_only"]
    first = trained[0] if trained else _SOURCE
    kept: dict[str, dict[str, Any]] = {first: {"method": GIVEN, "initial": str(file), "steps": 1}}
    notes: list[str] = []
    left_out: list[StageConfig] = []
    adapting = 0
    for name, settings in resolved.items():
        if name in trained:
            continue
        cls, full = stage_settings(name, settings)
        stage = checked(cls, full, f"{where}: stage '{name}'")
        if without and stage.without_source is None:
            left_out.append(stage)
            continue
        own = dict(raw["stages"][name])
        if own.get("like") not in kept or own["like"] == first:
            own = settings  # what it is like is no more
        changes = _changes(stage, without)
        if stage.initial == "scratch":
            changes["initial"] = first if stage.role == "oracle" else "previous"
        kept[name] = _laid(own, changes)
        adapting += not isinstance(stage, TaughtConfig)  # a student learns from what the stage before it has learnt
        notes += _told(stage, {key: value for key, value in changes.items() if key != "initial"})
        notes += [_RISK.format(stage.name, stage.title or stage.method)] if without and _labels_online(stage) else []
    if not adapting and (left_out or len(kept) == 1):
        raise RequestError(_trains_on_source(left_out[-1].method if left_out else "source_only"))
    notes += [f"stage '{s.name}' ({s.title or s.method}) trains on source images; left out" for s in left_out]
    return kept, notes


def _changes(stage: StageConfig, without: bool) -> dict[str, Any]:
    """Return the settings of a stage that change where there are no source images.

    Raises:
        RequestError: the name of its method stands for one of them.
    """
    needed = (stage.without_source or {}) if without else {}
    changes = {key: value for key, value in needed.items() if getattr(stage, key) != value}
    for key in changes:
        if key in method_info(stage.method).presets:
            raise RequestError(f"method '{stage.method}' is one with {key}, which needs source images; {_can()}")
    return changes


def _laid(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Lay settings over those of a stage, and over those that a shorter stage has instead."""
    short = settings.get("short") or {}
    again = {key: value for key, value in changes.items() if key in short and key != "initial"}
    return merge(settings, {**changes, **({"short": {**short, **again}} if again else {})})


def _told(stage: StageConfig, changes: Mapping[str, Any]) -> list[str]:
    said = " and ".join(f"{key}={_yaml(value)}" for key, value in changes.items())
    return [f"stage '{stage.name}' has {said}, as there are no source images"] if said else []


# ---- what the model file knows ----


def _as_trained(raw: Mapping[str, Any], loaded: LoadedModel) -> dict[str, Any]:
    """Return settings with the working size, the inference and the crop that the model has been trained for."""
    above: dict[str, Any] = {"every": {}}
    if "size" in loaded.provenance:
        parts = [part for part in ("target", "oracle", "test") if raw["data"].get(part) is not None]
        above["data"] = {part: {"size": loaded.working_size} for part in parts}
    if loaded.inference:
        above["evaluation"] = loaded.inference
        above["every"]["inference"] = {"align_corners": bool(loaded.inference.get("align_corners"))}
    crop = ((loaded.provenance.get("settings") or {}).get("augmentation") or {}).get("crop")
    if crop is not None:
        above["every"]["augmentation"] = {"crop": crop}
    return merge(raw, above)


# ---- words ----


def _labels_online(stage: StageConfig) -> bool:
    """Return whether a mean teacher labels the target while the stage trains."""
    return isinstance(stage, MeanTeacherConfig)


def _does_without(name: str) -> bool:
    cls, full = stage_settings(name, {"method": name})
    stage = cls(**full)
    if stage.role != "adapted" or stage.without_source is None:
        return False
    presets = method_info(name).presets
    return all(getattr(stage, key) == value for key, value in stage.without_source.items() if key in presets)


def _trains_on_source(method: str) -> str:
    return f"method '{method}' trains on source images, and here a model is given instead; {_can()}"


def _can() -> str:
    names: Sequence[str] = methods_without_source()
    return f"without them --method can be {', '.join(names)}"


def _yaml(value: Any) -> str:
    return json.dumps(value)
