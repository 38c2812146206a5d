"""The configuration of a run: a recipe with overrides, checked.

:mod:`segadapt.recipes` reads the recipes. A stage has ``steps`` or ``epochs``: the one laid over the other replaces it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field, SerializeAsAny, field_validator

from segadapt.core.registry import load_plugins
from segadapt.core.settings import Settings, Shown, checked
from segadapt.data.bands import BandChoice
from segadapt.data.resize import Resize
from segadapt.data.workers import Workers
from segadapt.errors import RequestError, nearest
from segadapt.methods.registry import METHODS, stage_settings
from segadapt.methods.stage_config import Laid, Share, StageConfig
from segadapt.models.build import ModelConfig
from segadapt.models.inference import InferenceConfig
from segadapt.recipes import merge, override, read_recipe, recipe_names, resolved_stages
from segadapt.runs.computing import Computing
from segadapt.runs.folds import WithFold
from segadapt.runs.other_network import on_other_networks
from segadapt.runs.shortening import Request, length_of, shortened
from segadapt.runs.start import started
from segadapt.runs.trial import as_trial


class DataSpec(Settings):
    """Settings of one data set of a run.

    Attributes:
        reader: ``folder``, a built-in reader (``segadapt data readers``), or one that a package registered.
        root: folder of the data set: a path, or the name of a root given by ``--root name=path``
            or the environment variable ``SEGADAPT_<NAME>``.
        split: split of the data set, as its reader names it; empty takes the first one.
        options: further settings of the reader, e.g. ``{condition: fog}`` of ``acdc``.
        images: image folder, for ``folder``; kept as an absolute path.
        labels: mask folder, for ``folder``, or annotations (COCO, YOLO, labelme, Supervisely, CVAT): a file, or the
            folder of the files; kept as an absolute path.
        classes: classes file, for ``folder``; kept as an absolute path. Without one the mask values are the classes.
        list_file: file that names the images to use, one per line: a path below the image folder (or ``root``), or
            the end of one, with or without suffix; null uses all; kept as an absolute path.
        ignore_ids: for ``folder``: mask values that belong to no class.
        pair: for ``folder``: names of images and masks as ``IMAGE=MASK``, paths below their folders with ``{}`` for
            what both share, e.g. ``{}_training.tif={}_manual1.gif``; other files are left out, and said. null pairs by
            name. Without labels only the image's side counts.
        unannotated: for annotations: name of the class of what they do not cover, or ``ignore`` for no class; null is
            the class ``background``, or that of all others in the classes file.
        merge: its classes that count as a class of another name in the run's label space, e.g.
            ``{truck: car}``, or for none of them: ``{boat: ignore}``. The others are matched by name.
        bands: bands to read of images that have other than red, green and blue: numbers from 1 in the order wanted, or
            ``all``; null reads what a viewer shows. Test images and the oracle's are read as the target's.
        size: working size in pixels: height and width, where ``[null, width]`` keeps the proportions, or one number
            for the longest side, to which images only shrink; null keeps their size.
        limit: use only this many images, evenly spaced.
    """

    reader: str = "folder"
    root: str = ""
    split: str = ""
    options: dict[str, Any] = Field(default_factory=dict)
    images: str | None = None
    labels: str | None = None
    classes: str | None = None
    list_file: str | None = None
    ignore_ids: tuple[int, ...] = (255,)
    pair: str | None = None
    unannotated: str | None = None
    merge: dict[str, str] = Field(default_factory=dict)
    bands: BandChoice = None
    size: Resize = None
    limit: int | None = Field(default=None, ge=1)

    @field_validator("images", "labels", "classes", "list_file")
    @classmethod
    def _absolute(cls, path: str | None) -> str | None:
        """Make a path absolute, so that a run can be resumed from another folder."""
        return None if path is None else str(Path(path).expanduser().absolute())


class DataConfig(WithFold):
    """The data of a run.

    Attributes:
        source: labelled source images; null where the run has none and starts from a model file.
        target: target images; label paths of it are never resolved.
        oracle: target images with labels, for an oracle, for ``measure_labels`` and for ``labelled``.
        test: labelled target images on which results are reported; never trained on.
        space: label space of the run by name, e.g. ``camvid11``; null is that of the source or of the given model.
        measure_labels: compare pseudo labels with ``oracle`` in the report. Nothing of it reaches training.
        cache_mb: memory for decoded images of each training process, in MB; its ``workers`` divide it.
        workers: decoding processes per stream; 0 decodes in the training process; ``auto`` goes by device and cores.
        skip_damaged: replace unreadable files, named and counted, instead of stopping.
    """

    source: DataSpec | None
    target: DataSpec
    oracle: DataSpec | None = None
    test: DataSpec | None = None
    space: str | None = None
    measure_labels: bool = False
    cache_mb: int = Field(default=2000, ge=0)
    workers: Workers = "auto"
    skip_damaged: bool = False

    @property
    def test_size(self) -> Resize:
        """Working size of the test images: their own, or the size of the target where there are none."""
        return (self.test or self.target).size


class RunConfig(Computing):
    """Everything that decides the numbers of a run.

    Attributes:
        title: title of the run, e.g. ``camvid_day_dusk/cbst``; the name of the recipe where it gives none.
        description: one line for ``segadapt recipes``.
        seed: seed of everything random.
        model: the network; ``segadapt settings model``.
        data: source, target and test images; ``segadapt settings data``.
        start: model file that a recipe starts from instead of training on the source (``--model``).
        evaluation: how test images are predicted; ``segadapt settings inference``.
        guard: judge without target labels whether adapting helped, and recommend a model.
        length: share of the published steps, in (0, 1], of the stages with a ``length``, or of all; null leaves theirs.
        every: settings that all stages have. What a stage says counts more, or, with a ``length``, its ``short``.
        plugins: packages that register methods, readers or augmentations when imported; a resumed run knows them.
        stages: stages by name, run in order; the last one is the result; ``segadapt settings METHOD``.
    """

    title: str
    description: str = ""
    seed: int = Field(default=0, ge=0)
    model: ModelConfig = ModelConfig()
    data: DataConfig
    start: str | None = None
    evaluation: InferenceConfig = InferenceConfig()
    guard: bool = True
    length: Share | None = None
    every: Laid = Field(default_factory=dict)
    plugins: tuple[str, ...] = ()
    stages: Annotated[tuple[SerializeAsAny[StageConfig], ...], Shown("mapping to settings")]


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
    config.require_whole_batches(stages, where)
    around = [s.model_copy(update={"network": s.network.around(config.model)}) if s.network else s for s in stages]
    return config.model_copy(update={"stages": tuple(around)})


class Resolved(NamedTuple):
    """A configuration and where its stages come from.

    Attributes:
        config: the configuration.
        published: its stages before they were shortened, by name.
        notes: lines about what follows from the request beyond its words.
    """

    config: RunConfig
    published: Mapping[str, StageConfig]
    notes: tuple[str, ...] = ()


def resolve(
    recipe: str | os.PathLike[str],
    overrides: Sequence[str] = (),
    plugins: Sequence[str] = (),
    *,
    steps: int | None = None,
) -> Resolved:
    """Return the configuration of a recipe with overrides, and its stages before they were shortened.

    Args:
        recipe: name or path; see :func:`segadapt.recipes.read_recipe`.
        overrides: settings to change, as ``key.key=value``.
        plugins: packages to import, beside those that the recipe names.
        steps: about so many steps of all stages together, instead of an override ``length=...``.

    Raises:
        RequestError: there is no such recipe, a setting is wrong, or no length gives so many steps.
    """
    if not isinstance(recipe, (str, os.PathLike)):
        raise RequestError(f"a recipe must be a name or a path, not a {type(recipe).__name__}")
    recipe = os.fspath(recipe)
    title = Path(recipe).stem if "." in recipe else "/".join(Path(recipe).parts[-2:])
    return _resolved(recipe, {"title": title}, overrides, plugins, steps)


def load_config(
    recipe: str | os.PathLike[str],
    overrides: Sequence[str] = (),
    plugins: Sequence[str] = (),
    *,
    steps: int | None = None,
) -> RunConfig:
    """Return the configuration of a recipe with overrides; see :func:`resolve`."""
    return resolve(recipe, overrides, plugins, steps=steps).config


def folder_config(
    method: str,
    data: Mapping[str, Mapping[str, Any]],
    overrides: Sequence[str] = (),
    plugins: Sequence[str] = (),
    *,
    steps: int | None = None,
) -> RunConfig:
    """Return the configuration of an adaptation between data of one's own; see :func:`resolve_folders`."""
    return resolve_folders(method, data, overrides, plugins, steps=steps).config


def resolve_folders(
    method: str,
    data: Mapping[str, Mapping[str, Any]],
    overrides: Sequence[str] = (),
    plugins: Sequence[str] = (),
    *,
    steps: int | None = None,
) -> Resolved:
    """Return the configuration of an adaptation between data of one's own, by a recipe ``folders/METHOD``.

    Args:
        method: name of the method.
        data: settings of :class:`DataSpec` by part of the run: ``source``, ``target`` and, where there are such,
            ``oracle`` and ``test``.
        overrides, plugins, steps: see :func:`resolve`.

    Raises:
        RequestError: there is no such method, or a setting is wrong.
    """
    if not isinstance(method, str):
        raise RequestError(f"a method must be a name, not {method!r}; segadapt.methods.register_method gives it one")
    name = f"folders/{method}"
    load_plugins([*plugins, *_named_by(overrides, name)])
    known = [n.removeprefix("folders/") for n in recipe_names() if n.startswith("folders/")] + _methods_of_packages()
    if method not in known:
        raise RequestError(
            f"no method '{method}' for folders{nearest(method, known)}; there are: {', '.join(known)}; a method of "
            "another package needs its entry point installed, or the package among the plugins"
        )
    return _resolved(name, {"title": name}, overrides, plugins, steps, data)


def _resolved(
    recipe: str,
    start: Mapping[str, Any],
    overrides: Sequence[str],
    plugins: Sequence[str],
    steps: int | None,
    data: Mapping[str, Mapping[str, Any]] | None = None,
) -> Resolved:
    """Return the configuration of a recipe; ``data``, where given, are all the parts that the run has."""
    where = f"recipe '{recipe}'"
    load_plugins([*plugins, *_named_by(overrides, where)])  # first, a recipe may be named after a method of theirs
    raw = {**start, **read_recipe(recipe, _methods_of_packages)}
    if data is not None:
        raw = merge(raw, {"data": {"source": None, **data}})
        raw["data"] = {k: v for k, v in raw["data"].items() if k not in ("oracle", "test") or k in data}
    raw, begun = started(raw, apply_overrides(raw, overrides), where)
    request = _request(raw, overrides, where)
    named = dict.fromkeys([*_listed(request.raw.get("plugins"), where), *plugins])
    load_plugins(list(named))  # before stages are checked, which may be of their methods
    if steps is not None:
        if any(override.partition("=")[0].strip() == "length" for override in overrides):
            raise RequestError("length and steps exclude each other; give one of the two")
        overrides = [*overrides, f"length={length_of(steps, request)}"]
        request = _request(raw, overrides, where)
    stages = shortened(request)
    # Stages that are left out stay known; overrides come again, as nothing may follow from them but they themselves.
    full = {name: stages[name].settings if name in stages else None for name in request.raw["stages"]}
    raw, notes = on_other_networks(apply_overrides({**request.raw, "stages": full}, overrides), overrides, request.said)
    if data is not None:
        raw["stages"], more = as_trial(raw["stages"], request.said)
        notes = [*notes, *more]
    config = build_config({**raw, "plugins": list(named)}, where)
    return Resolved(config, {name: stage.published for name, stage in stages.items()}, (*begun, *notes))


def _request(raw: Mapping[str, Any], overrides: Sequence[str], where: str) -> Request:
    """Return a recipe and what overrides say of it."""
    told = apply_overrides(raw, overrides)
    resolved_stages(told, where)  # refuses what is no mapping to settings
    if not isinstance(raw.get("stages"), Mapping):
        raise RequestError(f"{where}: stages must be a mapping of names to settings")
    return Request(where, told, resolved_stages(raw, where), _said_by(raw, overrides, where))


def _said_by(raw: Mapping[str, Any], overrides: Sequence[str], where: str) -> dict[str, dict[str, Any]]:
    """Return what overrides say of each stage, and of the stage that it is like."""
    bare = {
        name: None if stage is None else {"like": stage["like"]} if "like" in stage else {}
        for name, stage in raw["stages"].items()
    }
    return resolved_stages(apply_overrides({**raw, "stages": bare}, overrides), where)


def _named_by(overrides: Sequence[str], where: str) -> list[str]:
    """Return the packages that an override ``plugins=...`` names."""
    changed = apply_overrides({}, [o for o in overrides if o.startswith("plugins=")])
    return _listed(changed.get("plugins"), where)


def _methods_of_packages() -> list[str]:
    return [name for name in METHODS.names() if not METHODS.is_own(name)]


def listed(values: Any) -> list[Any]:
    """Return a list of what may be one name, one path, several of them, or nothing."""
    if values is None:
        return []
    return [values] if isinstance(values, (str, os.PathLike)) else list(values)


def _listed(plugins: Any, where: str) -> list[str]:
    """Return the names under ``plugins`` of a recipe."""
    if plugins is not None and not isinstance(plugins, (str, Sequence)):
        raise RequestError(f"{where}: plugins is not a list of packages, e.g. plugins: [my_package]")
    return [str(name) for name in listed(plugins)]
