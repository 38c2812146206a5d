"""CPSL: class-balanced pixel-level self-labelling rectifies soft pseudo labels.

Li, Li, He, Zhang: Class-Balanced Pixel-Level Self-Labeling for Domain Adaptive Semantic Segmentation,
CVPR 2022. The distillation rounds that follow are :mod:`segadapt.methods.distill`. |z| = 1 below.

    Input: source (x_s, y_s), target x_t; network G with features f, warmed up
    p0 = softmax(G(x_t)) for every target image, fixed from here on
    C_k = mean of z = f / |f| over the pixels of class k in all x_t;  C~ = C           (eq. 7)
    r_k = share of class k in argmax p0                                                (eq. 10)
    G~ = G (the teacher)
    repeat
        L_s = CE(G(x_s), y_s)                                                          (eq. 3)
        z of G~(whole target image);  P_SL = softmax_k(C~_k z / tau)                   (eq. 4)
        y = argmax_k P_SL,k p0_k                                                       (eq. 1)
        L_t = CE(G(weak), y), where at times a box of the source is pasted in (CutMix) (eq. 2)
        L_reg = KL(P_w || P_s) + KL(P_s || P_w);  P_w of G~, moved as the strong view is, P_s = G(strong)
                                                                                       (eq. 13)
        M pixels of each image, its classes in proportion                              (eq. 8, 9)
        Q = Sinkhorn of their C z / epsilon with those of the bank; class masses r     (eq. 5, 6, 12)
        L_SL = -1/M sum_m sum_k Q_mk log softmax_k(C_k z_m / tau)   gradient to C alone
        step on L_s + L_t + lambda1 L_SL + lambda2 L_reg                               (eq. 14)
        G~ and C~ follow;  the bank takes the pixels;  r = a r + (1 - a) shares of y   (eq. 11)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from segadapt.data.augment import Window
from segadapt.data.loader import Samples
from segadapt.data.strong import StrongAugmentation
from segadapt.errors import RequestError
from segadapt.labels import IGNORE, LabelSpace
from segadapt.methods.environment import Environment
from segadapt.methods.method import Terms, Trained
from segadapt.methods.prototyped import labelled
from segadapt.methods.rectified import Rectified, RectifiedConfig, seen_classes
from segadapt.methods.stage_config import OptimiserConfig
from segadapt.models.segmenter import Output, Segmenter
from segadapt.pieces.cutmix import half_box, in_box, paste, paste_labels
from segadapt.pieces.denoising import symmetric_cross_entropy
from segadapt.pieces.losses import log_probabilities, soft_negative_log_likelihood, upsample
from segadapt.pieces.memory_bank import MemoryBank
from segadapt.pieces.optimal_transport import class_balanced_sample, class_shares, sinkhorn_with_bank
from segadapt.pieces.prototypes import class_sums, cosines
from segadapt.pieces.pseudo_labels import probabilities_in_window
from segadapt.pieces.structure import prototypical_consistency, symmetric_divergence
from segadapt.pieces.teacher import follow, frozen_copy
from segadapt.pieces.terms import Term
from segadapt.pieces.windows import inside

_LEAST_SHARE = 1e-6
"""Of a class that the model never predicts: with none at all it could never be assigned."""


class CPSLConfig(RectifiedConfig):
    """Settings of CPSL; defaults are those of the paper, where it gives them.

    Attributes:
        labels: ``stored`` (p0), or ``none``: the assignment alone makes the labels (table 3, w/o ST).
        weights: ``assignment`` (P_SL), or ``none`` (w/o SL, together with ``self_labelling: 0``).
        self_labelling: lambda1.
        consistency: lambda2.
        consistency_of: ``prediction`` (eq. 13), or ``assignment``: the authors' code compares
            assignments to C~, one way, as ProDA does.
        temperature: tau.
        epsilon, iterations: of the Sinkhorn algorithm.
        samples: M, pixels of each image.
        sampling: ``balanced`` (eq. 9), or ``uniform`` as in the authors' code.
        bank: features that are remembered.
        partition: class masses r: ``aligned`` (eq. 11), ``fixed`` as in the authors' code, or
            ``equal`` (w/o CB).
        share_momentum: a; the paper does not give it.
        output_term: also assign by the teacher's class scores, as the authors' code does.
        head_initial: C from ``prototypes`` (eq. 7), or ``random`` (w/o Init).
        head_optimiser: of C.
        cutmix: probability that a box of half the crop is pasted from the source.
    """

    method: str = "cpsl"
    optimiser: OptimiserConfig = OptimiserConfig(lr=1e-4, head_factor=5.0, weight_decay=2e-4)
    alpha: float = Field(default=1.0, ge=0)
    beta: float = Field(default=0.0, ge=0)
    strong: StrongAugmentation = StrongAugmentation(blur=1.0, jitter=0.4)
    labels: Literal["stored", "none"] = "stored"
    weights: Literal["assignment", "none"] = "assignment"
    self_labelling: float = Field(default=0.1, ge=0)
    consistency: float = Field(default=5.0, ge=0)
    consistency_of: Literal["prediction", "assignment"] = "prediction"
    temperature: float = Field(default=0.08, gt=0)
    epsilon: float = Field(default=0.05, gt=0)
    iterations: int = Field(default=3, ge=1)
    samples: int = Field(default=512, ge=1)
    sampling: Literal["balanced", "uniform"] = "balanced"
    bank: int = Field(default=65_536, ge=0)
    partition: Literal["aligned", "fixed", "equal"] = "aligned"
    share_momentum: float = Field(default=0.999, ge=0, le=1)
    output_term: bool = False
    head_initial: Literal["prototypes", "random"] = "prototypes"
    head_optimiser: OptimiserConfig = OptimiserConfig(lr=5e-4, weight_decay=2e-4)
    cutmix: float = Field(default=0.5, ge=0, le=1)

    @model_validator(mode="after")
    def _something_makes_labels(self) -> CPSLConfig:
        if self.labels == "none" and self.weights == "none":
            raise ValueError("labels and weights are both 'none': nothing is left to make pseudo labels of")
        return self


class Head(nn.Module):
    """The self-labelling head: one vector a class, compared by cosine."""

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(F.normalize(torch.randn(classes, channels), dim=1))

    def forward(self, z: Tensor) -> Tensor:
        """Scores [..., K] of features [..., D] of length one."""
        with torch.autocast(z.device.type, enabled=False):
            return z.float() @ F.normalize(self.weight, dim=1).T


class Sampled(NamedTuple):
    """The pixels of a step that are assigned.

    Attributes:
        features: [B, M, D], z.
        outputs: [B, M, K], class scores of the teacher, of length one.
        shares: [B, K] of the classes in each image's labels.
    """

    features: Tensor
    outputs: Tensor
    shares: Tensor


class CPSL(Rectified):
    """Self-labelling by optimal transport rectifies the pseudo labels.

    State: ``head`` C and ``slow_head`` C~, ``bank``, ``shares`` r [K], the ``teacher`` G~.
    """

    Config = CPSLConfig
    config: CPSLConfig
    shares: Tensor

    def __init__(self, config: CPSLConfig, model: Segmenter, space: LabelSpace):
        super().__init__(config, model, space)
        classes, channels = len(space), model.feature_channels
        self.head = Head(classes, channels)
        self.slow_head = frozen_copy(self.head)
        self.bank = MemoryBank(config.bank, channels + classes)
        self.register_buffer("shares", torch.full((classes,), 1 / classes))
        self._sampled: Sampled | None = None

    @property
    def wants_strong(self) -> bool:
        """Only the consistency looks at strong views."""
        return self.config.consistency > 0

    def trained(self) -> dict[str, Trained]:
        """The network and the self-labelling head."""
        return {**super().trained(), "head": Trained(self.head, self.config.head_optimiser)}

    # ---- before training: p0, C and r ----

    def prepare(self, round_index: int, environment: Environment) -> None:
        """Soft pseudo labels of all target images, the head and the class shares to begin with."""
        sums, counts = torch.zeros_like(self.head.weight), torch.zeros_like(self.shares)
        for out in self.label_target(environment):
            z = F.normalize(out.features.float(), dim=1)
            image_sums, image_counts = class_sums(z, seen_classes(out), len(self.space))
            sums += image_sums.sum(0)
            counts += image_counts.sum(0)
        environment.sum([sums, counts])
        if self.config.head_initial == "prototypes":
            found = (counts > 0)[:, None]  # a class that the model never predicts keeps its random vector
            self.head.weight.copy_(torch.where(found, F.normalize(sums, dim=1), self.head.weight))
        self.slow_head.weight.copy_(self.head.weight)
        if self.config.partition != "equal":
            shares = (counts / counts.sum()).clamp(min=_LEAST_SHARE)
            self.shares.copy_(shares / shares.sum())

    # ---- training ----

    def step(self, batch: Mapping[str, Samples]) -> Iterator[Terms]:
        """The lines of the box."""
        c, s, t = self.config, batch["source"], batch["target"]
        yield self.source_terms(s)

        size = self.target_size(t)
        shown = self.shown(t, size)
        with torch.no_grad():
            assert self.teacher is not None
            seen = self.teacher(t.whole)
            assigned = (cosines(self.in_crops(seen.features, t, size), self.slow_head.weight) / c.temperature).softmax(
                1
            )
            stored = self.stored(t, size)
            fixed = stored if c.labels == "stored" else torch.full_like(stored, 1 / len(self.space))
            labels = self.rectified_labels(fixed, assigned if c.weights == "assignment" else None, shown, stored)
            images, labels, pasted = self._mixed(s, t, labels)
        output = self.model(images)
        log_p = log_probabilities(output.logits, size, self.align_corners)
        terms = symmetric_cross_entropy(log_p, labels, c.alpha, c.beta)
        pixels = labelled(t, labels)
        yield {**terms, **self.prototype_terms(output, pixels._replace(pasted=pixels.pasted | pasted), "target")}
        del output, log_p, terms

        if c.consistency:
            yield {"consistency": self._consistency(t, seen, assigned, shown).times(c.consistency)}

        self._sampled = sampled = self._sample(t, seen)
        if c.self_labelling:
            yield {"self-labelling": self._self_labelling(sampled).times(c.self_labelling)}

    def _log_assignment(self, features: Tensor) -> Tensor:
        """log P_SL [B, K, h, w] of features [B, D, h, w] (eq. 4)."""
        return (cosines(features, self.slow_head.weight) / self.config.temperature).log_softmax(1)

    def _mixed(self, s: Samples, t: Samples, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Weak views and their labels, with the same box [H, W] of the source pasted into all of them at times."""
        size = t.images.shape[-2:]
        if torch.rand(()) >= self.config.cutmix:
            return t.images, labels, torch.zeros(size, dtype=torch.bool, device=labels.device)
        if s.images.shape != t.images.shape:
            raise RequestError(
                f"stage '{self.config.name}': cutmix pastes source crops into target crops, which then need one size; "
                "set augmentation.crop, or cutmix=0"
            )
        box = half_box(torch.rand(3)).to(t.images.device)
        return paste(t.images, s.images, box), paste_labels(labels, s.labels, box, len(self.space)), in_box(box, *size)

    def _consistency(self, t: Samples, seen: Output, assigned: Tensor, shown: Tensor) -> Term:
        """Weak view of the teacher against strong view of the network (eq. 13)."""
        c, size = self.config, shown.shape[-2:]
        assert t.strong is not None
        out = self.model(t.strong.images)
        if c.consistency_of == "assignment":
            target, valid = self.as_strong(assigned, shown, t)
            similar = cosines(upsample(out.features, size, self.align_corners), self.slow_head.weight)
            return prototypical_consistency(-similar, target, valid, 1 / c.temperature)
        weak = log_probabilities(self.in_crops(seen.logits, t, (size[0], size[1])))
        weak, valid = self.as_strong(weak, shown, t)
        return symmetric_divergence(weak, log_probabilities(out.logits, size, self.align_corners), valid)

    @torch.no_grad()
    def _sample(self, t: Samples, seen: Output) -> Sampled:
        """M pixels of each whole image, in proportion to its rectified labels (eq. 8, 9)."""
        c = self.config
        assert t.whole is not None
        assert t.scores is not None
        size = seen.features.shape[-2:]
        everything = [Window(0, 0, t.whole.shape[-2], t.whole.shape[-1])] * len(t.whole)
        logits = upsample(seen.logits, size, self.align_corners)  # a network's features may be coarser
        log_p = torch.zeros_like(logits)
        if c.labels == "stored":
            p0 = probabilities_in_window(t.scores, everything, t.sizes, size, self.align_corners)
            log_p += p0.clamp(min=torch.finfo(p0.dtype).tiny).log()
        if c.weights == "assignment":
            log_p += self._log_assignment(seen.features)
        labels = log_p.max(1).indices.masked_fill(~inside(everything, t.sizes, size, log_p.device), IGNORE).flatten(1)
        count = min(c.samples, labels.shape[1])
        chosen = class_balanced_sample(labels, count, len(self.space), c.sampling == "balanced")[:, None]

        def at(maps: Tensor) -> Tensor:
            flat = maps.float().flatten(2)
            picked = flat.gather(2, chosen.expand(-1, flat.shape[1], -1))
            return F.normalize(picked.transpose(1, 2), dim=2)

        return Sampled(at(seen.features), at(logits), class_shares(labels, len(self.space)))

    def _self_labelling(self, sampled: Sampled) -> Term:
        """Cross entropy of the head's classes with their optimal assignment (eq. 5)."""
        scores = self.head(sampled.features)
        log_p = (scores / self.config.temperature).log_softmax(2).transpose(1, 2)
        with torch.no_grad():
            channels = sampled.features.shape[2]
            features, outputs = self.bank.rows[:, :channels], self.bank.rows[:, channels:]
            targets = [self._assigned(scores, self.head(features))]
            if self.config.output_term:
                targets.append(self._assigned(sampled.outputs, outputs))
        terms = [soft_negative_log_likelihood(log_p, q.transpose(1, 2)) for q in targets]
        return Term(torch.stack([term.total for term in terms]).sum(), terms[0].count)

    def _assigned(self, scores: Tensor, bank: Tensor) -> Tensor:
        """Q [B, M, K] of an image's pixels, each image by itself with the whole bank (eq. 6)."""
        c = self.config
        return sinkhorn_with_bank(scores, bank, self.bank.valid, self.shares, c.epsilon, c.iterations)

    def after_step(self, environment: Environment) -> None:
        """Teacher and slow head follow; the bank and the class shares take in what the step saw."""
        super().after_step(environment)
        c, sampled = self.config, self._sampled
        follow(self.slow_head, self.head, c.teacher_momentum)
        assert sampled is not None
        rows = environment.gather(torch.cat([sampled.features, sampled.outputs], 2), c.batch_size)
        if c.bank:
            self.bank.push(rows.flatten(0, 1))
        if c.partition == "aligned":
            for shares in environment.gather(sampled.shares, c.batch_size):
                self.shares.lerp_(shares, 1 - c.share_momentum)
