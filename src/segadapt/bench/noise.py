"""A stage of training on noise, through the same loop that trains with real images: what benches of steps time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segadapt.core.settings import checked
from segadapt.core.types import Size
from segadapt.data.cache import DecodedCache
from segadapt.data.dataset import Dataset, Item
from segadapt.data.loader import Samples, Stream
from segadapt.engine.bundle import DataBundle
from segadapt.engine.loop import Loop, Optimisers
from segadapt.engine.record import Record
from segadapt.engine.runtime import Runtime
from segadapt.labels import CITYSCAPES, LabelSpace
from segadapt.methods.registry import method_info, stage_settings
from segadapt.methods.stage_config import StageConfig
from segadapt.models.segmenter import Segmenter

IMAGES = 8


@dataclass
class NoiseStage:
    """A stage whose first round is prepared.

    Attributes:
        loop: the loop that trains it.
    """

    loop: Loop

    @cached_property
    def optimisers(self) -> Optimisers:
        """The optimisers of the first round."""
        return self.loop.optimisers(0)

    @cached_property
    def streams(self) -> dict[str, Stream]:
        """The streams of the first round."""
        return self.loop.streams(0, self.loop.environment(0))

    def batches(self, count: int) -> Iterator[dict[str, Samples]]:
        """Yield ``count`` batches of every stream, each made when it is asked for."""
        streams = self.streams
        sources = [self.loop.feeder(stream, len(streams)).batches(0, count) for stream in streams.values()]
        for drawn in zip(*sources, strict=True):
            yield dict(zip(streams, drawn, strict=True))

    def step(self, batch: dict[str, Samples]) -> None:
        """Do all that the loop does with one batch between two lines of the log."""
        method = self.loop.method
        self.loop.step(0, 0, batch, self.optimisers)
        with torch.no_grad():
            method.after_step(self.loop.environment(0))
        if method.online is not None:
            self.loop.online.add(batch[method.online.stream], method.online)


def stage_config(stage: Mapping[str, Any]) -> StageConfig:
    """Return the checked settings of a stage of its own, not of a recipe."""
    cls, values = stage_settings("bench", {"steps": 10**6, **stage})
    config: StageConfig = checked(cls, values, "bench step")
    return config


def begun(config: StageConfig) -> StageConfig:
    """Return the settings with which every part of the method takes part from the first steps on."""
    changes: dict[str, Any] = {}
    if getattr(config, "source_share", 0):
        changes["source_share"] = 0.0
    prototypes = getattr(config, "mpcl", None)
    if prototypes is not None:
        changes["mpcl"] = prototypes.model_copy(update={"warmup": 0, "start": 1, "restart": None})
    return config.model_copy(update=changes)


def noise_stage(
    config: StageConfig,
    networks: Sequence[Segmenter],
    runtime: Runtime,
    folder: Path,
    *,
    size: Size = (360, 480),
    source_size: Size | None = None,
    images: int = IMAGES,
) -> NoiseStage:
    """Set up a stage on noise and prepare its first round.

    Args:
        config: settings of the stage; :func:`begun` is applied to them.
        networks: the network that is trained, and for a method that learns from another one that one too.
        runtime: device.
        folder: for what the stage stores.
        size: (height, width) of the target images in pixels.
        source_size: of the source images; None is ``size``.
        images: number of images of either domain.
    """
    config, space = begun(config), space_of(networks[0].classes)
    method = method_info(config.method).method(config, networks[0], space, *networks[1:])
    data = DataBundle(
        source=noise("source", space, source_size or size, images, labelled=True),
        target=noise("target", space, size, images, labelled=False),
        cache_folder=folder,
        oracle=lambda: noise("oracle", space, size, images, labelled=True),
        cache=DecodedCache(1 << 30),
    )
    record = Record(folder / "record", active=False)
    loop = Loop(method, data, runtime=runtime, record=record, folder=folder / "bench" / "bench", seed=0)
    method.eval()
    environment = loop.environment(0)
    with torch.no_grad(), environment.storing():
        method.prepare(0, environment)
    method.train()
    return NoiseStage(loop)


def space_of(classes: int) -> LabelSpace:
    """Return the label space of Cityscapes, or one that is made up where there are other than 19 classes."""
    if classes == len(CITYSCAPES):
        return CITYSCAPES
    return LabelSpace("noise", tuple(f"class {c}" for c in range(classes)), ((0, 0, 0),) * classes)


def noise(name: str, space: LabelSpace, size: Size, images: int, *, labelled: bool) -> Dataset:
    """Make images of coloured noise, with labels in large cells; ``name`` tells those of two data sets apart."""
    rng = np.random.default_rng(len(name) + int(labelled))
    pictures = rng.integers(0, 256, (images, *size, 3), np.uint8)
    cells = rng.integers(0, len(space), (images, -(-size[0] // 32), -(-size[1] // 32)), np.uint8)
    labels = cells.repeat(32, 1).repeat(32, 2)[:, : size[0], : size[1]]
    items = tuple(
        Item(f"{name} {i}", Path(f"{name}/{i}"), Path(f"{name}/{i}.label") if labelled else None) for i in range(images)
    )
    return Dataset(name, space, items, lambda path: pictures[int(path.stem)], lambda path: labels[int(path.stem)])
