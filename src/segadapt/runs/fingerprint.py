"""Whether runs and stages are the same: a finished stage is reused where all that decides its numbers is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from segadapt.core.files import file_digest, short_hash
from segadapt.engine.environment import DataBundle
from segadapt.labels import LabelSpace
from segadapt.methods.source_only import SourceOnlyConfig
from segadapt.methods.stage_config import StageConfig
from segadapt.runs.config import RunConfig
from segadapt.runs.opening import data_fingerprint, files_fingerprint, labels_read


class Fingerprints:
    """Those of the stages of a run, one after the other: each holds those of the stages that it builds on.

    Args:
        config: of the run.
        data: opened data of the run.
        space: label space of the run.
    """

    def __init__(self, config: RunConfig, data: DataBundle, space: LabelSpace):
        self._config, self._oracle = config, data.oracle
        self._data = data_fingerprint(data, space)
        self._made: dict[str, str] = {}

    def next(self, stage: StageConfig, files: Iterable[Path]) -> str:
        """The fingerprint of the stage that follows those asked for so far.

        Args:
            stage: its settings; ``title`` and ``checkpoint_every`` decide nothing.
            files: weights and models outside the run that it starts or learns from.
        """
        data, labelled = self._config.data, isinstance(stage, SourceOnlyConfig) and stage.data == "oracle"
        what = {
            "stage": stage.model_dump(mode="json", exclude={"title", "checkpoint_every"}),
            "model": self._config.model.model_dump(mode="json"),
            "seed": self._config.seed,
            "precision": self._config.precision,
            "data": self._data,
            "labels": [labels_read(spec) for spec in (data.source, data.oracle) if spec],
            "oracle": files_fingerprint(self._oracle()) if labelled and self._oracle is not None else None,
            "files": [file_digest(f) for f in files],
            "builds on": [self._made[n] for n in (stage.initial, stage.learns_from) if n in self._made],
        }
        made = short_hash(what)
        self._made[stage.name] = self._made["previous"] = made
        return made


def differing_settings(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Settings that two configurations, as JSON, do not share, by the names of overrides; not the title."""

    def by_stage(config: Mapping[str, Any]) -> dict[str, Any]:
        rest = {key: value for key, value in config.items() if key not in ("stages", "title")}
        return {**rest, **{stage["name"]: stage for stage in config["stages"]}}

    order = [[stage["name"] for stage in config["stages"]] for config in (one, other)]
    return _differing(by_stage(one), by_stage(other)) or ["stages"] * (order[0] != order[1])


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    found: list[str] = []
    for key in dict.fromkeys([*one, *other]):
        a, b = one.get(key), other.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += [f"{key}.{inner}" for inner in _differing(a, b)]
        elif a != b:
            found.append(key)
    return found
