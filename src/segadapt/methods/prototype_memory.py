"""The prototypes of MPCL and the banks of features that they follow (last line of the box, eq. 20 and 21)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segadapt.labels import IGNORE
from segadapt.methods.mpcl_config import MPCLConfig
from segadapt.pieces.class_bank import ClassBank
from segadapt.pieces.clustering import kmeans
from segadapt.pieces.multi_prototypes import Moments, Prototypes, moments, moved

_FIRST_POINTS = 5000
"""Largest number of features that the first clustering of a class looks at."""
_WAIT = 25
"""Steps between two looks for classes that can begin; looking waits for the device."""


class Seen(NamedTuple):
    """The pixels of a step at one resolution, image by image or in one row.

    Attributes:
        features: F [B, n, D] or [N, D].
        labels: [B, n] or [N]; IGNORE for pixels that do not enter the bank.
        assigned: a [B, n] or [N]; NOWHERE for pixels of a class that has not begun.
    """

    features: Tensor
    labels: Tensor
    assigned: Tensor


class PrototypeMemory(nn.Module):
    """K prototypes per class, and one bank of features per resolution.

    State: ``means`` [C, K, D], ``variances`` [C, K, D] or [C, K, D, D], ``active`` [C]; a ``banks`` entry per
    resolution; ``steps`` followed so far.

    Args:
        config: see :class:`MPCLConfig`.
        classes: C.
        resolutions: names of the banks.
    """

    means: Tensor
    variances: Tensor
    active: Tensor
    steps: Tensor

    def __init__(self, config: MPCLConfig, classes: int, resolutions: Sequence[str]) -> None:
        super().__init__()
        self.config, self.classes = config, classes
        c, full = config, config.kind == "full"
        shape = (classes, c.prototypes, c.channels)
        self.register_buffer("means", torch.zeros(shape))
        self.register_buffer("variances", torch.zeros((*shape, c.channels) if full else shape))
        self.register_buffer("active", torch.zeros(classes, dtype=torch.bool))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        length = c.bank or c.start
        self.banks = nn.ModuleDict({r: ClassBank(classes, c.prototypes, length, c.channels, full) for r in resolutions})
        self._done: int | None = None  # ``steps`` on this side of the device

    @property
    def prototypes(self) -> Prototypes:
        """The prototypes as they are now; classes that have not begun are not active."""
        return Prototypes(self.means, None if self.config.kind == "centroid" else self.variances, self.active)

    @torch.no_grad()
    def follow(self, seen: Mapping[str, Seen]) -> None:
        """Push the pixels of a step to the banks, move the prototypes, and begin the classes with full enough banks.

        Args:
            seen: the pixels of all processes by resolution, in one row each.
        """
        c = self.config
        done = int(self.steps) if self._done is None else self._done
        generator = torch.Generator().manual_seed(done)  # the same on every process
        for name, (rows, labels, places) in seen.items():
            chance = torch.rand(len(rows), generator=generator).to(rows.device, non_blocking=True)
            bank = self._bank(name)
            bank.push(rows, labels, places, c.insert, chance)
            present = torch.zeros(self.classes + 1, dtype=torch.bool, device=rows.device)
            present[torch.where(labels == IGNORE, self.classes, labels)] = True
            if c.bank:
                statistics = bank.moments()
            else:
                begun = torch.where(places >= 0, labels, IGNORE)
                statistics = moments(rows, begun, places, self.classes, c.prototypes, c.kind == "full")
            self._move(statistics, present[:-1] & self.active)
        if done >= c.warmup and (done - c.warmup) % _WAIT == 0:
            self._begin(generator)
        self.steps += 1
        self._done = done + 1

    def _move(self, statistics: Moments, classes: Tensor) -> None:
        """Move mu and Sigma of the given classes towards new statistics (eq. 20, 21)."""
        c = self.config
        counts = statistics.counts * classes[:, None]
        self.means.copy_(moved(self.means, statistics.means, counts, c.momentum))
        if c.kind == "centroid" and c.unit:
            self.means.copy_(F.normalize(self.means, dim=2))
        self.variances.copy_(moved(self.variances, statistics.variances, counts, c.momentum))

    def _begin(self, generator: torch.Generator) -> None:
        """Begin the classes with enough features in their bank: cluster these for the first time."""
        c = self.config
        bank = self._bank(next(iter(self.banks)))
        for label in ((bank.filled >= min(c.start, bank.length)) & ~self.active).nonzero().flatten().tolist():
            rows = bank.remembered(label)
            chosen = torch.randperm(len(rows), generator=generator)[:_FIRST_POINTS].to(rows.device)
            centres, _ = kmeans(rows[chosen], c.prototypes, generator=generator)
            members = torch.cdist(rows, centres).argmin(1)
            bank.reassign(label, members)
            statistics = bank.moments()
            self.means[label] = F.normalize(centres, dim=1) if c.kind == "centroid" and c.unit else centres
            self.variances[label] = statistics.variances[label]
            self.active[label] = True

    def _bank(self, name: str) -> ClassBank:
        bank = self.banks[name]
        assert isinstance(bank, ClassBank)
        return bank
