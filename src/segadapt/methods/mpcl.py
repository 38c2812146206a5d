"""MPCL: several prototypes per class, shared by both domains; joins DACS, DAFormer, HRDA and MIC.

Multi-Prototype Contrastive Learning for domain adaptive semantic segmentation (Ling, Xu, Gao). It has no
public code; docs/methods/mpcl.md says how we decided the points that the paper leaves open. Settings are in
:mod:`segadapt.methods.mpcl_config`; the last line of the box is :mod:`segadapt.methods.prototype_memory`.

    Input: mixed images of the host (x_M, y_M, w_M); K prototypes per class: means mu, and variances (Gaussian)
    F = projection of the decoder's features of x_M (or a fusion of the encoder's)       [N, D]
    s_ck = -|F - mu_ck|^2, or log N(F; mu_ck, Sigma_ck)                                  (eq. 8, 9)
    a = argmax_k Q, the optimal transport of each class's pixels to its K prototypes,
        which get equal shares                                                           (eq. 13, 14)
    L_con = w_M CE(softmax over all CK of s / tau, prototype a of class y_M)             (eq. 15 to 17)
    L_pce = CE(softmax_c(max_k s_ck / tau), y_M)                                         (eq. 11, 12)
    step on the host's losses and lambda1 L_con + lambda2 L_pce; with two resolutions
        1 - l_d times the losses of the context and l_d times the losses of the detail   (eq. 18, 19)
    a bank of each class takes in F;  mu, Sigma = alpha (mu, Sigma) + (1 - alpha) (mu, Sigma of the bank)
                                                                                         (eq. 20, 21)

A class joins once its bank holds enough features for a first clustering by k-means. Labels are taken at the centres of
the features' cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from segadapt.labels import IGNORE
from segadapt.methods.environment import Environment
from segadapt.methods.mpcl_config import MPCLConfig
from segadapt.methods.prototype_memory import PrototypeMemory, Seen
from segadapt.models.prototype_net import PrototypeNet, embedded
from segadapt.models.segmenter import Detail, Output, Segmenter
from segadapt.pieces.class_bank import NOWHERE
from segadapt.pieces.classmix import Mixed
from segadapt.pieces.losses import nearest_labels
from segadapt.pieces.multi_prototypes import own_class, prototype_contrast, prototype_cross_entropy, similarity
from segadapt.pieces.optimal_transport import equipartition, greenkhorn
from segadapt.pieces.terms import Term


class Compared(NamedTuple):
    """Pixels beside the prototypes.

    Attributes:
        rows: F [N, D].
        similar: s [N, C, K].
        learnt: [N] labels of classes that take part, else IGNORE.
        assigned: a [N].
    """

    rows: Tensor
    similar: Tensor
    learnt: Tensor
    assigned: Tensor


class MPCL(nn.Module):
    """Prototypes of all classes and the losses that they add to a host's.

    State: ``projection`` (trained); ``memory``, the prototypes and the banks.

    Args:
        config: see :class:`MPCLConfig`.
        classes: C.
        projection: leads the host's features to the space of the prototypes, see
            :func:`~segadapt.models.prototype_net.prototype_branch`.
        scales: resolutions of the host's network: 1 or 2.
    """

    def __init__(self, config: MPCLConfig, classes: int, projection: nn.Module, scales: int) -> None:
        super().__init__()
        self.config, self.classes = config, classes
        self.projection = projection
        both = {"both": ["low", "high"]}.get(config.resolutions, [config.resolutions])
        self.resolutions = ["low"] if scales == 1 else both
        self.memory = PrototypeMemory(config, classes, self.resolutions)
        self._seen: dict[str, Seen] = {}  # by resolution, from ``terms`` to ``follow``

    def terms(self, output: Output, mixed: Mixed) -> dict[str, Term]:
        """Return lambda1 L_con and lambda2 L_pce of each resolution; the pixels are noted for :meth:`follow`.

        Args:
            output: output of the host's network for the mixed images.
            mixed: labels, weights and origin of their pixels, at the resolution of the images.
        """
        terms: dict[str, Term] = {}
        for name, share, seen, pixels in self._views(output, mixed):
            contrast, classes, self._seen[name] = self._losses(seen, self.taking_part(pixels, seen.features.shape[-2:]))
            terms[f"prototype contrast/{name}"] = contrast * (self.config.contrast * share)
            terms[f"prototype classes/{name}"] = classes * (self.config.cross_entropy * share)
        return terms

    def source_terms(self, output: Output, labels: Tensor) -> dict[str, Term]:
        """Return lambda1 L_con of each resolution for source images (eq. 15).

        Args:
            output: output of the host's network for the images.
            labels: y_s [B, H, W] train ids and IGNORE.
        """
        known = torch.ones_like(labels, dtype=torch.bool)
        terms: dict[str, Term] = {}
        for name, share, seen, pixels in self._views(output, Mixed(labels, known.float(), known, known)):
            contrast, _, _ = self._losses(seen, on_grid(pixels, seen.features.shape[-2:]))
            terms[f"prototype contrast of source/{name}"] = contrast * (self.config.contrast * share)
        return terms

    def _views(self, output: Output, mixed: Mixed) -> Iterator[tuple[str, float, Output | Detail, Mixed]]:
        """Yield the resolutions that take part: name, share of the loss, what the network saw, and its pixels."""
        detail = output.detail
        share = detail.weight if detail is not None and len(self.resolutions) == 2 else None
        if "low" in self.resolutions:
            yield "low", 1.0 if share is None else 1 - share, output, mixed
        if "high" in self.resolutions and detail is not None:
            top, left, bottom, right = detail.box
            yield "high", 1.0 if share is None else share, detail, Mixed(*(x[:, top:bottom, left:right] for x in mixed))

    def _losses(self, seen: Output | Detail, pixels: Mixed) -> tuple[Term, Term, Seen]:
        """Compute L_con and L_pce of the pixels on one grid, and what they bring to the bank."""
        c = self.config
        labels, weights, _, sure = pixels
        rows, similar, learnt, assigned = self.compared(seen, labels.flatten())
        w = weights.flatten()
        contrast = prototype_contrast(similar, learnt, assigned, w, c.temperature, c.in_class)
        classes = prototype_cross_entropy(similar, learnt, w if c.weighted else torch.ones_like(w), c.temperature)
        if c.over == "all":
            count = contrast.count.new_full((), float(learnt.numel()))
            contrast, classes = replace(contrast, count=count), replace(classes, count=count)
        kept = torch.where(sure, labels, IGNORE) if c.confident else labels
        places = torch.where(learnt == IGNORE, NOWHERE, assigned)
        batch = len(labels)
        noted = Seen(rows.detach().view(batch, -1, c.channels), kept.view(batch, -1), places.view(batch, -1))
        return contrast, classes, noted

    def taking_part(self, mixed: Mixed, size: Sequence[int]) -> Mixed:
        """Return the pixels on the grid of the features, unlabelled where they take no part.

        Args:
            mixed: at the resolution of the images.
            size: (height, width) of the features.
        """
        small = on_grid(mixed, size)
        used = {"source": small.pasted, "target": ~small.pasted}.get(self.config.domains, torch.ones_like(small.pasted))
        return small._replace(labels=torch.where(used & (small.weights > 0), small.labels, IGNORE))

    def compared(self, seen: Output | Detail, labels: Tensor) -> Compared:
        """Compare pixels with all prototypes, and assign each to a prototype of its class.

        Args:
            seen: what the host's network saw, with features on a grid [h, w].
            labels: [B h w] train ids and IGNORE.
        """
        c, prototypes = self.config, self.memory.prototypes
        rows = embedded(self.projection, seen, c.unit)
        similar = similarity(rows, prototypes, c.floor, c.per_dimension)
        begun = torch.cat([prototypes.active, prototypes.active.new_zeros(1)])
        learnt = torch.where(begun[torch.where(labels == IGNORE, self.classes, labels)], labels, IGNORE)
        return Compared(rows, similar, learnt, self.assigned(similar.detach(), learnt))

    @torch.no_grad()
    def assigned(self, similar: Tensor, labels: Tensor) -> Tensor:
        """Return a [N] of pixels with ``labels`` [N]; classes with too few for equal shares take the nearest."""
        c = self.config
        valid = labels != IGNORE
        own = own_class(similar, torch.where(valid, labels, 0))
        if c.solver == "nearest":
            return own.argmax(1)
        solve = equipartition if c.solver == "sinkhorn" else greenkhorn
        plan = solve(own, torch.where(valid, labels, self.classes), self.classes, c.epsilon, c.iterations)
        members = torch.zeros(self.classes, device=own.device)
        members.index_add_(0, torch.where(valid, labels, 0), valid.float())
        few = (members < c.least_pixels * c.prototypes)[torch.where(valid, labels, 0)]
        return torch.where(few, own.argmax(1), plan.argmax(1))

    def follow(self, environment: Environment, batch_size: int) -> None:
        """Let the memory take in the pixels of the step, from all processes (eq. 20, 21).

        Args:
            environment: gathers the batch that is dealt out over processes.
            batch_size: samples per step, over all processes together.
        """
        seen, self._seen = self._seen, {}
        gathered = {
            name: Seen(*(environment.gather(x, batch_size).flatten(0, 1) for x in pixels))
            for name, pixels in seen.items()
        }
        self.memory.follow(gathered)

    def result(self, network: Segmenter) -> Segmenter:
        """Return the model that is kept: the host's network, or the prototypes around it."""
        return network if self.config.predict == "classifier" else self.around(network)

    def around(self, network: Segmenter) -> PrototypeNet:
        """Return the host's network with the prototypes as its classifier."""
        c = self.config
        around = PrototypeNet(
            network,
            c.kind,
            c.prototypes,
            c.channels,
            temperature=c.temperature,
            floor=c.floor,
            unit=c.unit,
            per_dimension=c.per_dimension,
            branch=c.branch,
        )
        around.load_prototypes(self.projection, self.memory.prototypes)
        return around.to(self.memory.means.device)


def on_grid(mixed: Mixed, size: Sequence[int]) -> Mixed:
    """Return pixels [B, H, W] on a grid ``size`` of features, each taken at the centre of its cell."""
    return Mixed(*(nearest_labels(x, size, at="centre") for x in mixed))
