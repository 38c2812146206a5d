"""CPSL: class-balanced pixel-level self-labelling rectifies soft pseudo labels.

Li, Li, He, Zhang: Class-Balanced Pixel-Level Self-Labeling for Domain Adaptive Semantic Segmentation,
CVPR 2022. The distillation rounds that follow are :mod:`segadapt.methods.distill`; settings are in
:mod:`segadapt.methods.cpsl_config`. |z| = 1 below.

    Input: source (x_s, y_s), target x_t; network G with features f, warmed up
    p0 = softmax(G(x_t)) for every target image, fixed from here on
    C_k = mean of z = f / |f| over the pixels of class k in all x_t;  C~ = C           (eq. 7)
    r_k = share of class k in argmax p0, or in the rectified labels                    (eq. 10)
    G~ = G (the teacher)
    repeat
        L_s = CE(G(x_s), y_s)                                                          (eq. 3)
        z of G~(whole target image);  P_SL = softmax_k(C~_k z / tau)                   (eq. 4)
        y = argmax_k P_SL,k p0_k                                                       (eq. 1)
        L_t = CE(G(weak), y), where at times a box of the source is pasted in (CutMix) (eq. 2)
        L_reg = KL(P_w || P_s) + KL(P_s || P_w);  P_w of G~, moved as the strong view is, P_s = G(strong)
                                                                                       (eq. 13)
        M pixels of each image, its classes in proportion                              (eq. 8, 9)
        Q = Sinkhorn of their C z / epsilon together with the bank's; class masses r   (eq. 5, 6, 12)
        L_SL = -1/M sum_m sum_k Q_mk log softmax_k(C_k z_m / tau)   gradient to C alone
        step on L_s + L_t + lambda1 L_SL + lambda2 L_reg                               (eq. 14)
        G~ and C~ follow;  the bank takes the pixels;  r = a r + (1 - a) shares of y   (eq. 11)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from segadapt.data.loader import Samples, Stream
from segadapt.labels import IGNORE, LabelSpace
from segadapt.methods.cpsl_config import CPSLConfig
from segadapt.methods.environment import Environment
from segadapt.methods.method import Method, Terms, Trained
from segadapt.methods.rectified import (
    as_strong,
    in_crops,
    label_target,
    rectified_labels,
    seen_classes,
    set_teacher_mode,
    slow_teacher,
    soft_labelled_streams,
    source_pasted,
    stored_labels,
    stored_whole,
    target_places,
)
from segadapt.methods.supervision import source_terms
from segadapt.models.segmenter import Output, Segmenter
from segadapt.pieces.denoising import symmetric_cross_entropy
from segadapt.pieces.losses import log_probabilities
from segadapt.pieces.memory_bank import MemoryBank
from segadapt.pieces.optimal_transport import class_balanced_sample, class_masses, class_shares, sinkhorn_with_bank
from segadapt.pieces.prototypes import class_sums, cosines
from segadapt.pieces.resizing import upsample
from segadapt.pieces.self_labelling import CosineHead, Sampled, self_labelling, unit_rows
from segadapt.pieces.structure import prototypical_consistency, symmetric_divergence
from segadapt.pieces.teacher import follow, frozen_copy
from segadapt.pieces.terms import Term


class CPSL(Method):
    """Self-labelling by optimal transport rectifies the pseudo labels.

    State: ``head`` C and ``slow_head`` C~, ``bank``, ``shares`` r [K], the ``teacher`` G~.
    """

    Config = CPSLConfig
    config: CPSLConfig
    shares: Tensor

    def __init__(self, config: CPSLConfig, model: Segmenter, space: LabelSpace):
        super().__init__(config, model, space)
        classes, channels = len(space), model.feature_channels
        self.teacher = slow_teacher(model, config.norm)  # G~ = G
        self.head = CosineHead(classes, channels)
        self.slow_head = frozen_copy(self.head)
        self.bank = MemoryBank(config.bank, channels + classes)
        self.register_buffer("shares", torch.full((classes,), 1 / classes))
        self._sampled: Sampled | None = None  # from ``step`` to ``after_step``

    def train(self, mode: bool = True) -> CPSL:
        """Set the training mode, for the teacher too where ``teacher_mode`` says so."""
        super().train(mode)
        set_teacher_mode(self.teacher, mode and self.config.teacher_mode == "train")
        return self

    def trained(self) -> dict[str, Trained]:
        """Return the network and the self-labelling head."""
        return {**super().trained(), "head": Trained(self.head, self.config.head_optimiser)}

    def prepare(self, round_index: int, environment: Environment) -> None:
        """Store p0 of all target images; compute the first C (eq. 7) and r (eq. 10)."""
        sums, counts = torch.zeros_like(self.head.weight), torch.zeros_like(self.shares)
        for out in label_target(self.model, environment, self.align_corners):
            z = F.normalize(out.features.float(), dim=1)
            image_sums, image_counts = class_sums(z, seen_classes(out), len(self.space))
            sums += image_sums.sum(0)
            counts += image_counts.sum(0)
        environment.sum([sums, counts])
        if self.config.head_initial == "prototypes":
            predicted = (counts > 0)[:, None]  # a class that the model never predicts keeps its random vector
            self.head.weight.copy_(torch.where(predicted, F.normalize(sums, dim=1), self.head.weight))
        self.slow_head.weight.copy_(self.head.weight)
        if self.config.partition != "equal":
            rectified = self.config.shares_from == "rectified"
            self.shares.copy_(class_masses(self._rectified_counts(environment) if rectified else counts))
        environment.report({"masses": self.shares})

    def _rectified_counts(self, environment: Environment) -> Tensor:
        """Count the pixels [K] of each class in the labels of all target images as the first C rectifies them."""
        counts = torch.zeros_like(self.shares)
        for _, image in environment.target_images():
            out = self.model(image)
            p0 = log_probabilities(out.logits, out.features.shape[-2:], self.align_corners)
            counts += F.one_hot(self._labels(out.features, p0), len(counts)).sum((0, 1, 2))
        environment.sum([counts])
        return counts

    def streams(self, round_index: int, environment: Environment) -> dict[str, Stream]:
        """Return labelled source crops; target crops with p0, whole images, and strong views for L_reg."""
        c = self.config
        return soft_labelled_streams(c, round_index, environment, strong=c.consistency > 0, whole=True)

    def step(self, batch: Mapping[str, Samples]) -> Iterator[Terms]:
        """Yield the lines of the box, one backward pass per forward pass of the student, and one for C."""
        c, s, t = self.config, batch.get("source"), batch["target"]
        yield from source_terms(self.model, s, self.align_corners)  # L_s

        size, places = target_places(t, c.stride)
        with torch.no_grad():
            seen = self.teacher(t.whole)
            assigned = self._similar(in_crops(seen.features, t, size, self.align_corners)).softmax(1)  # P_SL
            stored = stored_labels(t, size, self.align_corners)
            fixed = stored if c.labels == "stored" else torch.full_like(stored, 1 / len(self.space))
            weights = assigned if c.weights == "assignment" else None
            y, online = rectified_labels(fixed, weights, places, stored, c)
            self.online = online._replace(masses={"r": self.shares})
            images, y = source_pasted(s, t, y, probability=c.cutmix, classes=len(self.space), stage=c.name)
        log_p = log_probabilities(self.model(images).logits, size, self.align_corners)
        yield symmetric_cross_entropy(log_p, y, c.alpha, c.beta)
        del log_p

        if c.consistency:
            weight = c.per_class(c.consistency, len(self.space))
            yield {"consistency": self._consistency(t, seen, assigned, places) * weight}

        self._sampled = sampled = self._sample(t, seen)
        if c.self_labelling:
            yield {"self-labelling": self._self_labelling(sampled) * c.self_labelling}

    def after_step(self, environment: Environment) -> None:
        """Let G~ and C~ follow; the bank and the class masses take in the pixels of the step (eq. 11)."""
        c, sampled = self.config, self._sampled
        assert sampled is not None
        follow(self.teacher, self.model, c.teacher_momentum)
        follow(self.slow_head, self.head, c.teacher_momentum)
        rows = environment.gather(torch.cat([sampled.features, sampled.outputs], 2), c.batch_size)
        if c.bank:
            self.bank.push(rows.flatten(0, 1))
        if c.partition == "aligned":
            for shares in environment.gather(sampled.shares, c.batch_size):
                self.shares.lerp_(shares, 1 - c.share_momentum)

    def _similar(self, features: Tensor) -> Tensor:
        """Return C~_k z / tau [B, K, h, w] of features [B, D, h, w]; its softmax is P_SL (eq. 4)."""
        return cosines(features, self.slow_head.weight) / self.config.temperature

    def _consistency(self, t: Samples, seen: Output, assigned: Tensor, places: Tensor) -> Term:
        """Return L_reg: weak view of the teacher against strong view of the network (eq. 13)."""
        c, size = self.config, (places.shape[-2], places.shape[-1])
        assert t.strong is not None
        out = self.model(t.strong.images)
        if c.consistency_of == "assignment":
            target, valid = as_strong(assigned, places, t)
            similar = cosines(upsample(out.features, size, self.align_corners), self.slow_head.weight)
            return prototypical_consistency(-similar, target, valid, 1 / c.temperature)
        weak = log_probabilities(in_crops(seen.logits, t, size, self.align_corners))
        weak, valid = as_strong(weak, places, t)
        return symmetric_divergence(weak, log_probabilities(out.logits, size, self.align_corners), valid)

    def _labels(self, features: Tensor, log_p0: Tensor) -> Tensor:
        """Return y [B, h, w] of whole images (eq. 1), of features [B, D, h, w] and log p0 [B, K, h, w]."""
        log_p = log_p0 if self.config.labels == "stored" else torch.zeros_like(log_p0)
        if self.config.weights == "assignment":
            log_p = log_p + self._similar(features).log_softmax(1)
        return log_p.argmax(1)

    @torch.no_grad()
    def _sample(self, t: Samples, seen: Output) -> Sampled:
        """Draw M pixels of each whole image, in proportion to its rectified labels (eq. 8, 9)."""
        c = self.config
        size, classes = seen.features.shape[-2:], len(self.space)
        logits = upsample(seen.logits, size, self.align_corners)  # a network's features may be coarser
        stored, places = stored_whole(t, size, self.align_corners)
        log_p0 = stored.clamp(min=torch.finfo(stored.dtype).tiny).log()
        y = self._labels(seen.features, log_p0).masked_fill(~places, IGNORE).flatten(1)
        chosen = class_balanced_sample(y, min(c.samples, y.shape[1]), classes, c.sampling == "balanced")
        return Sampled(unit_rows(seen.features, chosen), unit_rows(logits, chosen), class_shares(y, classes))

    def _self_labelling(self, sampled: Sampled) -> Term:
        """Return L_SL: cross entropy of the head's classes with their optimal assignment (eq. 5)."""
        scores = self.head(sampled.features)  # C z
        with torch.no_grad():
            channels = sampled.features.shape[2]
            features, outputs = self.bank.rows[:, :channels], self.bank.rows[:, channels:]
            targets = [self._assigned(scores, self.head(features))]
            if self.config.output_term:
                targets.append(self._assigned(sampled.outputs, outputs))
        return self_labelling(scores, targets, self.config.temperature)

    def _assigned(self, scores: Tensor, bank: Tensor) -> Tensor:
        """Return Q [B, M, K] of the sampled pixels, each image by itself with the whole bank (eq. 6)."""
        c = self.config
        return sinkhorn_with_bank(scores, bank, self.bank.valid, self.shares, c.epsilon, c.iterations)
