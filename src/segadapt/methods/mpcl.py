"""MPCL: several prototypes a class, shared by both domains; joins DAFormer, HRDA, MIC and every other method.

Multi-Prototype Contrastive Learning for domain adaptive semantic segmentation. There is no public
code; docs/methods/mpcl.md says how what the paper leaves open was decided.

    Input: a host with mixed images (x_M, y_M, w_M); K prototypes a class: means mu, and variances (Gaussian)
    F = projection of the decoder's features of x_M                                      [N, D]
    s_ck = -|F - mu_ck|^2, or log N(F; mu_ck, Sigma_ck)                                  (eq. 8, 9)
    a = argmax_k Q, the optimal transport of each class's pixels to its K prototypes,
        which get equal shares                                                           (eq. 13, 14)
    L_con = w_M CE(softmax over all CK of s / tau, prototype a of class y_M)             (eq. 15 to 17)
    L_pce = CE(softmax_c(max_k s_ck / tau), y_M)                                         (eq. 11, 12)
    step on the host's losses and lambda1 L_con + lambda2 L_pce; with two resolutions
        (1 - l_d) of that of the context and l_d of that of the detail                   (eq. 18, 19)
    a bank of each class takes in F;  mu, Sigma = alpha (mu, Sigma) + (1 - alpha) those of the bank  (eq. 20, 21)

A class takes part from when its bank holds enough features for a first clustering by k-means.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from segadapt.core.settings import Settings
from segadapt.labels import IGNORE
from segadapt.methods.environment import Environment
from segadapt.models.prototype_net import PrototypeNet, embedded
from segadapt.models.segmenter import Output, Segmenter
from segadapt.pieces.class_bank import NOWHERE, ClassBank
from segadapt.pieces.kmeans import kmeans
from segadapt.pieces.losses import Over, nearest_labels
from segadapt.pieces.multi_prototypes import (
    Moments,
    Prototypes,
    moments,
    moved,
    own_class,
    prototype_contrast,
    prototype_cross_entropy,
    similarity,
)
from segadapt.pieces.optimal_transport import equipartition, greenkhorn
from segadapt.pieces.terms import Term

_FIRST_POINTS = 5000
"""Features of a class that its first clustering looks at."""
_WAIT = 25
"""Steps between two looks for classes that can begin; looking asks the device."""


class MPCLConfig(Settings):
    """Settings of MPCL; defaults are the paper's, where it gives them.

    Attributes:
        kind: prototypes are a ``centroid``, or a ``gaussian`` with a variance for each dimension, or with a
            whole covariance (``full``).
        prototypes: K.
        channels: D.
        contrast, cross_entropy: lambda1 and lambda2.
        in_class: whether the other prototypes of a pixel's own class are negatives.
        domains: pixels of the mixed image that take part: pasted from the ``source``, of the ``target``, ``both``;
            none of weight zero.
        resolutions: of a network with two: the context (``low``), the detail (``high``), ``both``.
        temperature: tau.
        solver: ``sinkhorn``, ``greenkhorn`` (the paper's), or ``nearest`` (no equal shares).
        epsilon, iterations: of the solver; Greenkhorn needs many times as many as a class has pixels.
        momentum: alpha.
        bank: features of each class that statistics are taken of; 0 takes those of the step.
        insert: pixels of each class that enter the bank in a step, at most.
        start: features of a class that its bank must hold, or fewer that fill it, before the class takes part.
        warmup: steps before any class takes part; the projection is random at first.
        confident: target pixels enter the bank only where the teacher is sure of them.
        unit: features, and centroids, have length one.
        per_dimension: the log density is divided by D; otherwise it is one-hot at any useful temperature.
        floor: added to variances, times 1 / D.
        weighted: L_pce has the weights of L_con.
        over: means are taken over ``valid`` pixels, or over ``all``.
        predict: what the model that is kept predicts by: the host's ``classifier``, or the ``prototypes``.
    """

    kind: Literal["centroid", "gaussian", "full"] = "gaussian"
    prototypes: int = Field(default=5, ge=1)
    channels: int = Field(default=256, ge=1)
    contrast: float = Field(default=0.1, ge=0)
    cross_entropy: float = Field(default=0.1, ge=0)
    in_class: bool = True
    domains: Literal["source", "target", "both"] = "both"
    resolutions: Literal["low", "high", "both"] = "both"
    temperature: float = Field(default=0.1, gt=0)
    solver: Literal["sinkhorn", "greenkhorn", "nearest"] = "sinkhorn"
    epsilon: float = Field(default=0.05, gt=0)
    iterations: int = Field(default=10, ge=1)
    momentum: float = Field(default=0.999, ge=0, le=1)
    bank: int = Field(default=20000, ge=0)
    insert: int = Field(default=1000, ge=1)
    start: int = Field(default=1000, ge=1)
    warmup: int = Field(default=500, ge=0)
    confident: bool = True
    unit: bool = True
    per_dimension: bool = True
    floor: float = Field(default=0.25, gt=0)
    weighted: bool = True
    over: Over = "valid"
    predict: Literal["classifier", "prototypes"] = "classifier"


class Mixed(NamedTuple):
    """The pixels of a batch, mixed of both domains or not, at the resolution of its images.

    Attributes:
        labels: y_M [B, H, W].
        weights: w_M [B, H, W].
        pasted: [B, H, W] bool, pixels from the source.
        sure: [B, H, W] bool, pixels whose label is that of the source, or one the teacher is sure of.
    """

    labels: Tensor
    weights: Tensor
    pasted: Tensor
    sure: Tensor


class Compared(NamedTuple):
    """Pixels beside the prototypes.

    Attributes:
        rows: F [N, D].
        similar: s [N, C, K].
        learnt: [N] labels of classes that take part.
        assigned: a [N].
    """

    rows: Tensor
    similar: Tensor
    learnt: Tensor
    assigned: Tensor


class Seen(NamedTuple):
    """What a step saw at one resolution, for the bank: image by image."""

    features: Tensor
    labels: Tensor
    assigned: Tensor


class MPCL(nn.Module):
    """Prototypes of all classes, and what a host adds to its losses for them.

    State: ``projection`` (trained); ``means`` [C, K, D], ``variances`` [C, K, D] or [C, K, D, D], ``active`` [C];
    a ``banks`` entry a resolution; ``steps``.

    Args:
        config: see :class:`MPCLConfig`.
        classes: C.
        channels: of the host's features.
        scales: resolutions of the host's network: 1 or 2.
    """

    means: Tensor
    variances: Tensor
    active: Tensor
    steps: Tensor

    def __init__(self, config: MPCLConfig, classes: int, channels: int, scales: int) -> None:
        super().__init__()
        self.config, self.classes = config, classes
        c, full = config, config.kind == "full"
        self.projection = nn.Conv2d(channels, c.channels, 1)
        shape = (classes, c.prototypes, c.channels)
        self.register_buffer("means", torch.zeros(shape))
        self.register_buffer("variances", torch.zeros((*shape, c.channels) if full else shape))
        self.register_buffer("active", torch.zeros(classes, dtype=torch.bool))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        used = ["low"] if scales == 1 else {"both": ["low", "high"]}.get(c.resolutions, [c.resolutions])
        length = c.bank or c.start
        self.banks = nn.ModuleDict({name: ClassBank(classes, c.prototypes, length, c.channels, full) for name in used})
        self._seen: dict[str, dict[str, Seen]] = {name: {} for name in used}
        self._done: int | None = None

    # ---- losses ----

    def terms(self, output: Output, mixed: Mixed, of: str = "") -> dict[str, Term]:
        """lambda1 L_con and lambda2 L_pce of each resolution; noted for the banks.

        Args:
            output: of the host's network.
            mixed: the pixels that it saw.
            of: name of the pass, where a step has several.
        """
        views = {"low": (output.features, mixed)}
        if output.detail is not None:
            top, left, bottom, right = output.detail.box
            views["high"] = (output.detail.features, Mixed(*(x[:, top:bottom, left:right] for x in mixed)))
        shares = {"low": 1.0, "high": 0.0}
        if len(self.banks) == 2 and output.detail is not None:
            shares = {"low": 1 - output.detail.weight, "high": output.detail.weight}
        elif "high" in self.banks:
            shares = {"low": 0.0, "high": 1.0}
        terms: dict[str, Term] = {}
        for name in self.banks:
            contrast, classes, self._seen[name][of] = self._losses(*views[name])
            prefix = f"{of} prototype" if of else "prototype"
            terms[f"{prefix} contrast/{name}"] = contrast.times(self.config.contrast * shares[name])
            terms[f"{prefix} classes/{name}"] = classes.times(self.config.cross_entropy * shares[name])
        return terms

    def _losses(self, features: Tensor, mixed: Mixed) -> tuple[Term, Term, Seen]:
        """L_con and L_pce at one resolution, and what the bank takes in."""
        c = self.config
        labels, weights, _, sure = self.taking_part(mixed, features.shape[-2:])
        rows, similar, learnt, assigned = self.compared(features, labels.flatten())
        kept = torch.where(sure, labels, IGNORE) if c.confident else labels
        batch = len(labels)
        places = torch.where(learnt == IGNORE, NOWHERE, assigned)
        seen = Seen(rows.detach().view(batch, -1, c.channels), kept.view(batch, -1), places.view(batch, -1))
        w = weights.flatten()
        contrast = prototype_contrast(similar, learnt, assigned, w, c.temperature, c.in_class)
        classes = prototype_cross_entropy(similar, learnt, w if c.weighted else torch.ones_like(w), c.temperature)
        if c.over == "all":
            pixels = contrast.count.new_full((), float(learnt.numel()))
            contrast, classes = replace(contrast, count=pixels), replace(classes, count=pixels)
        return contrast, classes, seen

    def taking_part(self, mixed: Mixed, size: Sequence[int]) -> Mixed:
        """The pixels on the grid of the features, without labels where the other domain or no weight is."""
        small = Mixed(*(nearest_labels(x, size) for x in mixed))
        used = {"source": small.pasted, "target": ~small.pasted}.get(self.config.domains, torch.ones_like(small.pasted))
        return small._replace(labels=torch.where(used & (small.weights > 0), small.labels, IGNORE))

    def compared(self, features: Tensor, labels: Tensor) -> Compared:
        """Features [B, C, h, w] beside the prototypes; ``labels`` [B h w]."""
        c = self.config
        rows = embedded(self.projection, features, c.unit)
        similar = similarity(rows, self.prototypes, c.floor, c.per_dimension)
        begun = torch.cat([self.active, self.active.new_zeros(1)])
        learnt = torch.where(begun[torch.where(labels == IGNORE, self.classes, labels)], labels, IGNORE)
        return Compared(rows, similar, learnt, self.assigned(similar.detach(), learnt))

    @property
    def prototypes(self) -> Prototypes:
        """What has been learnt of every class."""
        return Prototypes(self.means, None if self.config.kind == "centroid" else self.variances, self.active)

    @torch.no_grad()
    def assigned(self, similar: Tensor, labels: Tensor) -> Tensor:
        """a [N] of pixels with ``labels`` [N]; classes with fewer pixels than prototypes take the nearest."""
        c = self.config
        valid = labels != IGNORE
        own = own_class(similar, torch.where(valid, labels, 0))
        if c.solver == "nearest":
            return own.argmax(1)
        solve = equipartition if c.solver == "sinkhorn" else greenkhorn
        plan = solve(own, torch.where(valid, labels, self.classes), self.classes, c.epsilon, c.iterations)
        members = torch.zeros(self.classes, device=own.device)
        members.index_add_(0, torch.where(valid, labels, 0), valid.float())
        few = (members < c.prototypes)[torch.where(valid, labels, 0)]
        return torch.where(few, own.argmax(1), plan.argmax(1))

    # ---- prototypes ----

    def result(self, network: Segmenter) -> Segmenter:
        """The model that is kept of the host's network."""
        return network if self.config.predict == "classifier" else self.around(network)

    def around(self, network: Segmenter) -> PrototypeNet:
        """The host's network with the prototypes as its classifier."""
        c = self.config
        made = PrototypeNet(network, c.kind, c.prototypes, c.channels, c.temperature, c.floor, c.unit, c.per_dimension)
        made.load_prototypes(self.projection, self.prototypes)
        return made.to(self.means.device)

    @torch.no_grad()
    def follow(self, environment: Environment, batch_size: int) -> None:
        """The banks take in what the step saw, prototypes follow, and classes begin."""
        c = self.config
        done = int(self.steps) if self._done is None else self._done
        generator = torch.Generator().manual_seed(done)  # the same on every process
        for name, seen in self._seen.items():
            if not seen:
                continue
            gathered = ([environment.gather(x, batch_size).flatten(0, 1) for x in one] for one in seen.values())
            rows, labels, places = (torch.cat(x) for x in zip(*gathered, strict=True))
            seen.clear()
            chance = torch.rand(len(rows), generator=generator).to(rows.device, non_blocking=True)
            bank = self.banks[name]
            assert isinstance(bank, ClassBank)
            bank.push(rows, labels, places, c.insert, chance)
            present = torch.zeros(self.classes + 1, dtype=torch.bool, device=rows.device)
            present[torch.where(labels == IGNORE, self.classes, labels)] = True
            begun = torch.where(places >= 0, labels, IGNORE)
            if c.bank:
                found = bank.moments()
            else:
                found = moments(rows, begun, places, self.classes, c.prototypes, c.kind == "full")
            self._move(found, present[:-1] & self.active)
        if done >= c.warmup and (done - c.warmup) % _WAIT == 0:
            self._begin(generator)
        self.steps += 1
        self._done = done + 1

    def _move(self, found: Moments, classes: Tensor) -> None:
        """mu and Sigma of the given classes towards those found (eq. 20, 21)."""
        c = self.config
        counts = found.counts * classes[:, None]
        self.means.copy_(moved(self.means, found.means, counts, c.momentum))
        if c.kind == "centroid" and c.unit:
            self.means.copy_(F.normalize(self.means, dim=2))
        self.variances.copy_(moved(self.variances, found.variances, counts, c.momentum))

    def _begin(self, generator: torch.Generator) -> None:
        """First clustering of classes whose bank holds enough."""
        c = self.config
        bank = next(iter(self.banks.values()))
        assert isinstance(bank, ClassBank)
        for label in ((bank.filled >= min(c.start, bank.length)) & ~self.active).nonzero().flatten().tolist():
            rows = bank.remembered(label)
            chosen = torch.randperm(len(rows), generator=generator)[:_FIRST_POINTS].to(rows.device)
            centres, _ = kmeans(rows[chosen], c.prototypes, generator=generator)
            members = torch.cdist(rows, centres).argmin(1)
            bank.reassign(label, members)
            found = bank.moments()
            self.means[label] = F.normalize(centres, dim=1) if c.kind == "centroid" and c.unit else centres
            self.variances[label] = found.variances[label]
            self.active[label] = True
