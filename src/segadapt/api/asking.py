"""From a request to settings: a recipe, folders or data sets, as :func:`segadapt.adapt` and ``plan`` take them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from segadapt.data.bands import BandChoice
from segadapt.data.dataset import Dataset
from segadapt.errors import RequestError
from segadapt.methods.stage_config import StageConfig
from segadapt.models.segmenter import Preprocessing
from segadapt.models.store import stored_space
from segadapt.runs.budget import METHOD, WITHOUT_SOURCE
from segadapt.runs.config import Resolved, RunConfig, apply_overrides, listed, resolve, resolve_folders
from segadapt.runs.own_data import Classes, PathLike, own_data
from segadapt.runs.own_network import with_network
from segadapt.runs.target_labels import about_target_labels, to_train_on

ORACLE = "oracle"
"""Method that trains on the labels of the target."""


@dataclass(frozen=True)
class Asked:
    """A request as settings.

    Attributes:
        config: settings of the run.
        published: stages before they were shortened, by name.
        given: data sets that a script gives, by their part in the run.
        notes: lines about what follows from the request beyond its words.
    """

    config: RunConfig
    published: Mapping[str, StageConfig]
    given: Mapping[str, Dataset]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class OwnData:
    """Data that a request gives itself instead of naming a recipe.

    Attributes:
        folders: folder of images and folder of masks, by part: ``source``, ``target``, ``test``.
        datasets: data sets of a script by the same parts; None where there is none.
        classes, ignore_ids, pair: see :func:`segadapt.adapt`.
        method: name of the method; None for the default.
        model: file of the model that the run starts from; None where it trains one on the source.
    """

    folders: Mapping[str, tuple[PathLike | None, PathLike | None]]
    datasets: Mapping[str, Any]
    classes: Classes | None
    ignore_ids: Sequence[int]
    pair: str | Mapping[str, str] | None
    method: str | None
    model: Path | None = None


Ask = Callable[[Sequence[str]], Asked]
"""Returns the settings of a request with overrides laid below its own."""


def asker(
    recipe: PathLike | RunConfig | None,
    own: OwnData,
    changes: Sequence[str],
    plugins: Sequence[str],
    steps: int | None,
    network: tuple[nn.Module | None, str | None, Preprocessing],
) -> Ask:
    """Return the function that makes settings of a call, for :func:`segadapt.api.choosing.chosen`.

    Args:
        recipe, own, changes, plugins, steps: see :func:`asked`.
        network: ``network``, ``head`` and ``preprocessing`` of :func:`segadapt.adapt`.
    """

    def ask(more: Sequence[str]) -> Asked:
        request = asked(recipe, [*more, *changes], plugins, own, steps)
        return replace(request, config=with_network(request.config, *network, changes))

    return ask


def changes_of(
    overrides: str | Sequence[str], bands: BandChoice, own: OwnData, recipe: bool, **numbers: float | None
) -> list[str]:
    """Return overrides with what a call says in arguments of its own.

    Args:
        overrides: settings to change, as ``key.key=value``.
        bands: bands to read of source and target images; None for what the recipe says.
        own: data of one's own, and the model that the run starts from.
        recipe: whether a recipe is given, which has source images.
        numbers: values of settings by their names; those that are None are left out.
    """
    said = [f"{name}={value}" for name, value in numbers.items() if value is not None]
    if bands is not None:
        chosen = bands if isinstance(bands, str) else list(bands)
        given = own.datasets["source"] is not None or own.folders["source"][0] is not None
        source = recipe or given or own.model is None
        said += [f"data.{part}.bands={chosen}" for part in (("source", "target") if source else ("target",))]
    if own.model is not None:
        said.append(f"start={json.dumps(str(own.model))}")
    return [*listed(overrides), *said]


def asked(
    recipe: PathLike | RunConfig | None,
    changes: Sequence[str],
    plugins: Sequence[str],
    own: OwnData,
    steps: int | None,
) -> Asked:
    """Return the settings of a request.

    Args:
        recipe: name or file of a recipe, or a configuration; None for data of one's own.
        changes: overrides.
        plugins: packages to import.
        own: data of one's own, without any where a recipe is given.
        steps: about so many steps of all stages together.

    Raises:
        RequestError: the request is contradictory or incomplete.
    """
    datasets = {part: value for part, value in own.datasets.items() if value is not None}
    given: dict[str, Dataset] = {}
    if recipe is not None:
        if datasets or any(value is not None for pair in own.folders.values() for value in pair):
            raise RequestError("a recipe names its own data; leave out the folders and data sets, or the recipe")
        if own.method is not None or own.classes is not None or own.pair is not None or tuple(own.ignore_ids) != (255,):
            raise RequestError(
                "method, classes, pair and ignored ids are for folders and data sets; a recipe has its own"
            )
        if isinstance(recipe, RunConfig):
            if changes or plugins or steps is not None:
                raise RequestError("a configuration is complete; other settings and plugins are for a recipe's name")
            resolved = Resolved(recipe, {})
        else:
            resolved = resolve(recipe, changes, plugins, steps=steps)
    else:
        known = stored_space(own.model) if own.model is not None else None
        if own.model is not None and known is None:
            raise RequestError(
                f"there is no model file of segadapt at '{own.model}'; give a *.safetensors of a run, or make one of a "
                "published checkpoint with 'segadapt import'"
            )
        given, data = own_data(datasets, own.folders, own.classes, own.ignore_ids, own.pair, known)
        if own.method == ORACLE and ORACLE not in data:
            raise RequestError(_WITHOUT_LABELS.format("method 'oracle'"))
        data = to_train_on(data, apply_overrides({}, [c for c in changes if c.startswith("data.")]))
        default = METHOD if data.get("source") else WITHOUT_SOURCE
        resolved = resolve_folders(own.method or default, data, changes, plugins, steps=steps)
    return Asked(resolved.config, resolved.published, given, (*resolved.notes, *_about_target_labels(resolved.config)))


def _about_target_labels(config: RunConfig) -> list[str]:
    """Return a line where the target's labels are given and nothing learns them.

    Raises:
        RequestError: a stage needs them, and they are not given.
    """
    opening = [stage.name for stage in config.stages if stage.opens_target_labels]
    if opening and config.data.oracle is None:
        raise RequestError(_WITHOUT_LABELS.format(f"stage '{opening[0]}'"))
    return [] if opening else about_target_labels(config)


_WITHOUT_LABELS = (
    "{} trains on the labels of the target: give --target-labels FOLDER (in Python target_labels), the masks of the "
    "target images; in a recipe data.oracle"
)
