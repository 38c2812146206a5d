"""Fingerprints of stages and data: a finished stage is reused where everything that decides its numbers is equal."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from segadapt.core.files import file_digest, short_hash
from segadapt.data.bands import reader_in
from segadapt.data.dataset import Dataset
from segadapt.engine.speed import SpeedConfig
from segadapt.errors import RequestError
from segadapt.methods.stage_config import UNDECIDED, StageConfig
from segadapt.runs.config import DataSpec, RunConfig
from segadapt.runs.networks import Networks
from segadapt.runs.opening import OpenedData


class Fingerprints:
    """Fingerprints of the stages of a run, one after the other: each depends on the stages that it builds on.

    Args:
        config: configuration of the run.
        opened: opened data of the run.
    """

    def __init__(self, config: RunConfig, opened: OpenedData) -> None:
        self._config, self._data = config, opened.training
        self._trained_on = {target: data_fingerprint(opened, target) for target in (True, False)}
        self._made: dict[str, str] = {}

    def next(self, stage: StageConfig, files: Iterable[Path]) -> str:
        """Return the fingerprint of the stage that follows the stages asked for so far.

        Args:
            stage: settings of the stage; ``UNDECIDED`` ones decide nothing.
            files: weights and models outside the run that it starts or learns from.
        """
        data, oracle = self._config.data, self._data.oracle if stage.opens_target_labels else None
        labelled = self._data.labelled if stage.learns_labelled else None
        undecided = set(UNDECIDED)
        if labelled is None:
            undecided.add("labelled_weight")
        labels = data.oracle
        if labels is not None and labels.reader == "folder" and oracle is None and labelled is None:
            labels = None  # a source model stays the same when somebody labels target images
        decisive = {
            "stage": stage.model_dump(mode="json", exclude=undecided),
            "model": self._config.model.model_dump(mode="json"),
            "seed": self._config.seed,
            **self._config.model_dump(mode="json", include=set(SpeedConfig.model_fields)),
            "data": self._trained_on[stage.looks_at_target or labelled is not None or self._data.source is None],
            "labels": [labels_read(spec) for spec in (data.source, labels) if spec],
            "oracle": files_fingerprint(oracle()) if oracle is not None else None,
            **({"labelled": files_fingerprint(labelled)} if labelled is not None else {}),
            "files": [file_digest(f) for f in files],
            "builds on": [self._made[n] for n in (stage.initial, stage.learns_from) if n in self._made],
        }
        fingerprint = short_hash(decisive)
        self._made[stage.name] = self._made["previous"] = fingerprint
        return fingerprint


def fingerprints_of(config: RunConfig, opened: OpenedData, networks: Networks) -> dict[str, str]:
    """Return the fingerprints of all stages of a run, by name.

    Args:
        config, opened: see :class:`Fingerprints`.
        networks: knows the files outside the run that a stage starts or learns from.
    """
    fingerprints = Fingerprints(config, opened)
    return {stage.name: fingerprints.next(stage, networks.outside_files(stage)) for stage in config.stages}


def data_fingerprint(opened: OpenedData, target: bool = True) -> str:
    """Return a short hash of the training data: names and contents of the files, wherever they lie.

    Without ``target`` the images are those of the source alone: a model of them serves every target, city and fold for
    which its file says the same of ids, size and how other images than 8-bit RGB are read.
    """
    data = opened.training
    known = {"source": data.source, "target": data.target}
    parts = {part: dataset for part, dataset in known.items() if dataset is not None}
    readers = [reader_in(dataset) for dataset in parts.values()]
    return short_hash(
        [
            opened.space.names if target else opened.space.to_json(),
            next(iter(parts.values())).name,
            *(short_hash(opened.contents[part]) for part in parts if target or part == "source"),
            data.source_size,
            data.target_size,
            *(reader and reader.key for reader in readers if any(readers)),
        ]
    )


def score_fingerprint(config: RunConfig, opened: OpenedData) -> str:
    """Return a short hash of everything that scores depend on besides the model: test images, size, inference."""
    test = opened.test
    reader = reader_in(test) if test is not None else None
    return short_hash(
        [
            *([reader.key] if reader else []),
            opened.space.names,
            short_hash(opened.contents["test"]) if test is not None else None,
            test.space.to_json() if test is not None else None,
            config.data.test_size,
            config.evaluation.model_dump(mode="json"),
            *([config.data.merge_predictions] if config.data.merge_predictions else []),
            labels_read(config.data.test) if config.data.test is not None else None,
        ]
    )


def files_fingerprint(dataset: Dataset) -> str:
    """Return a short hash of the names and contents of the files of a data set; of the pixels of one in memory."""
    return short_hash(dataset.fingerprints())


def require_unchanged(opened: OpenedData, stage: str) -> None:
    """Refuse to call a stage finished whose data changed while it trained; reads at most 48 KB of every file.

    Raises:
        RequestError: names the first image.
    """
    for part, dataset in opened.datasets.items():
        for item, before, now in zip(dataset.items, opened.contents[part], dataset.fingerprints(), strict=True):
            if before != now:
                files = " or ".join(f"'{file}'" for file in item.files) or f"'{item.id}'"
                raise RequestError(
                    f"{part}: {files} changed while stage '{stage}' went on; put it back as it was and resume, or "
                    "start again in another folder ('out')"
                )


def labels_read(spec: DataSpec) -> dict[str, Any]:
    """Return the settings that decide, besides the files, which classes labels mean; without the default ones."""
    read: dict[str, Any] = {
        "merge": spec.merge,
        "options": spec.options,
        "pair": spec.pair,
        "unannotated": spec.unannotated,
    }
    if spec.reader == "folder" and spec.ignore_ids != DataSpec().ignore_ids:
        read["ignore_ids"] = spec.ignore_ids
    if spec.classes is not None:
        read["classes"] = hashlib.sha256(Path(spec.classes).read_bytes()).hexdigest()
    return {name: value for name, value in read.items() if value}


def differing_settings(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return the settings that two configurations, as JSON, do not share, by their override names; not the title."""

    def by_stage(config: Mapping[str, Any]) -> dict[str, Any]:
        rest = {key: value for key, value in config.items() if key not in ("stages", "title")}
        return {**rest, **{stage["name"]: stage for stage in config["stages"]}}

    order = [[stage["name"] for stage in config["stages"]] for config in (one, other)]
    return _differing(by_stage(one), by_stage(other)) or ["stages"] * (order[0] != order[1])


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return the names of the settings that differ, with those inside other settings as ``key.key``."""
    names: list[str] = []
    for key in dict.fromkeys([*one, *other]):
        a, b = one.get(key), other.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            names += [f"{key}.{inner}" for inner in _differing(a, b)]
        elif a != b:
            names.append(key)
    return names
