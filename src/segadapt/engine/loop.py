"""The one training loop.

For every round of a method: prepare (a pass over the target set, if the method has one), then
steps. A step asks the method for loss terms, runs one backward pass for each set of terms it
yields, adds gradients over the processes, and steps the optimiser. Checkpoints hold the method's
state, the optimiser's state and the position; all randomness is a function of the position.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from segadapt.data.loader import Feeder, Samples, Stream
from segadapt.engine.checkpoint import load_checkpoint, save_checkpoint
from segadapt.engine.environment import DataBundle, RoundEnvironment
from segadapt.engine.online import OnlineRecord
from segadapt.engine.optim import build_optimiser, schedule_factor, set_learning_rate
from segadapt.engine.record import Record, Steps
from segadapt.engine.runtime import Runtime, seed_step
from segadapt.engine.stopping import StopRequest
from segadapt.errors import Interrupted, RequestError, RunError
from segadapt.methods.method import Method, Terms
from segadapt.methods.stage_config import StageConfig
from segadapt.models.norm import running_statistics, set_norm_mode

Optimisers = Mapping[str, torch.optim.Optimizer]

LOG_EVERY = 20
_ROUND = 10_000_000


class Measured(NamedTuple):
    """The values of one step, still on the device, until they are logged."""

    step: int
    names: list[str]
    values: Tensor
    ids: list[str]


def stage_length(config: StageConfig, streams: Mapping[str, Stream]) -> int:
    """Steps of one round: as given, or ``epochs`` passes over the longest stream."""
    if config.steps is not None:
        return config.steps
    if config.epochs is None:
        raise RequestError(f"stage '{config.name}' has no length; set steps or epochs")
    return max(max(1, round(config.epochs * len(s) / s.batch_size)) for s in streams.values())


class Loop:
    """Trains one stage.

    Args:
        method: with its network; moved to the runtime's device.
        data: opened data of the run.
        runtime, record: of this process.
        folder: of the stage; holds checkpoints and pseudo labels.
        seed: of the run.
        on_round: called with the round's number and all steps so far when a round is done (for evaluation).
        on_labels: called with the summary of a round's pseudo labels.
        fingerprint: of all that decides the stage's numbers; a checkpoint with another one is refused.
    """

    def __init__(
        self,
        method: Method,
        data: DataBundle,
        runtime: Runtime,
        record: Record,
        folder: Path,
        seed: int,
        on_round: Callable[[int, int], None],
        on_labels: Callable[[dict[str, Any]], None],
        fingerprint: str = "",
    ):
        # Channels-last is the faster layout of convolutions on GPUs and on CPUs alike.
        self.method = method.to(runtime.device).to(memory_format=torch.channels_last)
        self.config = method.config
        self.data, self.runtime, self.record = data, runtime, record
        self.folder, self.seed = folder, seed
        self.on_round, self.on_labels = on_round, on_labels
        self.fingerprint = fingerprint
        self.seconds = 0.0
        self.steps_done = 0
        self.online = OnlineRecord(data.truth, len(method.space), data.target_size, data.cache, runtime)
        self.stop = StopRequest(runtime.processes)
        self._told: set[str] = set()
        set_norm_mode(method.model, self.config.norm)

    def run(self) -> None:
        """Train from the newest checkpoint, or from the start, to the end of the last round.

        Raises:
            RequestError: the checkpoint was made with other files than there are now.
            RunError: a loss is not finite.
            Interrupted: the process was asked to stop.
        """
        folder = self.folder / "checkpoints"
        state = load_checkpoint(folder, self.record.warn)
        first, step = 0, 0
        if state is not None:
            if state["fingerprint"] != self.fingerprint:
                raise RequestError(
                    f"'{folder}' was made with other settings, weights or data than this run has now; choose another "
                    "--out, or remove that folder to train the stage anew"
                )
            self.method.load_state_dict(state["method"])
            first, step = int(state["round"]), int(state["step"])
            self.seconds, self.steps_done = float(state["seconds"]), int(state["steps_done"])
            self.record.say(f"  resuming at round {first + 1}, step {step}")
        with self.stop:
            for round_index in range(first, self.method.rounds):
                self._round(round_index, step, state["optimisers"] if state and round_index == first else None)
                step = 0

    def _round(self, round_index: int, first: int, saved: dict[str, Any] | None) -> None:
        folder = self.folder / f"round{round_index}"
        environment = RoundEnvironment(self.data, self.method.space, self.seed, self.runtime, self.record, folder)
        if saved is None:
            self._prepare(environment, round_index)
        streams = self.method.streams(round_index, environment)
        steps = stage_length(self.config, streams)
        optimisers = self.optimisers(round_index)
        if saved is not None:
            for name, optimiser in optimisers.items():
                optimiser.load_state_dict(saved[name])
        else:
            self._save(round_index, 0, optimisers)
        feeders = {name: self.feeder(stream, len(streams)) for name, stream in streams.items()}
        self._told.clear()
        self._train(environment, round_index, first, steps, optimisers, feeders)
        self._name_damaged(feeders.values())
        self._share_statistics()
        self.on_round(round_index, self.steps_done)

    def optimisers(self, round_index: int) -> Optimisers:
        """A new optimiser for every network that the method trains."""
        factor = self.method.learning_rate_factor(round_index)
        return {n: build_optimiser(t.network, t.optimiser, factor) for n, t in self.method.trained().items()}

    def feeder(self, stream: Stream, streams: int = 1) -> Feeder:
        """This process's batches of a stream, one of ``streams`` that are fed at a time."""
        runtime, data = self.runtime, self.data
        return Feeder(
            stream,
            self.seed,
            runtime.device,
            runtime.rank,
            runtime.processes,
            data.workers,
            data.cache,
            data.skip_damaged,
            streams,
        )

    def _prepare(self, environment: RoundEnvironment, round_index: int) -> None:
        started = time.monotonic()
        environment.discard_labels()
        seed_step(self.seed, 7, round_index)
        self.method.eval()
        with torch.no_grad():
            self.method.prepare(round_index, environment)
        summary = environment.finish_prepare(self.config.name, round_index)
        self.seconds += time.monotonic() - started
        if summary is not None:
            self.on_labels(summary)

    def _train(
        self,
        environment: RoundEnvironment,
        round_index: int,
        first: int,
        steps: int,
        optimisers: Optimisers,
        feeders: Mapping[str, Feeder],
    ) -> None:
        started = time.monotonic()
        self.method.train()
        pending: list[Measured] = []
        sources = [feeder.batches(first, steps) for feeder in feeders.values()]
        title = self.config.name if self.method.rounds == 1 else f"{self.config.name} round {round_index + 1}"
        with Steps(title, steps, first, quiet=self.record.quiet) as progress:
            for step, batches in zip(range(first, steps), zip(*sources, strict=True), strict=True):
                set_learning_rate(optimisers.values(), self._rate(round_index, step, steps))
                batch = dict(zip(feeders, batches, strict=True))
                pending.append(self.step(round_index, step, batch, optimisers))
                with torch.no_grad():
                    self.method.after_step(environment)
                if self.method.online is not None:
                    self.online.add(batch[self.method.online.stream], self.method.online)
                self.steps_done += 1
                note = ""
                last = step + 1 == steps
                due = (step + 1) % self.config.checkpoint_every == 0
                stop = self.stop.decided()
                if len(pending) == LOG_EVERY or last or due or stop:
                    note = self._log(round_index, pending, optimisers)
                    pending = []
                if (due and not last) or stop:
                    self.seconds += time.monotonic() - started
                    started = time.monotonic()
                    self._name_damaged(feeders.values())
                    self._save(round_index, step + 1, optimisers)
                progress.advance(note)
                if stop:
                    raise Interrupted(f"stopped at stage '{self.config.name}', step {step + 1}; the state is saved")
        self.seconds += time.monotonic() - started

    def _rate(self, round_index: int, step: int, steps: int) -> float:
        """Factor on the learning rates at a step of a round."""
        schedule = self.config.schedule
        if schedule.over == "stage":
            step, steps = round_index * steps + step, self.method.rounds * steps
        return schedule_factor(schedule, step, steps)

    def step(self, round_index: int, step: int, batch: dict[str, Samples], optimisers: Optimisers) -> Measured:
        """One training step on one batch of every stream."""
        seed_step(self.seed, 8, round_index, step, self.runtime.rank)
        for optimiser in optimisers.values():
            optimiser.zero_grad(set_to_none=True)
        names: list[str] = []
        values: list[Tensor] = []
        generator = self.method.step(batch)
        while True:
            with self.runtime.autocast():
                terms = next(generator, None)
            if terms is None:
                break
            means = self._global_means(terms)
            self.runtime.fabric.backward(sum(means.values(), torch.zeros((), device=self.runtime.device)))
            names += list(means)
            values += [m.detach().float() for m in means.values()]
        for optimiser in optimisers.values():
            parameters = [p for group in optimiser.param_groups for p in group["params"]]
            self.runtime.sum_gradients(parameters)
            if self.config.gradient_clip is not None:
                torch.nn.utils.clip_grad_norm_(parameters, self.config.gradient_clip, foreach=True)
            optimiser.step()
        return Measured(step, names, torch.stack(values), [i for s in batch.values() for i in s.ids])

    def _global_means(self, terms: Terms) -> dict[str, Tensor]:
        """This process's share of every weighted mean over the whole batch; wishes to stop travel with the counts."""
        device = self.runtime.device
        counts = [t.count.detach().to(device, torch.float32) for t in terms.values()]
        message = torch.stack([*counts, self.stop.wish(device)])
        self.runtime.sum([message])
        self.stop.heard(message[-1])
        message = message.clamp(min=torch.finfo(torch.float32).tiny)
        return {name: t.weight * t.total / message[i] for i, (name, t) in enumerate(terms.items())}

    def _log(self, round_index: int, pending: list[Measured], optimisers: Optimisers) -> str:
        table = torch.stack([m.values for m in pending])
        self.runtime.sum([table])
        table = table.cpu()
        bad = (~torch.isfinite(table)).any(1).nonzero()
        if len(bad):
            where, name = pending[int(bad[0])], self.config.name
            shown = ", ".join(f"{n}={v:.3g}" for n, v in zip(where.names, table[int(bad[0])].tolist(), strict=True))
            raise RunError(
                f"loss is not finite in stage '{name}', round {round_index + 1}, step {where.step + 1} ({shown}); "
                f"batch: {', '.join(where.ids)}; start again in another --out with a lower {name}.optimiser.lr or "
                f"with {name}.gradient_clip; --reuse {self.folder.parent.parent} takes over the stages before"
            )
        latest = pending[-1]
        losses = dict(zip(latest.names, table.mean(0).tolist(), strict=True))
        total = sum(losses.values())
        rate = float(next(iter(optimisers.values())).param_groups[0]["lr"])
        self.record.event(
            "step",
            stage=self.config.name,
            round=round_index,
            step=latest.step + 1,
            losses={**losses, "total": total},
            lr=rate,
        )
        self.record.scalars(f"{self.config.name}/loss", {**losses, "total": total}, self.steps_done)
        self.record.scalars(f"{self.config.name}", {"lr": rate}, self.steps_done)
        found = self.online.take()
        if found:
            self.record.event("online_labels", stage=self.config.name, round=round_index, step=latest.step + 1, **found)
        return f"loss {total:.3f}"

    def _name_damaged(self, feeders: Iterable[Feeder]) -> None:
        """Warn of the files that any process skipped, of each once a round."""
        if self.data.skip_damaged:
            mine = {problem for feeder in feeders for problem in feeder.damaged} - self._told
            for problem in sorted(set(self.runtime.gather(sorted(mine)))):
                self._told.add(problem)
                self.record.warn(f"skipped: {problem}")

    def _share_statistics(self) -> None:
        """Average the running statistics that each process took of its own part of the batches."""
        self.runtime.mean(running_statistics(self.method))

    def _save(self, round_index: int, step: int, optimisers: Optimisers) -> None:
        self._share_statistics()
        if self.runtime.main:
            state = {
                "fingerprint": self.fingerprint,
                "method": self.method.state_dict(),
                "optimisers": {name: optimiser.state_dict() for name, optimiser in optimisers.items()},
                "round": round_index,
                "step": step,
                "seconds": self.seconds,
                "steps_done": self.steps_done,
            }
            save_checkpoint(self.folder / "checkpoints", round_index * _ROUND + step, state)
        self.runtime.barrier()
