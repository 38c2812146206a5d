"""The plan of a run: its stages, steps and minutes, before it starts."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from segadapt.core.kept import STATISTICS, kept_folder
from segadapt.data.dataset import Dataset
from segadapt.data.loader import Feeder, Part, Stream
from segadapt.data.resize import Resize, resize_image
from segadapt.data.sharing import shared_among
from segadapt.data.workers import wanted
from segadapt.engine.loop import Loop, Optimisers, stage_length
from segadapt.engine.record import Record
from segadapt.engine.runtime import Runtime, wait_for
from segadapt.methods.method import Method
from segadapt.methods.stage_config import StageConfig
from segadapt.models.inference import InferenceConfig, predict_labels
from segadapt.pieces.images import to_batch
from segadapt.runs.config import RunConfig
from segadapt.runs.length import changed
from segadapt.runs.networks import Networks
from segadapt.runs.opening import Given, OpenedData, open_data
from segadapt.runs.stage import stage_in_words
from segadapt.runs.start import known_of

_TIMED = 4
"""Steps of which the median counts, after those in which memory, caches and kernels get ready."""
_PATIENCE = 15.0
"""Seconds of timed steps after which no further one is timed."""
LONG = 60.0
"""Minutes of a run above which the plan offers a shorter one."""


def plan_run(
    config: RunConfig,
    roots: Mapping[str, str],
    measure: bool = True,
    published: Mapping[str, StageConfig] = MappingProxyType({}),
    given: Given | None = None,
) -> dict[str, Any]:
    """Return the stages with rounds, steps and, if ``measure``, minutes extrapolated from a few steps here.

    The minutes cover training steps, passes over the target set and scores. Nothing is kept on the disk. Rates of
    ``matched`` optimisers are measured on the weights that a run starts with and without pseudo labels, so that they
    show an order of magnitude; a run measures its own at the start of every round.

    Args:
        config: configuration of the run.
        roots: folders of named data sets.
        measure: time steps, and measure rates.
        published: stages before they were shortened, by name, to say what the length of a stage changed.
        given: data sets that a script gives, by their part in the run.
    """
    runtime = Runtime(config.accelerator, config.precision)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with shared_among(runtime):
            opened = open_data(config.data, roots, kept_folder(STATISTICS), given, known_of(config))
        record = Record(folder / "record", active=False)
        networks = Networks(config, opened.space, roots, folder, opened.bands)
        stages = []
        for stage in config.stages:
            network = networks.architecture(stage).name
            with stage_in_words(config, stage, network):
                method = networks.method(stage, trained=False)
                loop = Loop(
                    method,
                    opened.training,
                    runtime=runtime,
                    record=record,
                    folder=folder / stage.name,
                    seed=config.seed,
                )
                planned = _planned(loop, opened, config, measure)
            weights = networks.weights_in_words(stage)
            stages.append(
                {**planned, **_changes(stage, published.get(stage.name)), "network": network, "weights": weights}
            )
    minutes = sum(row["minutes"] for row in stages) if measure else None
    return {
        "title": config.title,
        "model": config.model.name,
        "data": {
            "source": len(opened.training.source or ()),
            "target": len(opened.training.target),
            "labelled": len(opened.training.labelled) if opened.training.labelled is not None else 0,
            "test": len(opened.test) if opened.test is not None else 0,
            "classes": list(opened.space.names),
        },
        "stages": stages,
        "minutes": minutes,
        "advice": advice(config, stages, minutes) if minutes is not None else "",
    }


def advice(config: RunConfig, stages: Sequence[Mapping[str, Any]], minutes: float) -> str:
    """Return a line about a run of more than :data:`LONG` minutes, with a length that takes about as long; else ""."""
    if minutes <= LONG:
        return ""
    slow = max(stages, key=lambda row: float(row["minutes"]))
    said = f"{minutes / 60:.1f} hours on this machine, {slow['step_seconds']:.1f} s a step in stage '{slow['name']}'"
    lengths = {stage.name: stage.length for stage in config.stages}
    shortened = [name for name, length in lengths.items() if length < 1] or list(lengths)
    kept = sum(float(row["minutes"]) for row in stages if row["name"] not in shortened)
    way = "a smaller network (model.name), crop or another method"
    if kept < LONG / 2:
        longest = max(lengths[name] for name in shortened)
        way = f"about an hour with --length {longest * (LONG - kept) / (minutes - kept):.2g}, or {way}"
    return f"{said}; {way}"


def _planned(loop: Loop, opened: OpenedData, config: RunConfig, measure: bool) -> dict[str, Any]:
    method, stage = loop.method, loop.config
    steps: list[int] = []
    streams: dict[str, Stream] = {}
    for round_index in range(method.rounds):
        streams = loop.streams(round_index, loop.environment(round_index))
        steps.append(stage_length(stage, streams))
    seconds, rates = measured(loop, streams, len(opened.space)) if measure else (None, {})
    around = around_the_steps(loop, opened, config) if measure else 0.0
    return {
        "name": stage.name,
        "method": stage.method,
        "title": stage.title,
        "initial": stage.initial,
        "rounds": method.rounds,
        "steps": sum(steps),
        "batch_size": stage.batch_size,
        "workers": wanted(config.data.workers, loop.runtime.device.type, max(1, len(streams))),
        "step_seconds": seconds,
        "minutes": None if seconds is None else (sum(steps) * seconds + around) / 60,
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


def measured(
    loop: Loop, streams: Mapping[str, Stream], classes: int, timed: int = _TIMED, patience: float = _PATIENCE
) -> tuple[float, dict[str, list[float]]]:
    """Return the median time of a few steps in seconds, and the rates of ``matched`` optimisers; 0 without a round.

    A stage that learns the source alone at first (``source_share``) is timed before and after that, and the mean over
    its length is returned. Pseudo labels do not exist yet: target images go without them, or with soft labels that
    prefer no class.

    Args:
        loop: of the stage.
        streams: of its round.
        classes: number of classes.
        timed: steps of which the median counts, at most.
        patience: seconds of steps after which no further one is timed.
    """
    if not streams:
        return 0.0, {}
    feeders, optimisers, rates = prepared(loop, streams, classes)
    first = _median(loop, feeders, optimisers, timed, patience)
    share = getattr(loop.config, "source_share", 0.0)
    if not share:
        return first, rates
    loop.method.config = loop.config.model_copy(update={"source_share": 0.0})
    later = _median(loop, feeders, optimisers, timed, patience)
    loop.method.config = loop.config
    return share * first + (1 - share) * later, rates


class Prepared(NamedTuple):
    """A loop ready for steps: its feeders by stream, its optimisers, and the rates of ``matched`` ones."""

    feeders: Mapping[str, Feeder]
    optimisers: Optimisers
    rates: dict[str, list[float]]


def prepared(loop: Loop, streams: Mapping[str, Stream], classes: int) -> Prepared:
    """Make a loop ready for steps, without pseudo labels; see :func:`measured`."""
    feeders = {
        name: loop.feeder(_without_pseudo_labels(stream, classes), len(streams)) for name, stream in streams.items()
    }
    optimisers = loop.optimisers(0)
    rates = loop.match(0, optimisers, feeders)
    loop.method.train()
    return Prepared(feeders, optimisers, rates)


def _median(loop: Loop, feeders: Mapping[str, Feeder], optimisers: Optimisers, timed: int, patience: float) -> float:
    """Return the median seconds of up to ``timed`` steps, after one in which everything gets ready."""
    timed_steps(loop, feeders, optimisers, 1, patience)  # also fills the cache of decoded images
    times = timed_steps(loop, feeders, optimisers, 1 + timed, patience)[1:]
    return sorted(times)[len(times) // 2]


def timed_steps(
    loop: Loop, feeders: Mapping[str, Feeder], optimisers: Optimisers, steps: int, patience: float = _PATIENCE
) -> list[float]:
    """Return the seconds of each of the first steps; two at least, then none after ``patience``."""
    environment = loop.environment(0)
    sources = [feeder.batches(0, steps) for feeder in feeders.values()]
    times: list[float] = []
    for step in range(steps):
        if step > 1 and sum(times) > patience:
            break
        started = time.perf_counter()
        loop.step(0, step, {name: next(source) for name, source in zip(feeders, sources, strict=True)}, optimisers)
        with torch.no_grad():
            loop.method.after_step(environment)
        wait_for(loop.runtime.device)
        times.append(time.perf_counter() - started)
    return times


def around_the_steps(loop: Loop, opened: OpenedData, config: RunConfig) -> float:
    """Return the seconds of passes over the target set and of scores, from one image of each."""
    method, data = loop.method, opened.training
    seconds = 0.0
    if type(method).prepare is not Method.prepare:
        one = image_seconds(loop, data.target, data.target_size, loop.config.inference)
        seconds += method.rounds * len(data.target) * one
    if opened.test is not None:
        one = image_seconds(loop, opened.test, config.data.test_size, config.evaluation)
        seconds += max(1, method.rounds) * len(opened.test) * one
    return seconds


def image_seconds(loop: Loop, dataset: Dataset, size: Resize, inference: InferenceConfig) -> float:
    """Return the seconds in which an image is read and predicted, at the second time."""
    seconds = 0.0
    for _ in range(2):
        started = time.perf_counter()
        image = resize_image(dataset.image(0), size)
        predict_labels(loop.method.model, to_batch(image, loop.runtime.device), image.shape[:2], inference)
        wait_for(loop.runtime.device)
        seconds = time.perf_counter() - started
    return seconds


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
