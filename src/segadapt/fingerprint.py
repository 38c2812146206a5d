"""What decides the numbers of a stage, as a hash: a finished stage with the same one is reused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from segadapt.config import RunConfig
from segadapt.engine.checkpoint import file_digest
from segadapt.engine.world import DataBundle
from segadapt.labels import LabelSpace
from segadapt.methods.method import StageConfig
from segadapt.methods.source_only import SourceOnlyConfig
from segadapt.opening import data_fingerprint, files_fingerprint, labels_read


class Fingerprints:
    """Those of the stages of a run, one after the other: each holds those of the stages that it builds on.

    Args:
        config: of the run.
        data: opened data of the run.
        space: label space of the run.
    """

    def __init__(self, config: RunConfig, data: DataBundle, space: LabelSpace):
        self._config, self._oracle = config, data.oracle
        self._data = self._last = data_fingerprint(data, space)
        self._made: dict[str, str] = {}
        self._held: set[str] = set()

    def next(self, stage: StageConfig, files: Iterable[Path]) -> str:
        """The fingerprint of the stage that follows those asked for so far.

        Args:
            stage: its settings; ``title`` and ``checkpoint_every`` decide nothing.
            files: weights and models outside the run that it starts or learns from.
        """
        builds = stage.initial != "scratch" or stage.learns_from not in (None, "scratch")
        held = self._held if builds else set()
        named = {n: self._made[n] for n in (stage.initial, stage.learns_from) if n in self._made and n not in held}
        data = self._config.data
        read = {name: labels_read(spec) for name, spec in (("source", data.source), ("oracle", data.oracle)) if spec}
        what: dict[str, Any] = {
            "stage": stage.model_dump(mode="json", exclude={"title", "checkpoint_every"}),
            "model": self._config.model.model_dump(mode="json"),
            "seed": self._config.seed,
            "precision": self._config.precision,
            "before": self._last if builds else self._data,
        }
        further = {
            "labels": read if any(read.values()) else {},
            "files": [file_digest(f) for f in files],
            "named": named,
        }
        what.update({name: value for name, value in further.items() if value})
        made = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]
        if isinstance(stage, SourceOnlyConfig) and stage.data == "oracle" and self._oracle is not None:
            made = f"{made}-{files_fingerprint(self._oracle())}"
        self._made[stage.name] = self._last = made
        self._held = {*held, *named, stage.name}
        return made


def made_alike(found: str, fingerprint: str) -> bool:
    """Whether what was found is what would be made; the files of an oracle were not part of it once."""
    return found in (fingerprint, fingerprint.partition("-")[0])
