"""The steps of all methods in one table: overhead over the network passes, images a second, and memory."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from segadapt.bench.noise import stage_config
from segadapt.bench.step import time_stage
from segadapt.core.faults import told_fault
from segadapt.core.types import Size
from segadapt.data.resize import working_size
from segadapt.engine.runtime import Runtime, machine
from segadapt.engine.speed import SpeedConfig, set_speed
from segadapt.errors import RequestError, nearest, one_line
from segadapt.labels import CITYSCAPES
from segadapt.methods.registry import METHODS, method_info
from segadapt.methods.stage_config import StageConfig
from segadapt.models.build import build_segmenter
from segadapt.models.segmenter import Segmenter
from segadapt.recipes import recipe_names
from segadapt.runs.config import load_config

PUBLISHED_IMAGES = 4
"""Noise images of either domain where they are as large as published ones."""
WARM_UP = ("warmup",)


@dataclass(frozen=True)
class Job:
    """A stage whose steps are timed.

    Attributes:
        name: of the method, or of the recipe.
        network: name of its network.
        config: settings of the stage.
        build: makes the network with random weights.
        size, source_size: (height, width) of target and source images in pixels.
        images: noise images of either domain.
        precision: number format of the recipe.
    """

    name: str
    network: str
    config: StageConfig
    build: Callable[[], Segmenter]
    size: Size
    source_size: Size
    images: int
    precision: str


def method_jobs(
    network: str, *, size: Size, crop: Size, batch: int, classes: int, settings: Mapping[str, Any]
) -> Iterator[Job]:
    """Yield every method on one network, or, where ``network`` is empty, on its own small one."""
    for name in METHODS:
        if name == "given":
            continue
        small = method_info(name).network
        wrapped = "hrda:" if small.startswith("hrda:") and not network.startswith("hrda:") else ""
        chosen = f"{wrapped}{network}" if network else small
        stage = {"method": name, "batch_size": batch, "augmentation": {"crop": crop}, **settings}
        build = partial(build_segmenter, chosen, classes)
        yield Job(name, chosen, stage_config(stage), build, size, size, max(4, batch), "32-true")


def recipe_jobs(
    task: str, names: Sequence[str], *, size: Size, batch: int | None = None, classes: int = len(CITYSCAPES)
) -> Iterator[Job]:
    """Yield recipes of a task with their own networks and sizes.

    Of a recipe of several stages it is the one that the recipe is named after: the first that adapts, but no warm-up.

    Args:
        task: name of the task, e.g. ``gta5_cityscapes``.
        names: its recipes; all of them if empty.
        size: (height, width) of the images before they are brought to working size.
        batch: samples of each stream per step; None takes the recipe's.
        classes: K.

    Raises:
        RequestError: there is no such recipe.
    """
    known = [name.partition("/")[2] for name in recipe_names() if name.startswith(f"{task}/")]
    unknown = [name for name in names if name not in known]
    if unknown or not known:
        hint = nearest(unknown[0], known) if unknown else ""
        raise RequestError(f"no recipe '{task}/{unknown[0] if unknown else ''}'{hint}; there are: {', '.join(known)}")
    for name in names or known:
        config = load_config(f"{task}/{name}", [] if batch is None else [f"every.batch_size={batch}"])
        adapting = [s for s in config.stages if s.role == "adapted" and s.name not in WARM_UP]
        stage = (adapting or list(config.stages))[0]
        if batch is not None:
            stage = stage.model_copy(update={"batch_size": batch})
        model = stage.network or config.model
        build = partial(build_segmenter, model.name, classes, weights=None, **model.arguments)
        sizes = [working_size(*size, part.size if part else None) for part in (config.data.target, config.data.source)]
        yield Job(name, model.name, stage, build, sizes[0], sizes[1], PUBLISHED_IMAGES, config.precision)


def bench_steps(
    jobs: Sequence[Job],
    *,
    accelerator: str = "auto",
    repeats: int = 10,
    speed: Mapping[str, Any] | None = None,
    minutes: float | None = None,
    say: Callable[[dict[str, Any]], None] = lambda row: None,
) -> dict[str, Any]:
    """Time the steps of many stages, one after the other.

    Args:
        jobs: the stages; see :func:`method_jobs` and :func:`recipe_jobs`.
        accelerator: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        repeats: timed pairs of step and passes of each, at least 2.
        speed: settings of :class:`~segadapt.engine.speed.SpeedConfig`; a ``precision`` counts more than the recipe's.
        minutes: after so long no further stage begins; None has no limit.
        say: called with each row.

    Returns:
        ``machine``, and ``rows`` as of :func:`~segadapt.bench.step.bench_step`, or with a ``problem`` in one line.
    """
    started = time.monotonic()
    rows = []
    for job in jobs:
        row: dict[str, Any] = {"name": job.name, "method": job.config.method, "network": job.network}
        if minutes is not None and time.monotonic() - started > 60 * minutes:
            row["problem"] = "not measured: the time is over"
        else:
            row |= _measured(job, accelerator, repeats, speed or {})
        rows.append(row)
        say(row)
    return {"machine": machine(), "rows": rows}


def _measured(job: Job, accelerator: str, repeats: int, speed: Mapping[str, Any]) -> dict[str, Any]:
    """Return the timings of one stage, or why there are none, e.g. memory; the other stages are measured still."""
    config = SpeedConfig(**{"precision": job.precision, **speed})
    runtime = Runtime(accelerator, config.precision)
    set_speed(runtime, config)
    try:
        found = time_stage(
            job.config,
            job.build,
            runtime,
            repeats,
            size=job.size,
            source_size=job.source_size,
            images=job.images,
        )
    except Exception as problem:
        told = told_fault(problem, job.name, {}) or problem
        return {"problem": one_line(told), "precision": config.precision, "batch": job.config.batch_size}
    finally:
        gc.collect()
        if runtime.device.type == "cuda":
            torch.cuda.empty_cache()
    return {key: value for key, value in found.items() if key not in machine()}


def table(measured: Mapping[str, Any]) -> str:
    """Return the rows as a table in Markdown, and a line that says where they were measured."""
    lines = [
        "| method | network | crop | passes | step | overhead | a batch is made in | images/s | peak memory |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in measured["rows"]:
        name = row["name"] if row["name"] == row["method"] else f"{row['name']} ({row['method']})"
        if "problem" in row:
            lines.append(f"| {name} | `{row['network']}` | {row['problem']} | | | | | | |")
            continue
        crop = "x".join(map(str, row["crop"] or row["image"]))
        low, middle, high = (round(100 * x) for x in sorted([row["overhead"], *row["overhead_quartiles"]]))
        overhead = f"{middle}% ({low} to {high})"
        if "over_host" in row:
            overhead += f"; over its host {round(100 * row['over_host']['overhead'])}%"
        cells = [
            *(name, f"`{row['network']}`", f"{row['batch']} x {crop}"),
            *(f"{row['passes_ms']:.0f} ms", f"{row['step_ms']:.0f} ms", overhead, f"{row['data_ms']:.0f} ms"),
            *(f"{row['images_per_second']:.1f}", f"{row['peak_memory_mb']['step']} MB"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    found = measured["machine"]
    device = found["cpu"] if found["device"] == "cpu" else found["device"]
    return "\n".join([*lines, "", f"segadapt {found['segadapt']}, torch {found['torch']}, {device}."])
