"""The log of a stage's training steps; its numbers stay on the device until several steps are logged together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from segadapt.engine.online import OnlineRecord
from segadapt.engine.record import Record
from segadapt.engine.runtime import Runtime
from segadapt.errors import RunError

LOG_EVERY = 20
"""Steps between two log lines."""


class Measured(NamedTuple):
    """The losses of one step.

    Attributes:
        step: step within the round, from 0.
        names: names of the loss terms.
        values: [len(names)] this process's share of each weighted mean, on the device.
        ids: names of the samples, for messages.
    """

    step: int
    names: list[str]
    values: Tensor
    ids: list[str]


class StepLog:
    """Collects the losses of training steps, and what methods measure in them, and records their means.

    Args:
        stage: name of the stage.
        runtime, record: runtime and record of this process.
        online: quality of online labels, recorded with the losses.
        run: folder of the run, for messages.
    """

    def __init__(self, stage: str, runtime: Runtime, record: Record, online: OnlineRecord, run: Path):
        self._stage, self._runtime, self._record, self._online, self._run = stage, runtime, record, online, run
        self._pending: list[Measured] = []
        self._numbers: list[Mapping[str, Tensor]] = []

    def add(self, measured: Measured, numbers: Mapping[str, Tensor]) -> None:
        """Take the losses of one step and what the method measured in it (``Method.measured``)."""
        self._pending.append(measured)
        self._numbers.append(dict(numbers))

    @property
    def due(self) -> bool:
        """Whether enough steps have been taken to record them."""
        return len(self._pending) >= LOG_EVERY

    def write(self, round_index: int, learning_rate: float, steps_done: int) -> str:
        """Record the means of the steps since the last call, over all processes.

        Args:
            round_index: number of the round, from 0.
            learning_rate: learning rate of the first network.
            steps_done: steps of all rounds so far; the position on the curves.

        Returns:
            The total loss in words, for the progress line.

        Raises:
            RunError: a loss is not finite; names the step and its samples.
        """
        pending, self._pending = self._pending, []
        flat = torch.cat([m.values for m in pending])  # steps may have different terms
        self._runtime.sum([flat])
        rows = torch.split(flat.cpu(), [len(m.names) for m in pending])
        self._require_finite(round_index, pending, rows)
        step = pending[-1].step + 1
        values: dict[str, list[float]] = {}
        for m, row in zip(pending, rows, strict=True):
            for name, value in zip(m.names, row.tolist(), strict=True):
                values.setdefault(name, []).append(value)
        losses = {name: sum(of_steps) / len(of_steps) for name, of_steps in values.items()}
        losses["total"] = sum(map(sum, values.values())) / len(pending)
        place = {"stage": self._stage, "round": round_index, "step": step}
        numbers = self._means()
        measured = {"measured": numbers} if numbers else {}
        self._record.event("step", **place, losses=losses, lr=learning_rate, **measured)
        self._record.scalars(f"{self._stage}/loss", losses, steps_done)
        self._record.scalars(f"{self._stage}/measured", numbers, steps_done)
        self._record.scalars(self._stage, {"lr": learning_rate}, steps_done)
        labels = self._online.take()
        if labels:
            self._record.event("online_labels", **place, **labels)
        return f"loss {losses['total']:.3f}"

    def _means(self) -> dict[str, float]:
        """Return the mean of every number over the steps and processes that have it; names without one are left out."""
        pending, self._numbers = self._numbers, []
        names = list({name: None for step in pending for name in step})
        if not names:
            return {}
        absent = next(value for step in pending for value in step.values()).new_tensor(torch.nan, dtype=torch.float32)
        table = torch.stack([torch.stack([step.get(n, absent).detach().float() for n in names]) for step in pending])
        known = torch.isfinite(table)
        sums = torch.stack([torch.where(known, table, 0.0).sum(0), known.sum(0).float()])
        self._runtime.sum([sums])
        return {name: total / count for name, total, count in zip(names, *sums.cpu().tolist(), strict=True) if count}

    def _require_finite(self, round_index: int, pending: Sequence[Measured], rows: Sequence[Tensor]) -> None:
        """Stop the run at the first step with a loss that is not finite; ``rows``: [terms] of each step."""
        bad = next((i for i, row in enumerate(rows) if not torch.isfinite(row).all()), None)
        if bad is None:
            return
        first, name = pending[bad], self._stage
        shown = ", ".join(f"{n}={v:.3g}" for n, v in zip(first.names, rows[bad].tolist(), strict=True))
        raise RunError(
            f"loss is not finite in stage '{name}', round {round_index + 1}, step {first.step + 1} ({shown}); "
            f"batch: {', '.join(first.ids)}; start again in another --out with a lower {name}.optimiser.lr or "
            f"with {name}.gradient_clip; --reuse {self._run} takes over the stages before"
        )
