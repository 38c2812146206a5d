"""The facts of a default run, and the speed of an option on this machine; :mod:`segadapt.runs.budget` decides.

A probe trains each stage for a few real steps with random weights, as the plan of a run does, and keeps nothing. What
it measures beside the steps is added up to everything else that a run does:

===================  ================================================================================================
part                 measured
===================  ================================================================================================
looking at the data  the check of a few images and masks, for as many as a run looks at
decoding             the same images at working size: each once where all fit into the cache, else at every draw
class statistics     as the stages ask for them
passes and scores    a prediction of one image, for as many as the stages predict
pictures, report     the same prediction, and :data:`DRAWN` and :data:`WRITTEN`
===================  ================================================================================================
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from segadapt.core.cores import cores
from segadapt.core.faults import told_fault
from segadapt.core.spacing import evenly_spaced
from segadapt.data.cache import DecodedCache
from segadapt.data.check import check_dataset
from segadapt.data.dataset import DamagedFile, Dataset
from segadapt.data.resize import Resize, resize_image, resize_label, working_size
from segadapt.data.workers import wanted
from segadapt.engine.loop import Loop, stage_length
from segadapt.engine.record import Record
from segadapt.engine.runtime import Runtime, forget_peak_memory, machine, peak_memory_mb
from segadapt.errors import RequestError, RunError
from segadapt.evaluation import looking
from segadapt.evaluation.tiling import usual_size
from segadapt.labels import IGNORE, LabelMap
from segadapt.methods.stage_config import StageConfig
from segadapt.runs.before_after import IMAGES
from segadapt.runs.choice import SIZES, Cost, Facts, StageCost
from segadapt.runs.config import DataConfig, RunConfig
from segadapt.runs.networks import Networks
from segadapt.runs.opening import OpenedData
from segadapt.runs.overview import CHECKED_AT_START, SAMPLED
from segadapt.runs.plan import around_the_steps, image_seconds, measured

MASKS = 12
"""Masks of the source that say how much of a class is left at a size."""
READ = 6
"""Images of each part whose reading is timed."""
SEEN = 0.0002
"""Share of the pixels from which on a class counts for the size."""
PICTURED = 10
"""Images that a finished stage is drawn on, and predicts, for the report."""
DRAWN = 2.0
"""Seconds of drawing them, measured on one core of 2.5 GHz."""
WRITTEN = 12.0
"""Seconds of starting the program and a run, and of writing the report, measured there."""
TIMED = 3
"""Steps of which the median counts."""


# ---- facts ----


def facts_of(opened: OpenedData, runtime: Runtime, networks: Sequence[str]) -> Facts:
    """Return the facts of data and machine.

    Args:
        opened: data of the run.
        runtime: device of the run.
        networks: names of those whose weights are at hand, the strongest first.
    """
    assert opened.training.source is not None  # nothing is chosen for a run without one
    source, target = (usual_size(d) for d in (opened.training.source, opened.training.target))
    if source is None or target is None:
        raise RequestError("no image of the source or of the target can be read; 'segadapt data check' says why")
    named, count = machine()["device"], cores()
    words = f"{count} processor core{'s' * (count != 1)}"
    if runtime.device.type == "cuda":
        memory = torch.cuda.get_device_properties(runtime.device).total_memory / 2**30
        words = f"{named}, {memory:.0f} GB, {words}"
    masks = sample_of_masks(opened.training.source)
    return Facts(
        device=runtime.device.type,
        machine=words,
        source=source,
        target=target,
        networks=networks,
        kept=kept_at(masks, opened.space.names, SIZES),
    )


def sample_of_masks(dataset: Dataset) -> list[LabelMap]:
    """Return a few label maps of a data set, evenly spaced; those that cannot be read are left out."""
    masks = []
    for place in evenly_spaced(len(dataset), MASKS):
        try:
            masks.append(dataset.label(place))
        except (DamagedFile, RequestError):  # the run says it when it looks at the data
            continue
    return masks


def kept_at(masks: Sequence[LabelMap], names: Sequence[str], sizes: Sequence[int]) -> dict[int, dict[str, float]]:
    """Return how much of each class is left when masks shrink to a size and are enlarged again.

    Args:
        masks: label maps [H, W] of train ids; 255 is ignored.
        names: the K class names; those with less than :data:`SEEN` of the pixels are left out.
        sizes: longest sides in pixels; masks that are smaller are left as they are.

    Returns:
        By size and class, the IoU in [0, 1] of the mask with what is left of it.
    """
    total = np.sum([np.bincount(m.ravel(), minlength=256) for m in masks], axis=0) if masks else np.zeros(256)
    present = [k for k in range(len(names)) if total[k] >= max(1, SEEN * (total.sum() - total[IGNORE]))]
    found: dict[int, dict[str, float]] = {}
    for size in sizes:
        both, left = np.zeros(256), np.zeros(256)
        for mask in masks:
            again = resize_label(resize_label(mask, size), (mask.shape[0], mask.shape[1]))
            both += np.bincount(mask[mask == again].ravel(), minlength=256)
            left += np.bincount(again.ravel(), minlength=256)
        found[size] = {names[k]: float(both[k] / (total[k] + left[k] - both[k])) for k in present}
    return found


# ---- speed ----


def cost_of(
    config: RunConfig,
    opened: OpenedData,
    runtime: Runtime,
    roots: Mapping[str, str],
    scratch: Path,
    *,
    free: Collection[str],
    patience: float,
) -> Cost | None:
    """Measure what a run takes here; None where the memory is not enough.

    Args:
        config: configuration of the run, at the recipe's length.
        opened: its data, opened at any working size.
        runtime: device.
        roots: where named weights files lie.
        scratch: folder of a run that writes nothing.
        free: names of the stages whose length may be chosen.
        patience: seconds for the steps of each stage, after three of them.
    """
    assert config.data.source is not None  # nothing is chosen for a run without one
    opened = with_sizes(opened, config.data)
    networks = Networks(config, opened.space, roots, scratch / "stages", opened.bands)
    read = _reading(opened)
    fits = decoded_bytes(opened) <= config.data.cache_mb << 20
    stages, around, memory = [], WRITTEN + read.looked + (read.decoded if fits else 0.0), 0
    for stage in config.stages:
        try:
            cost, more = _stage_cost(stage, config, opened, runtime, networks, scratch, patience)
        except Exception as problem:
            if isinstance(told_fault(problem, stage.name, {}), RunError):  # of memory
                if runtime.device.type == "cuda":
                    torch.cuda.empty_cache()
                return None
            raise
        workers = wanted(config.data.workers, runtime.device.type, 2)  # a stage mostly has two streams
        waiting = 0.0 if fits or workers else stage.batch_size * read.each
        stages.append(replace(cost, seconds=cost.seconds + waiting, free=stage.name in free))
        around += more
        memory = max(memory, peak_memory_mb(runtime.device))
    return Cost(tuple(stages), around, memory)


def with_sizes(opened: OpenedData, data: DataConfig) -> OpenedData:
    """Return the data as other settings of sizes and of decoding read them, with nothing decoded yet."""
    training = replace(
        opened.training,
        source_size=data.source.size if data.source is not None else None,
        target_size=data.target.size,
        cache=DecodedCache(data.cache_mb << 20),
        workers=data.workers,
    )
    return replace(opened, training=training)


def _stage_cost(
    stage: StageConfig,
    config: RunConfig,
    opened: OpenedData,
    runtime: Runtime,
    networks: Networks,
    scratch: Path,
    patience: float,
) -> tuple[StageCost, float]:
    """Return the cost of a stage, and the seconds that it takes beside its steps."""
    forget_peak_memory(runtime.device)
    method = networks.method(stage, trained=False)
    record = Record(scratch / "record", active=False)
    loop = Loop(method, opened.training, runtime=runtime, record=record, folder=scratch / stage.name, seed=config.seed)
    started = time.perf_counter()
    streams = method.streams(0, loop.environment(0))  # with the statistics that it asks for
    asked = time.perf_counter() - started
    steps = method.rounds * stage_length(stage, streams)
    seconds, _ = measured(loop, streams, len(opened.space), TIMED, patience)
    one = image_seconds(loop, opened.training.target, config.data.test_size, config.evaluation)
    predicted = (
        PICTURED + 6 * looking.IMAGES + (2 * min(IMAGES, len(opened.training.target)) if stage.role == "adapted" else 0)
    )
    beside = asked + around_the_steps(loop, opened, config) + DRAWN + predicted * one
    return StageCost(stage.name, steps, seconds, stage.length), beside


@dataclass
class _Read:
    """Seconds of reading.

    Attributes:
        looked: of the check of all that a run looks at.
        decoded: of all training images, once.
        each: of one training image.
    """

    looked: float = 0.0
    decoded: float = 0.0
    each: float = 0.0


def _reading(opened: OpenedData) -> _Read:
    """Time the reading of a few images of each part."""
    read = _Read()
    training = opened.training
    sizes = {"source": training.source_size, "target": training.target_size}
    for part, dataset in opened.datasets.items():
        sample = dataset.subset(evenly_spaced(len(dataset), READ))
        started = time.perf_counter()
        check_dataset(sample)
        looked = (time.perf_counter() - started) / len(sample)
        read.looked += looked * (len(dataset) if len(dataset) <= CHECKED_AT_START else SAMPLED)
        if part in sizes:
            each = _decoding(sample, sizes[part])
            read.decoded += each * len(dataset)
            read.each = max(read.each, each)
    return read


def _decoding(sample: Dataset, size: Resize) -> float:
    """Return the seconds in which an image, and its label, become what training keeps."""
    started = time.perf_counter()
    for place in range(len(sample)):
        try:
            resize_image(sample.image(place), size)
            if sample.items[place].label is not None:
                resize_label(sample.label(place), size)
        except DamagedFile:
            continue
    return (time.perf_counter() - started) / len(sample)


def decoded_bytes(opened: OpenedData) -> int:
    """Return the memory of all decoded training images and labels, about."""
    training, total = opened.training, 0
    for dataset, size in ((training.source, training.source_size), (training.target, training.target_size)):
        if dataset is None:
            continue
        height, width = working_size(*(usual_size(dataset) or (0, 0)), size)
        total += len(dataset) * height * width * (dataset.bands + 1)
    return total
