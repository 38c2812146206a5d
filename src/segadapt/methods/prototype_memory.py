"""The prototypes of MPCL and the banks of features that they follow (last line of the box, eq. 20 and 21).

before step warmup - collect            nothing
from there on                           banks take in F
from step warmup on, every 25 steps     k-means of the classes whose bank holds `start` features; they begin
at step restart - collect               banks are emptied; classes that have begun go on
from step restart on, every 25 steps    k-means anew, once per class, under the same condition
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segadapt.core.moving import sent
from segadapt.labels import IGNORE
from segadapt.methods.mpcl_config import MPCLConfig
from segadapt.pieces.class_bank import ClassBank
from segadapt.pieces.clustering import kmeans
from segadapt.pieces.counted import CountsSteps
from segadapt.pieces.multi_prototypes import Moments, Prototypes, moments, moved
from segadapt.pieces.prototype_use import nearest_distances, usage_entropy

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


class PrototypeMemory(CountsSteps):
    """K prototypes per class, and one bank of features per resolution.

    State: ``means`` [C, K, D], ``variances`` [C, K, D] or [C, K, D, D]; ``active`` [C], classes that have begun, and
    ``clustered`` [C], those that have been clustered since the last start; a ``banks`` entry per resolution; ``steps``
    followed so far.

    Args:
        config: see :class:`MPCLConfig`.
        classes: C.
        resolutions: names of the banks.
    """

    means: Tensor
    variances: Tensor
    active: Tensor
    clustered: Tensor

    def __init__(self, config: MPCLConfig, classes: int, resolutions: Sequence[str]) -> None:
        super().__init__()
        self.config, self.classes = config, classes
        c, full = config, config.kind == "full"
        shape = (classes, c.prototypes, c.channels)
        self.register_buffer("means", torch.zeros(shape))
        self.register_buffer("variances", torch.zeros((*shape, c.channels) if full else shape))
        self.register_buffer("active", torch.zeros(classes, dtype=torch.bool))
        self.register_buffer("clustered", torch.zeros(classes, dtype=torch.bool))
        length = c.bank or c.start
        self.banks = nn.ModuleDict({r: ClassBank(classes, c.prototypes, length, c.channels, full) for r in resolutions})

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
        done = self.done
        generator = torch.Generator().manual_seed(done)  # the same on every process
        self.count_step()
        if done < c.warmup - c.collect:
            return
        if c.restart is not None and done == c.restart - c.collect:
            for name in self.banks:
                self._bank(name).clear()
        for name, (rows, labels, places) in seen.items():
            chance = sent(torch.rand(len(rows), generator=generator), rows.device)
            bank = self._bank(name)
            bank.push(rows, labels, places, c.insert, chance)
            present = torch.zeros(self.classes + 1, dtype=torch.bool, device=rows.device)
            present.index_fill_(0, torch.where(labels == IGNORE, self.classes, labels), True)
            if c.bank:
                statistics = bank.moments()
            else:
                begun = torch.where(places >= 0, labels, IGNORE)
                statistics = moments(rows, begun, places, self.classes, c.prototypes, c.kind == "full")
            self._move(statistics, present[:-1] & self.active)
        if done == c.restart:
            self.clustered.zero_()
        start = c.warmup if c.restart is None or done < c.restart else c.restart
        if done >= start and (done - start) % _WAIT == 0:
            self._begin(generator)

    def _move(self, statistics: Moments, classes: Tensor) -> None:
        """Move mu and Sigma of the given classes towards new statistics (eq. 20, 21)."""
        c = self.config
        counts = statistics.counts * classes[:, None]
        self.means.copy_(moved(self.means, statistics.means, counts, c.momentum))
        if c.kind == "centroid" and c.unit:
            self.means.copy_(F.normalize(self.means, dim=2))
        self.variances.copy_(moved(self.variances, statistics.variances, counts, c.momentum))

    def _begin(self, generator: torch.Generator) -> None:
        """Cluster the classes with enough features in their bank, once per start."""
        c = self.config
        first = self._bank(next(iter(self.banks)))
        for label in ((first.filled >= min(c.start, first.length)) & ~self.clustered).nonzero().flatten().tolist():
            rows = first.remembered(label)
            chosen = torch.randperm(len(rows), generator=generator)[:_FIRST_POINTS].to(rows.device)
            centres, _ = kmeans(rows[chosen], c.prototypes, generator=generator)
            for name in self.banks:  # no bank may follow clusters that are no more
                bank = self._bank(name)
                bank.reassign(label, torch.cdist(bank.remembered(label), centres).argmin(1))
            self.means[label] = F.normalize(centres, dim=1) if c.kind == "centroid" and c.unit else centres
            self.variances[label] = first.moments().variances[label]
            for flags in (self.active, self.clustered):
                flags[label : label + 1].fill_(True)

    @torch.no_grad()
    def measured(self) -> dict[str, Tensor]:
        """Return scalars for the record; NaN before any class has begun.

        ``prototype use`` is the entropy of the shares that a class's prototypes have in the first bank, divided by
        log K, mean over classes: 1 is equal use. The distances are from a prototype to the nearest other one of its
        class, and to the nearest one of another class, mean over prototypes.
        """
        counts = self._bank(next(iter(self.banks))).counts[:-1].view(self.classes, -1)
        own, others = nearest_distances(self.means, self.active)
        return {
            "prototype use": usage_entropy(counts, self.active),
            "prototype distance, own class": own,
            "prototype distance, other classes": others,
            "classes with prototypes": self.active.sum(),
        }

    def _bank(self, name: str) -> ClassBank:
        bank = self.banks[name]
        assert isinstance(bank, ClassBank)
        return bank
