"""The one training loop.

For every round of a method: prepare (a pass over the target set, if the method has one), then
steps. A step asks the method for loss terms, runs one backward pass per set of terms that it
yields, adds gradients over the processes, and steps the optimisers. Checkpoints hold the state of
the method and of the optimisers and the position; all randomness is a function of the position.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from segadapt.core.randomness import Purpose, seed_step
from segadapt.data.loader import Feeder, Samples, Stream
from segadapt.data.workers import wanted
from segadapt.engine.backward import Backward
from segadapt.engine.bundle import DataBundle
from segadapt.engine.checkpoint import load_checkpoint, save_checkpoint
from segadapt.engine.environment import RoundEnvironment
from segadapt.engine.finite import require_finite
from segadapt.engine.matching import MEASURED, gradient_sizes, match
from segadapt.engine.online import OnlineRecord
from segadapt.engine.optim import build_optimiser, schedule_factor, set_learning_rate, trained_parameters
from segadapt.engine.record import Record, Steps
from segadapt.engine.runtime import Runtime
from segadapt.engine.sharding import Shares
from segadapt.engine.speed import laid_out
from segadapt.engine.step_log import Measured, StepLog
from segadapt.engine.stopping import SaveRequest, StopRequest
from segadapt.engine.together import Together
from segadapt.errors import Interrupted, RequestError, RunError
from segadapt.methods.few_labels import LABELLED, labelled_streams
from segadapt.methods.method import Method
from segadapt.methods.stage_config import StageConfig
from segadapt.models.norm import running_statistics, set_norm_mode

Optimisers = Mapping[str, torch.optim.Optimizer]

_ROUND = 10_000_000  # more steps than a round has: orders the checkpoints of all rounds by one number


def stage_length(config: StageConfig, streams: Mapping[str, Stream]) -> int:
    """Return the number of steps of one round: as given, or ``epochs`` passes over the method's longest stream.

    Raises:
        RequestError: the settings give neither steps nor epochs.
    """
    if config.steps is not None:
        return config.steps
    if config.epochs is None:
        raise RequestError(f"stage '{config.name}' has no length; set steps or epochs")
    own = [stream for name, stream in streams.items() if name != LABELLED]
    return max(max(1, round(config.epochs * len(s) / s.batch_size)) for s in own)


class Loop:
    """Trains one stage.

    Args:
        method: the method with its network; moved to the runtime's device.
        data: opened data of the run.
        runtime, record: runtime and record of this process.
        folder: folder of the stage; holds checkpoints and pseudo labels.
        seed: seed of the run.
        on_round: called after each round with its number and the steps of all rounds so far (for evaluation).
        on_labels: called with the summary of a round's pseudo labels.
        fingerprint: hash of everything that decides the stage's numbers; a checkpoint with another one is refused.

    Attributes:
        seconds: training time so far, over all starts of the stage.
        steps_done: steps of all rounds so far.
    """

    def __init__(
        self,
        method: Method,
        data: DataBundle,
        *,
        runtime: Runtime,
        record: Record,
        folder: Path,
        seed: int,
        on_round: Callable[[int, int], None] = lambda *_: None,
        on_labels: Callable[[dict[str, Any]], None] = lambda _: None,
        fingerprint: str = "",
    ):
        self.method = laid_out(method, runtime)
        self.config = method.config
        self.data, self.runtime, self.record = data, runtime, record
        self.folder, self.seed = folder, seed
        self.on_round, self.on_labels = on_round, on_labels
        self.fingerprint = fingerprint
        self.seconds = 0.0
        self.steps_done = 0
        self.online = OnlineRecord(data.truth, len(method.space), data.target_size, data.cache, runtime)
        self.log = StepLog(self.config.name, runtime, record, self.online, folder.parent.parent)
        self.stop = StopRequest(runtime.processes, f"stage '{self.config.name}': ")
        self.together = Together(runtime, self.stop)
        self.save = SaveRequest(runtime.processes, runtime.main, self.config.checkpoint_minutes)
        set_norm_mode(method.model, self.config.norm)
        self.shares = Shares(self.method, runtime)
        self.backward = Backward(self.method, runtime, (self.stop, self.save))
        self._named: set[str] = set()

    def run(self) -> None:
        """Train from the newest checkpoint, or from the start, to the end of the last round.

        Raises:
            RequestError: the checkpoint was made with other files than there are now.
            RunError: a loss is not finite.
            Interrupted: the process was asked to stop.
        """
        folder = self.folder / "checkpoints"
        state = load_checkpoint(folder, self.record.warn)
        places = self.runtime.gather([f"round {state['round']}, step {state['step']}" if state else "the start"])
        if len(set(places)) > 1:  # one of them could not read what another one can
            raise RunError(f"the processes would go on from {' and '.join(sorted(set(places)))}; '{folder}' is damaged")
        first, step = 0, 0
        if state is not None and state["fingerprint"] != self.fingerprint and not state["steps_done"]:
            state = None  # it holds the weights that the stage started with, which may be others now
        if state is not None:
            if state["fingerprint"] != self.fingerprint:
                raise RequestError(
                    f"'{folder}' was made with other settings, weights or data than this run has now; choose another "
                    "folder for the run ('out'), or remove that folder to train the stage again"
                )
            self.shares.load_method(state["method"])
            first, step = int(state["round"]), int(state["step"])
            self.seconds, self.steps_done = float(state["seconds"]), int(state["steps_done"])
            self.record.say(f"  resuming at round {first + 1}, step {step}")
        with self.stop, self.together:
            for round_index in range(first, self.method.rounds):
                self._round(round_index, step, state["optimisers"] if state and round_index == first else None)
                step = 0
        self.shares.end()

    def _round(self, round_index: int, first: int, saved: dict[str, Any] | None) -> None:
        """Run a round from step ``first`` on; ``saved``: states of the optimisers where it continues, else None."""
        environment = self.environment(round_index)
        self._prepare(environment, round_index) if saved is None else environment.require_stored()
        streams = self.streams(round_index, environment)
        steps = stage_length(self.config, streams)
        feeders = {name: self.feeder(stream, len(streams)) for name, stream in streams.items()}
        optimisers = self.optimisers(round_index)
        if saved is not None:
            for name, optimiser in optimisers.items():
                self.shares.load_optimiser(optimiser, saved[name])
        else:
            self.match(round_index, optimisers, feeders)
            self._save(round_index, 0, optimisers)
        self._named.clear()
        self._train(environment, round_index, first=first, steps=steps, optimisers=optimisers, feeders=feeders)
        self._name_damaged(feeders.values())
        self._share_statistics()
        with self.shares.gathered():
            self.on_round(round_index, self.steps_done)

    def environment(self, round_index: int) -> RoundEnvironment:
        """Return the environment of a round."""
        return RoundEnvironment(
            self.data,
            self.method.space,
            seed=self.seed,
            runtime=self.runtime,
            record=self.record,
            folder=self.folder / f"round{round_index}",
            look=self.together.look,
            key=self.fingerprint,
        )

    def streams(self, round_index: int, environment: RoundEnvironment) -> dict[str, Stream]:
        """Return the method's streams of a round, and that of labelled target images where there are such."""
        labelled = labelled_streams(self.config, round_index, self.data.labelled, self.data.target_size)
        return {**self.method.streams(round_index, environment), **labelled}

    def optimisers(self, round_index: int) -> Optimisers:
        """Make a new optimiser for every network that the method trains, and let it learn."""
        factor = self.method.learning_rate_factor(round_index)
        made = {n: build_optimiser(t.network, t.optimiser, factor) for n, t in self.method.trained().items()}
        self.backward.learn(made.values())
        return made

    def match(self, round_index: int, optimisers: Optimisers, feeders: Mapping[str, Feeder]) -> dict[str, list[float]]:
        """Set the rates of optimisers that are ``matched`` by gradients of the round's first batches; return them."""
        matched = {n: t.optimiser for n, t in self.method.trained().items() if t.optimiser.name == "matched"}
        if not matched:
            return {}
        self.method.train()

        def gradients() -> Iterator[None]:
            sources = [feeder.batches(0, MEASURED) for feeder in feeders.values()]
            for step, batches in enumerate(zip(*sources, strict=True)):
                seed_step(self.seed, Purpose.STEP, round_index, step, self.runtime.rank)
                self.backward.step(dict(zip(feeders, batches, strict=True)))
                yield

        measured = gradient_sizes({name: optimisers[name] for name in matched}, gradients, self.method)
        rates = {name: match(optimisers[name], measured[name], matched[name].momentum) for name in matched}
        for optimiser in optimisers.values():
            optimiser.zero_grad(set_to_none=True)
        self.record.event("rates", stage=self.config.name, round=round_index, rates=rates)
        return rates

    def feeder(self, stream: Stream, streams: int = 1) -> Feeder:
        """Return a feeder with this process's part of a stream, one of ``streams`` that are fed at a time."""
        return Feeder(
            stream.with_colours(self.data.target),
            seed=self.seed,
            device=self.runtime.device,
            rank=self.runtime.rank,
            processes=self.runtime.processes,
            workers=wanted(self.data.workers, self.runtime.device.type, streams),
            cache=self.data.cache,
            skip_damaged=self.data.skip_damaged,
            streams=streams,
            warn=lambda text: self.record.warn(text, once="shared memory"),
            channels_last=self.runtime.speed.channels_last,
        )

    def _prepare(self, environment: RoundEnvironment, round_index: int) -> None:
        """Let the method prepare a round, e.g. label the target images."""
        started = time.monotonic()
        environment.discard_preparation()
        seed_step(self.seed, Purpose.PREPARATION, round_index)
        self.method.eval()
        with torch.no_grad(), environment.storing(), self.shares.gathered():
            self.method.prepare(round_index, environment)
        summary = environment.finish_preparation(self.config.name, round_index)
        self.seconds += time.monotonic() - started
        if summary is not None:
            self.on_labels(summary)

    def _train(
        self,
        environment: RoundEnvironment,
        round_index: int,
        *,
        first: int,
        steps: int,
        optimisers: Optimisers,
        feeders: Mapping[str, Feeder],
    ) -> None:
        """Run the steps ``first`` to ``steps - 1`` of a round."""
        started = time.monotonic()
        self.method.train()
        sources = [feeder.batches(first, steps) for feeder in feeders.values()]
        title = self.config.name if self.method.rounds == 1 else f"{self.config.name} round {round_index + 1}"
        with Steps(title, steps, first, quiet=self.record.quiet) as progress, self.stop.steps():
            for step, batches in zip(range(first, steps), zip(*sources, strict=True), strict=True):
                set_learning_rate(optimisers.values(), self._rate(round_index, step, steps))
                batch = dict(zip(feeders, batches, strict=True))
                measured = self.step(round_index, step, batch, optimisers)
                with torch.no_grad():
                    self.method.after_step(environment)
                self.log.add(measured, self.method.measured)
                if self.method.online is not None:
                    self.online.add(batch[self.method.online.stream], self.method.online)
                self.steps_done += 1
                note = ""
                last = step + 1 == steps
                due = self.save.decided() or (step + 1) % self.config.checkpoint_every == 0
                stop = self.stop.decided()
                if self.log.due or last or due or stop:
                    rate = float(next(iter(optimisers.values())).param_groups[0]["lr"])
                    note = self.log.write(round_index, rate, self.steps_done)
                if due or last or stop:
                    self.seconds += time.monotonic() - started
                    started = time.monotonic()
                    self._name_damaged(feeders.values())
                    self._save(round_index, step + 1, optimisers)
                progress.advance(note)
                if stop:
                    raise Interrupted(f"stopped at stage '{self.config.name}', step {step + 1}; the state is saved")
        self.seconds += time.monotonic() - started

    def _rate(self, round_index: int, step: int, steps: int) -> float:
        """Return the factor on the learning rates at a step of a round."""
        schedule = self.config.schedule
        if schedule.over == "stage":
            step, steps = round_index * steps + step, self.method.rounds * steps
        return schedule_factor(schedule, step, steps)

    def step(self, round_index: int, step: int, batch: dict[str, Samples], optimisers: Optimisers) -> Measured:
        """Run one training step on one batch of every stream."""
        seed_step(self.seed, Purpose.STEP, round_index, step, self.runtime.rank)
        means = self.backward.step(batch)
        for optimiser in optimisers.values():
            if self.config.gradient_clip is not None:
                parameters = trained_parameters([optimiser])
                torch.nn.utils.clip_grad_norm_(parameters, self.config.gradient_clip, foreach=True)
            optimiser.step()
        names = [name for name, _ in means]
        return Measured(step, names, torch.stack([m for _, m in means]), [i for s in batch.values() for i in s.ids])

    def _name_damaged(self, feeders: Iterable[Feeder]) -> None:
        """Warn of the files that any process skipped, once per file and round."""
        if self.data.skip_damaged:
            mine = {problem for feeder in feeders for problem in feeder.damaged} - self._named
            for problem in sorted(set(self.runtime.gather(sorted(mine)))):
                self._named.add(problem)
                self.record.warn(f"skipped: {problem}")

    def _share_statistics(self) -> None:
        """Average the running statistics over the processes; each has seen only its part of the batches."""
        self.runtime.mean(running_statistics(self.method))

    def _save(self, round_index: int, step: int, optimisers: Optimisers) -> None:
        """Write a checkpoint that continues with ``step`` of a round."""
        self._share_statistics()
        method = self.shares.whole(self.method.state_dict())
        moments = self.shares.whole({name: optimiser.state_dict() for name, optimiser in optimisers.items()})
        if not self.runtime.main:
            with self.stop.saving():
                self.runtime.barrier()
        else:
            state: dict[str, Any] = {
                "fingerprint": self.fingerprint,
                "method": method,
                "optimisers": moments,
                "round": round_index,
                "step": step,
                "seconds": self.seconds,
                "steps_done": self.steps_done,
            }
            require_finite(state, f"stage '{self.config.name}', round {round_index + 1}, step {step}")
            with self.stop.saving():
                save_checkpoint(self.folder / "checkpoints", round_index * _ROUND + step, state)
            self.runtime.barrier()
        self.save.saved()
