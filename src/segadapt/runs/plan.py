"""The plan of a run: its stages, steps and minutes, before it starts."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from segadapt.data.loader import Part, Stream
from segadapt.engine.loop import Loop, stage_length
from segadapt.engine.record import Record
from segadapt.engine.runtime import Runtime
from segadapt.labels import LabelSpace
from segadapt.methods.stage_config import StageConfig
from segadapt.runs.config import RunConfig
from segadapt.runs.length import changed
from segadapt.runs.networks import Networks
from segadapt.runs.opening import open_data

_TIMED = 3


def plan_run(
    config: RunConfig,
    roots: Mapping[str, str],
    measure: bool = True,
    published: Mapping[str, StageConfig] = MappingProxyType({}),
) -> dict[str, Any]:
    """Return the stages with rounds, steps and, if ``measure``, minutes extrapolated from a few steps here.

    The minutes cover the training steps; passes over the target set come on top. Nothing is kept on the disk. Rates of
    ``matched`` optimisers are measured on the weights that a run starts with and without pseudo labels, so that they
    show an order of magnitude; a run measures its own at the start of every round.

    Args:
        config: configuration of the run.
        roots: folders of named data sets.
        measure: time steps, and measure rates.
        published: stages before they were shortened, by name, to say what the length of a stage changed.
    """
    runtime = Runtime(config.accelerator, config.precision)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        opened = open_data(config.data, roots, folder)
        record = Record(folder / "record", active=False)
        networks = Networks(config, opened.space, roots, folder, opened.bands)
        stages = []
        for stage in config.stages:
            method = networks.method(stage, trained=False)
            loop = Loop(
                method, opened.training, runtime=runtime, record=record, folder=folder / stage.name, seed=config.seed
            )
            planned = {**_planned(loop, opened.space, measure), **_changes(stage, published.get(stage.name))}
            stages.append({**planned, "network": networks.architecture(stage).name})
    return {
        "title": config.title,
        "model": config.model.name,
        "data": {
            "source": len(opened.training.source),
            "target": len(opened.training.target),
            "test": len(opened.test) if opened.test is not None else 0,
            "classes": list(opened.space.names),
        },
        "stages": stages,
    }


def _planned(loop: Loop, space: LabelSpace, measure: bool) -> dict[str, Any]:
    method, stage = loop.method, loop.config
    steps: list[int] = []
    streams: dict[str, Stream] = {}
    for round_index in range(method.rounds):
        streams = method.streams(round_index, loop.environment(round_index))
        steps.append(stage_length(stage, streams))
    seconds, rates = _measured(loop, streams, len(space)) if measure else (None, {})
    return {
        "name": stage.name,
        "method": stage.method,
        "title": stage.title,
        "initial": stage.initial,
        "rounds": method.rounds,
        "steps": sum(steps),
        "batch_size": stage.batch_size,
        "minutes": None if seconds is None else sum(steps) * seconds / 60,
        "rates": rates,
    }


def _changes(stage: StageConfig, published: StageConfig | None) -> dict[str, Any]:
    """Return the published length of a stage in words, and what its length changed: name, published, now."""
    if published is None or stage.length == 1:
        return {"published": "", "changes": []}
    rounds = getattr(published, "rounds", 1)
    passes = "" if published.epochs is None else f"{rounds * published.epochs:g} passes"
    length = str(rounds * published.steps) if published.steps is not None else passes
    return {"published": length, "changes": [list(change) for change in changed(published, stage)]}


def _measured(loop: Loop, streams: Mapping[str, Stream], classes: int) -> tuple[float, dict[str, list[float]]]:
    """Return the median time of a few steps in seconds, and the rates of ``matched`` optimisers.

    Pseudo labels do not exist yet: target images go without them, or with soft labels that prefer no class.
    """
    feeders = {
        name: loop.feeder(_without_pseudo_labels(stream, classes), len(streams)) for name, stream in streams.items()
    }
    optimisers = loop.optimisers(0)
    rates = loop.match(0, optimisers, feeders)
    loop.method.train()
    times = []
    sources = [feeder.batches(0, _TIMED) for feeder in feeders.values()]
    for step in range(_TIMED):
        started = time.perf_counter()
        loop.step(0, step, {name: next(source) for name, source in zip(feeders, sources, strict=True)}, optimisers)
        times.append(time.perf_counter() - started)
    return sorted(times)[len(times) // 2], rates


@dataclass(frozen=True)
class _Even:
    """Scores of an image without preference; a plain value, so that it can be sent to decoding processes."""

    classes: int

    def __call__(self, index: int) -> npt.NDArray[np.float16]:
        return np.zeros((self.classes, 1, 1), np.float16)


def _without_pseudo_labels(stream: Stream, classes: int) -> Stream:
    def bare(part: Part) -> Part:
        scores = _Even(classes) if part.scores is not None else None
        return replace(part, dataset=part.dataset.unlabelled(), scores=scores, focus=None)

    return replace(stream, parts=tuple(bare(part) if part.domain == 1 else part for part in stream.parts))
