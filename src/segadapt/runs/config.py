"""The configuration of a run: a recipe with overrides, checked.

:mod:`segadapt.recipes` reads the recipes. A stage has ``steps`` or ``epochs``: the one laid over the other replaces it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, SerializeAsAny, field_validator

from segadapt.core.registry import load_plugins
from segadapt.core.settings import Settings, checked
from segadapt.data.resize import Resize
from segadapt.engine.runtime import Precision
from segadapt.errors import RequestError
from segadapt.methods.registry import METHODS, stage_settings
from segadapt.methods.stage_config import StageConfig
from segadapt.models.build import ModelConfig
from segadapt.models.inference import InferenceConfig
from segadapt.recipes import merge, override, read_recipe, resolved_stages


class DataSpec(Settings):
    """Settings of one data set of a run.

    Attributes:
        reader: ``folder`` or one of the built-in readers (``segadapt data readers``).
        root: folder of the data set: a path, or the name of a root given by ``--root name=path``
            or the environment variable ``SEGADAPT_<NAME>``.
        split: name of a split, as the reader calls it.
        options: further settings of the reader.
        images, labels, classes: for ``folder``: image folder, mask folder, classes file; kept as absolute paths.
        ignore_ids: for ``folder``: mask values that belong to no class.
        merge: classes of the data set -> classes of the run that they count as, e.g. ``{truck: car}``; all others
            are matched by name, and ignored where the run has no class of their name.
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
        """Make a path absolute, so that a run can be resumed from another folder."""
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
        """Working size of the test images: their own, or the size of the target where there are none."""
        return (self.test or self.target).size


class RunConfig(Settings):
    """Everything that decides the numbers of a run.

    Attributes:
        title: e.g. ``camvid_day_dusk/cbst``.
        description: line of ``segadapt recipes`` about it.
        seed: seed of everything random.
        accelerator: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        precision: ``32-true``, or ``bf16-mixed`` for bfloat16 autocast.
        model: the network that stages train.
        data: the data sets.
        evaluation: how test images are predicted.
        plugins: packages that register methods, readers or augmentations when they are imported; kept in config.json,
            so that a resumed run knows them.
        stages: settings of the stages, in order; the last one that is not an oracle is the result.
    """

    title: str
    description: str = ""
    seed: int = Field(default=0, ge=0)
    accelerator: str = "auto"
    precision: Precision = "32-true"
    model: ModelConfig = ModelConfig()
    data: DataConfig
    evaluation: InferenceConfig = InferenceConfig()
    plugins: tuple[str, ...] = ()
    stages: tuple[SerializeAsAny[StageConfig], ...]


# ---- from recipes to configurations ----


def apply_overrides(raw: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Lay ``key.key=value`` overrides over settings; see :func:`segadapt.recipes.override`."""
    return override(raw, overrides, RunConfig.model_fields)


def build_config(raw: Mapping[str, Any], where: str) -> RunConfig:
    """Return the checked configuration of raw settings.

    Args:
        raw: settings as :func:`segadapt.recipes.read_recipe` returns them, or a configuration that was written down.
        where: names the recipe in errors, and the run where the settings have no title.

    Raises:
        RequestError: a setting is unknown or wrong; it names the key and the nearest known one.
    """
    load_plugins(_listed(raw.get("plugins"), where))
    stages = []
    for name, settings in resolved_stages(raw, where).items():
        cls, full = stage_settings(name, settings)
        stages.append(checked(cls, full, f"{where}: stage '{name}'"))
    rest = {k: v for k, v in raw.items() if k != "stages"}
    config: RunConfig = checked(RunConfig, {"title": where, **rest, "stages": tuple(stages)}, where)
    return config


def load_config(recipe: str, overrides: Sequence[str] = (), plugins: Sequence[str] = ()) -> RunConfig:
    """Return the configuration of a recipe with overrides.

    Args:
        recipe: name or path; see :func:`segadapt.recipes.read_recipe`.
        overrides: settings to change, as ``key.key=value``.
        plugins: packages to import, beside those that the recipe names.

    Raises:
        RequestError: there is no such recipe, or a setting is wrong.
    """
    title = Path(recipe).stem if "." in recipe else recipe
    return _configured(recipe, {"title": title}, overrides, plugins)


def folder_config(
    method: str, data: Mapping[str, Mapping[str, Any]], overrides: Sequence[str] = (), plugins: Sequence[str] = ()
) -> RunConfig:
    """Return the configuration of an adaptation between data of one's own, by a recipe ``folders/METHOD``.

    Args:
        method: name of the method.
        data: settings of :class:`DataSpec` by part of the run: ``source``, ``target`` and, where there is one,
            ``test``.
        overrides, plugins: see :func:`load_config`.
    """
    name = f"folders/{method}"
    return _configured(name, {"title": name}, overrides, plugins, data)


def _configured(
    recipe: str,
    start: Mapping[str, Any],
    overrides: Sequence[str],
    plugins: Sequence[str],
    data: Mapping[str, Mapping[str, Any]] | None = None,
) -> RunConfig:
    """Return the configuration of a recipe; ``data``, where given, are all the parts that the run has."""
    where = f"recipe '{recipe}'"
    changed = apply_overrides({}, [o for o in overrides if o.startswith("plugins=")])
    wanted = [*plugins, *_listed(changed.get("plugins"), where)]
    load_plugins(wanted)  # first, for a recipe may be named after a method of theirs
    raw = {**start, **read_recipe(recipe, _methods_of_packages)}
    if data is not None:
        raw = merge(raw, {"data": data})
        raw["data"] = {k: v for k, v in raw["data"].items() if k != "test" or "test" in data}
    raw = apply_overrides(raw, overrides)
    named = dict.fromkeys([*_listed(raw.get("plugins"), where), *plugins])
    return build_config({**raw, "plugins": list(named)}, where)


def _methods_of_packages() -> list[str]:
    return [name for name in METHODS.names() if not METHODS.is_own(name)]


def _listed(plugins: Any, where: str) -> list[str]:
    """Return the names under ``plugins``, which may be one name, a list, or nothing."""
    if plugins is None or isinstance(plugins, str):
        return [] if plugins is None else [plugins]
    if not isinstance(plugins, Sequence):
        raise RequestError(f"{where}: plugins is not a list of packages, e.g. plugins: [my_package]")
    return list(plugins)


def resolve_root(name: str, roots: Mapping[str, str], noun: str = "data set", kind: str = "FOLDER") -> Path:
    """Return the folder or file that a named root stands for.

    The first part of ``name`` is looked up in ``--root part=path`` and in the environment
    (``SEGADAPT_<PART>``); the rest of it is a path inside. Otherwise ``name`` is a path itself.

    Args:
        name: as a recipe gives it.
        roots: folders and files by name.
        noun: word for it in the message.
        kind: ``FOLDER`` or ``FILE``, for the message.

    Raises:
        RequestError: nothing is known by this name.
    """
    part, _, rest = name.partition("/")
    variable = f"SEGADAPT_{part.upper()}"
    known = roots.get(part) or os.environ.get(variable)
    if known:
        return Path(known).expanduser() / rest
    path = Path(name).expanduser()
    if path.is_absolute() or name.startswith(".") or path.exists():
        return path
    raise RequestError(f"where is the {noun} '{part}'? give --root {part}={kind} or set {variable}={kind}")
