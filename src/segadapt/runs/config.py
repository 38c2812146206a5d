"""The configuration of a run, and recipes: YAML files that resolve to one.

A recipe may build on another (``base``); mappings merge, everything else replaces. ``stages`` is a
mapping from name to settings, run in order. Overrides are ``key.key=value`` with a YAML value; a
key that starts with a stage's name means that stage: ``adapt.rounds=2``; ``adapt=null`` leaves it
out. ``epochs`` given above ``steps`` replace them, as ``steps`` do ``epochs``. A stage that says
``like: other`` starts from the settings of that other stage.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, SerializeAsAny, field_validator

from segadapt.core.settings import Settings, checked
from segadapt.data.resize import Resize
from segadapt.engine.runtime import Precision
from segadapt.errors import RequestError, nearest
from segadapt.methods.registry import stage_settings
from segadapt.methods.stage_config import StageConfig
from segadapt.models.build import ModelConfig
from segadapt.models.inference import InferenceConfig

_TWO_LENGTHS = "stage '{}' gets both steps and epochs, which say the same; give one of the two"


class DataSpec(Settings):
    """One data set of a run.

    Attributes:
        reader: ``folder`` or one of the built-in readers (``segadapt data readers``).
        root: folder of the data set: a path, or the name of a root given by ``--root name=path``
            or the environment variable ``SEGADAPT_<NAME>``.
        split: of the data set, as its reader names them.
        options: further settings of the reader.
        images, labels, classes: for ``folder``: image folder, mask folder, classes file; kept as absolute paths.
        ignore_ids: for ``folder``: mask values that belong to no class.
        merge: its classes that count as a class of another name in the run's label space, e.g.
            ``{truck: car}``; the others are matched by name, and ignored where that fails.
        size: working size: (height, width), where ``[null, width]`` keeps the proportions, or one number for the
            longest side, to which images only shrink; None keeps them.
        limit: use only this many images, evenly spaced.
    """

    reader: str = "folder"
    root: str = ""
    split: str = ""
    options: dict[str, Any] = Field(default_factory=dict)
    images: str | None = None
    labels: str | None = None
    classes: str | None = None
    ignore_ids: tuple[int, ...] = (255,)
    merge: dict[str, str] = Field(default_factory=dict)
    size: Resize = None
    limit: int | None = Field(default=None, ge=1)

    @field_validator("images", "labels", "classes")
    @classmethod
    def _absolute(cls, path: str | None) -> str | None:
        """So that a run can be resumed from another folder."""
        return None if path is None else str(Path(path).expanduser().absolute())


class DataConfig(Settings):
    """The data of a run.

    Attributes:
        source: labelled source images.
        target: target images; label paths of it are never resolved.
        oracle: the target's training set with labels, for an oracle and for ``measure_labels``.
        test: labelled target images on which results are reported; never trained on.
        space: label space of the run by name; the source's own space if None.
        measure_labels: compare pseudo labels with the labels of ``oracle`` in the report. Nothing
            of it reaches training or selection.
        cache_mb: memory for decoded images of each training process; its ``workers`` and their streams divide it.
        workers: decoding processes; 0 decodes in the training process.
        skip_damaged: replace unreadable files, named and counted, instead of stopping.
    """

    source: DataSpec
    target: DataSpec
    oracle: DataSpec | None = None
    test: DataSpec | None = None
    space: str | None = None
    measure_labels: bool = False
    cache_mb: int = Field(default=2000, ge=0)
    workers: int = Field(default=0, ge=0)
    skip_damaged: bool = False

    @property
    def test_size(self) -> Resize:
        """Working size of the test images: their own, or that of the target where there are none."""
        return (self.test or self.target).size


class RunConfig(Settings):
    """Everything that decides the numbers of a run.

    Attributes:
        title: e.g. ``camvid_day_dusk/cbst``.
        description: one line for ``segadapt recipes``.
        seed: of everything random.
        accelerator, precision: where and how to compute.
        model, data: see there.
        evaluation: how test images are predicted.
        stages: run in order; the last one is the result.
    """

    title: str
    description: str = ""
    seed: int = Field(default=0, ge=0)
    accelerator: str = "auto"
    precision: Precision = "32-true"
    model: ModelConfig = ModelConfig()
    data: DataConfig
    evaluation: InferenceConfig = InferenceConfig()
    stages: tuple[SerializeAsAny[StageConfig], ...]


# ---- recipes ----


def recipe_names() -> list[str]:
    """All recipes that ship with the package, as ``task/method``."""
    root = Path(str(files("segadapt"))) / "recipes"
    return sorted(
        str(path.relative_to(root).with_suffix("")) for path in root.glob("*/*.yaml") if not path.stem.startswith("_")
    )


def find_recipe(name: str) -> Path:
    """The file of a recipe: a path to a YAML file (its ending may be left out), or a shipped name."""
    given = Path(name)
    if given.suffix in (".yaml", ".yml"):
        if not given.is_file():
            raise RequestError(f"no recipe file '{name}'")
        return given
    for folder in (Path(str(files("segadapt"))) / "recipes", Path()):
        found = folder / f"{name}.yaml"
        if found.is_file() and not found.stem.startswith("_"):
            return found
    raise RequestError(f"no recipe '{name}'{nearest(name, recipe_names())}; 'segadapt recipes' lists them")


def read_recipe(path: Path) -> dict[str, Any]:
    """A recipe with its bases merged in, not yet checked."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise RequestError(f"recipe '{path}' is not a text file in UTF-8; save it as one") from None
    except yaml.YAMLError as problem:
        raise RequestError(f"recipe '{path}' is not valid YAML: {' '.join(str(problem).split())}") from problem
    if not isinstance(raw, dict):
        raise RequestError(f"recipe '{path}' is not a mapping of settings")
    stages = raw.get("stages")
    for name, stage in stages.items() if isinstance(stages, Mapping) else ():
        if isinstance(stage, Mapping) and None not in (stage.get("steps"), stage.get("epochs")):
            raise RequestError(f"recipe '{path}': {_TWO_LENGTHS.format(name)}")
    base = raw.pop("base", None)
    if base is None:
        return raw
    beside = path.parent / str(base)
    if beside.is_file():
        return merge(read_recipe(beside), raw)
    if str(base) not in recipe_names():
        raise RequestError(f"recipe '{path}' builds on '{base}', which is neither beside it nor a shipped recipe")
    return merge(read_recipe(find_recipe(str(base))), raw)


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """``above`` laid over ``below``; mappings merge key by key, and ``epochs`` above replace ``steps`` below."""
    result = dict(below)
    if above.get("epochs") is not None and result.get("steps") is not None:
        result["steps"] = None  # where both stand, steps would count
    for key, value in above.items():
        if isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = merge(result[key], value)
        else:
            result[key] = value
    return result


def apply_overrides(raw: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Settings with ``key.key=value`` overrides laid over them."""
    result = dict(raw)
    stages = result.get("stages", {})
    lengths: dict[tuple[str, ...], str] = {}
    for override in overrides:
        key, sign, text = override.partition("=")
        if not sign or not key:
            raise RequestError(f"override '{override}' is not of the form key=value, e.g. adapt.rounds=2")
        path = key.strip().split(".")
        if path[0] not in RunConfig.model_fields:
            if path[0] not in stages:
                known = [*RunConfig.model_fields, *stages]
                raise RequestError(
                    f"override '{override}': no setting or stage '{path[0]}'{nearest(path[0], known)}; "
                    f"stages: {', '.join(stages) or 'none'}"
                )
            path = ["stages", *path]
        try:
            value: Any = yaml.safe_load(text)
        except yaml.YAMLError as problem:
            raise RequestError(f"override '{override}': the value is not valid YAML") from problem
        length = path[-1] in ("steps", "epochs") and value is not None
        if length and lengths.setdefault(tuple(path[:-1]), path[-1]) != path[-1]:
            raise RequestError(f"override '{override}': {_TWO_LENGTHS.format(path[-2])}")
        for part in reversed(path):
            value = {part: value}
        result = merge(result, value)
    for name in (name for name, settings in stages.items() if settings is None):
        changed = result["stages"][name]
        if changed and not {"method", "like"} & set(changed):
            there = ", ".join(other for other, settings in stages.items() if settings is not None)
            raise RequestError(
                f"override '{name}.{next(iter(changed))}': the recipe has no stage '{name}'; its stages: {there}"
            )
    return result


def build_config(raw: Mapping[str, Any], where: str) -> RunConfig:
    """Checked configuration from raw settings; RequestError names the key and the nearest known one."""
    stages = []
    raw_stages = raw.get("stages") or {}
    if isinstance(raw_stages, list):  # as written by a resolved configuration
        raw_stages = {str(s.get("name")): s for s in raw_stages}
    if not isinstance(raw_stages, Mapping) or not raw_stages:
        raise RequestError(f"{where}: no stages; a recipe needs at least one")
    raw_stages = {name: settings for name, settings in raw_stages.items() if settings is not None}
    if not raw_stages:
        raise RequestError(f"{where}: every stage is left out; keep at least one")
    for name, settings in raw_stages.items():
        if not isinstance(settings, Mapping):
            raise RequestError(f"{where}: stage '{name}' is not a mapping of settings")
        cls, full = stage_settings(name, _like(name, settings, raw_stages, where))
        stages.append(checked(cls, full, f"{where}: stage '{name}'"))
    rest = {k: v for k, v in raw.items() if k != "stages"}
    config: RunConfig = checked(RunConfig, {"title": where, **rest, "stages": tuple(stages)}, where)
    return config


def _like(name: str, settings: Mapping[str, Any], stages: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Settings of a stage that says ``like: other``: the other's, with its own laid over them."""
    own = dict(settings)
    other = own.pop("like", None)
    if other is None:
        return own
    if other not in stages or other == name:
        raise RequestError(
            f"{where}: stage '{name}' is like '{other}', which is no other stage{nearest(str(other), stages)}"
        )
    return merge(_like(str(other), stages[other], stages, where), own)


def load_config(recipe: str, overrides: Sequence[str] = ()) -> RunConfig:
    """The configuration of a recipe with overrides."""
    raw = apply_overrides(
        {"title": Path(recipe).stem if "." in recipe else recipe, **read_recipe(find_recipe(recipe))}, overrides
    )
    return build_config(raw, f"recipe '{recipe}'")


def folder_config(
    method: str,
    source_images: Path,
    source_labels: Path,
    target_images: Path,
    test_images: Path | None = None,
    test_labels: Path | None = None,
    classes: Path | None = None,
    ignore_ids: Sequence[int] = (255,),
    overrides: Sequence[str] = (),
) -> RunConfig:
    """The configuration of an adaptation between two plain folders (recipes ``folders/*``)."""
    spec: dict[str, Any] = {"classes": str(classes) if classes else None, "ignore_ids": list(ignore_ids)}
    data: dict[str, Any] = {
        "source": {"images": str(source_images), "labels": str(source_labels), **spec},
        "target": {"images": str(target_images)},
    }
    if test_images is not None:
        data["test"] = {"images": str(test_images), "labels": str(test_labels), **spec}
    name = f"folders/{method}"
    raw = merge(read_recipe(find_recipe(name)), {"data": data})
    if test_images is None:
        raw["data"].pop("test")
    return build_config(apply_overrides({"title": name, **raw}, overrides), f"recipe '{name}'")


def resolve_root(name: str, roots: Mapping[str, str], what: str = "data set", kind: str = "FOLDER") -> Path:
    """The folder or file behind a root.

    The first part of ``name`` is looked up in ``--root part=path`` and in the environment
    (``SEGADAPT_<PART>``); what follows it is a path inside. Otherwise ``name`` is a path itself.
    """
    part, _, rest = name.partition("/")
    variable = f"SEGADAPT_{part.upper()}"
    known = roots.get(part) or os.environ.get(variable)
    if known:
        return Path(known).expanduser() / rest
    path = Path(name).expanduser()
    if path.is_absolute() or name.startswith(".") or path.exists():
        return path
    raise RequestError(f"where is the {what} '{part}'? give --root {part}={kind} or set {variable}={kind}")
