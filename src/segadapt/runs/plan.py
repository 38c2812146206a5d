"""The plan of a run: its stages, steps and minutes, before it starts."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segadapt.data.loader import Part, Stream
from segadapt.engine.loop import Loop, stage_length
from segadapt.engine.record import Record
from segadapt.engine.runtime import Runtime
from segadapt.labels import LabelSpace
from segadapt.runs.config import RunConfig
from segadapt.runs.networks import Networks
from segadapt.runs.opening import open_data

_TIMED = 3


def plan_run(config: RunConfig, roots: Mapping[str, str], measure: bool = True) -> dict[str, Any]:
    """Return the stages with rounds, steps and, if ``measure``, minutes extrapolated from a few steps here.

    The minutes cover the training steps; passes over the target set come on top. Nothing is kept on the disk.
    """
    runtime = Runtime(config.accelerator, config.precision)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        opened = open_data(config.data, roots, folder)
        record = Record(folder / "record", active=False)
        networks = Networks(config, opened.space, roots, folder)
        stages = []
        for stage in config.stages:
            method = networks.method(stage, trained=False)
            loop = Loop(
                method, opened.training, runtime=runtime, record=record, folder=folder / stage.name, seed=config.seed
            )
            planned = _planned(loop, opened.space, measure)
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
    minutes = sum(steps) * _seconds_per_step(loop, streams, len(space)) / 60 if measure else None
    return {
        "name": stage.name,
        "method": stage.method,
        "title": stage.title,
        "initial": stage.initial,
        "rounds": method.rounds,
        "steps": sum(steps),
        "batch_size": stage.batch_size,
        "minutes": minutes,
    }


def _seconds_per_step(loop: Loop, streams: Mapping[str, Stream], classes: int) -> float:
    """Return the median time of a few steps.

    Pseudo labels do not exist yet: target images go without them, or with soft labels that prefer no class.
    """
    feeders = {
        name: loop.feeder(_without_pseudo_labels(stream, classes), len(streams)) for name, stream in streams.items()
    }
    optimisers = loop.optimisers(0)
    loop.method.train()
    times = []
    sources = [feeder.batches(0, _TIMED) for feeder in feeders.values()]
    for step in range(_TIMED):
        started = time.perf_counter()
        loop.step(0, step, {name: next(source) for name, source in zip(feeders, sources, strict=True)}, optimisers)
        times.append(time.perf_counter() - started)
    return sorted(times)[len(times) // 2]


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
