"""What the steps of a stage take of a machine's memory, measured for :mod:`segadapt.runs.fitting`.

Each way is measured by a few real steps with random weights, as the plan of a run has them, of which nothing is kept.
On a GPU it is the peak of the memory that tensors take, within a limit that PyTorch is held to, so that what its
allocator cannot use counts; and what CUDA itself takes. On a CPU it is the peak of the whole process, with the decoded
images that a run will hold; decoding processes are not in it.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from segadapt.core.faults import told_fault
from segadapt.data.loader import Stream
from segadapt.engine.loop import Loop
from segadapt.engine.parts import outermost_networks
from segadapt.engine.record import Record
from segadapt.engine.runtime import Runtime, forget_peak_memory, peak_memory_mb
from segadapt.errors import RunError
from segadapt.methods.stage_config import StageConfig
from segadapt.models.blocks import blocks_of
from segadapt.runs.config import RunConfig
from segadapt.runs.fitting import Fit, Way, fit, in_words, ways
from segadapt.runs.networks import Networks
from segadapt.runs.opening import OpenedData
from segadapt.runs.plan import around_the_steps, prepared, timed_steps
from segadapt.runs.probe import decoded_bytes
from segadapt.runs.stage import stage_in_words

CONTEXT = 600 << 20
"""Bytes that CUDA, cuDNN and cuBLAS keep on a GPU beside tensors, about."""
STEPS = 2
"""Steps that are measured: optimisers make their moments in the first."""


@dataclass(frozen=True)
class Fitter:
    """Measures the stages of one run and chooses their ways.

    Attributes:
        config, opened, runtime, roots: of the run.
        scratch: folder of a run that writes nothing.
        limit: bytes.
        said: tells whether a person has said a setting, e.g. ``adapt.accumulate``; it then stays.
        say: told what is measured.
    """

    config: RunConfig
    opened: OpenedData
    runtime: Runtime
    roots: Mapping[str, str]
    scratch: Path
    limit: int
    said: Callable[[str], bool]
    say: Callable[[str], None] | None = None

    def settings(self) -> tuple[list[str], str]:
        """Return overrides that make the stages fit, and a line on how.

        Raises:
            RequestError: a stage does not fit in any way.
        """
        found = {stage.name: one for stage in self.config.stages if (one := self._stage(stage)) is not None}
        chosen = {name: one.way.settings.items() for name, one in found.items()}
        settings = [
            f"{name}.{key}={str(value).lower()}"
            for name, items in chosen.items()
            for key, value in items
            if not self._said(name, key)
        ]
        batches = {stage.name: stage.batch_size for stage in self.config.stages}
        return settings, in_words(found, self.limit, batches)

    def _said(self, stage: str, key: str) -> bool:
        return self.said(f"{stage}.{key}") or self.said(f"every.{key}")

    def _stage(self, stage: StageConfig) -> Fit | None:
        """Return the way of a stage; None for one without steps."""
        if self.say is not None and self.runtime.main:
            self.say(f"measuring the memory of stage '{stage.name}' ...")
        loop = self._loop(stage)
        streams = loop.streams(0, loop.environment(0)) if loop.method.rounds else {}
        if not streams:
            return None
        blocks = all(blocks_of(network) for network in outermost_networks(loop.method))
        with self._watching():
            around_the_steps(loop, self.opened, self.config)
            passes = self._peak()
        del loop

        def measure(way: Way) -> int | None:
            later = {"source_share": 0.0} if hasattr(stage, "source_share") else {}  # steps that learn the target too
            return self._steps(stage.model_copy(update={**way.settings, **later}), streams)

        found = ways(stage, self.runtime.processes, blocks, lambda key: self._said(stage.name, key))
        return fit(found, self.limit, measure, stage.name, passes)

    def _loop(self, stage: StageConfig) -> Loop:
        """Return the loop of a stage with other settings, on networks with random weights."""
        stages = tuple(stage if one.name == stage.name else one for one in self.config.stages)
        config = self.config.model_copy(update={"stages": stages})
        networks = Networks(config, self.opened.space, self.roots, self.scratch / "stages", self.opened.bands)
        with stage_in_words(self.config, stage, networks.architecture(stage).name):
            return Loop(
                networks.method(stage, trained=False),
                self.opened.training,
                runtime=self.runtime,
                record=Record(self.scratch / "record", active=False),
                folder=self.scratch / stage.name,
                seed=self.config.seed,
            )

    def _steps(self, stage: StageConfig, streams: Mapping[str, Stream]) -> int | None:
        """Return the bytes of some steps of a stage, the most of all processes; None where that is too much here."""
        with self._watching():
            loop = self._loop(stage)
            try:
                ready = prepared(loop, streams, len(self.opened.space))
                timed_steps(loop, ready.feeders, ready.optimisers, STEPS)
                need = self._peak()
            except Exception as problem:
                if not isinstance(told_fault(problem, stage.name, {}), RunError):  # of memory
                    raise
                need = -1
        most: Sequence[int] = self.runtime.gather([need])
        return None if min(most) < 0 else max(most)

    def _peak(self) -> int:
        """Return the bytes taken since the watch began."""
        peak = peak_memory_mb(self.runtime.device) << 20
        if self.runtime.device.type == "cuda":
            return peak + CONTEXT
        cache = self.opened.training.cache
        return peak + max(0, min(cache.budget, decoded_bytes(self.opened)) - cache.held_bytes)

    @contextmanager
    def _watching(self) -> Iterator[None]:
        """Forget the peak so far, and hold a GPU to the limit."""
        gc.collect()
        device = self.runtime.device
        if device.type == "cuda":
            torch.cuda.empty_cache()
            total = torch.cuda.get_device_properties(device).total_memory
            torch.cuda.set_per_process_memory_fraction(min(1.0, max(0.0, (self.limit - CONTEXT) / total)), device)
        forget_peak_memory(device)
        try:
            yield
        finally:
            if device.type == "cuda":
                torch.cuda.set_per_process_memory_fraction(1.0, device)
