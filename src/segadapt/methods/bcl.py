"""BCL: bi-directional contrast of pixels and prototypes, with dynamic, calibrated, hybrid pseudo labels.

Lee, Oh, Hwang, Ham: Bi-directional Contrastive Learning for Domain Adaptive Semantic Segmentation,
ECCV 2022. A source image is paired with a target image; f are their features, s is the cosine. Settings are in
:mod:`segadapt.methods.bcl_config`.

    Input: source (x_s, y_s), target x_t; network G with features f, trained on the source
    for round r = 0 .. R-1
        y_F = class-balanced pseudo labels of all target images                 (static: CBST)
        for pairs (x_s, x_t), images with rare classes more often
            rho_S(c) = mean of f_S over the pixels of class c                   (eq. 1)
            rho_ST(c) = rho_S(c) + mu_T(c) - mu_S(c)                            (eq. 6, 7: calibrated)
            y_D = argmax_c s(f_T, rho_ST(c)) where its softmax_c(s / tau) > T   (eq. 8, 9: dynamic)
            y_T = y_D, else y_F, else ignored                                   (eq. 10: hybrid)
            rho_T(c) = mean of f_T over the pixels of class c in y_T            (eq. 1)
            FC = CE of softmax_c(s(f_T, rho_S(c)) / tau) and y_T                (eq. 2)
            BC = CE of softmax_c(s(f_S, rho_T(c)) / tau) and y_s                (eq. 3)
            CE_s, CE_t = CE of G(x_s) and y_s, of G(x_t) and y_F; H_s, H_t = entropies of G(x_s), G(x_t)
            L = a_s CE_s + a_t CE_t + e_s H_s + e_t H_t + b_f FC + b_b BC       (eq. 11, 12)
            step on L
            mu_S, mu_T follow rho_S, rho_T                                      (eq. 4, 5)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from segadapt.data.loader import Part, Samples, Stream
from segadapt.labels import IGNORE, LabelSpace
from segadapt.methods.bcl_config import BCLConfig
from segadapt.methods.environment import Environment
from segadapt.methods.method import Method, OnlineLabels, Terms, labelled_part, paired_streams
from segadapt.methods.ranking import rank_target
from segadapt.models.segmenter import Output, Segmenter
from segadapt.pieces.contrast import pixel_prototype_contrast, transferred_labels
from segadapt.pieces.losses import cross_entropy_and_entropy, nearest_labels
from segadapt.pieces.prototypes import ClassMeans, class_means, seen_average
from segadapt.pieces.pseudo_labels import confident_labels, select
from segadapt.pieces.sampling import rare_class_weights
from segadapt.pieces.terms import Term
from segadapt.pieces.thresholds import ClassThresholds
from segadapt.pieces.windows import inside

NAMES = {"plain": "dynamic, not calibrated", "calibrated": "dynamic", "running": "dynamic, running"}
"""The dynamic labels in the record, by the setting that asks for them."""


class BCL(Method):
    """Class-wise alignment by contrast across domains.

    State: ``mu`` [2, K, D], running prototypes of source and target, and ``seen`` [2, K], which
    classes have one; ``thresholds`` [K] of the static labels.
    """

    Config = BCLConfig
    config: BCLConfig
    mu: Tensor
    seen: Tensor
    thresholds: Tensor

    def __init__(self, config: BCLConfig, model: Segmenter, space: LabelSpace):
        super().__init__(config, model, space)
        channels = model.feature_channels if config.features == "network" else len(space)
        self.register_buffer("mu", torch.zeros(2, len(space), channels))
        self.register_buffer("seen", torch.zeros(2, len(space), dtype=torch.bool))
        self.register_buffer("thresholds", torch.ones(len(space)))
        self._rho: tuple[ClassMeans, ClassMeans] | None = None  # what mu follows: from ``step`` to ``after_step``

    @property
    def rounds(self) -> int:
        """R, the number of rounds."""
        return self.config.rounds

    def prepare(self, round_index: int, environment: Environment) -> None:
        """Store y_F of all target images, in constant memory."""
        c = self.config
        predictions = environment.predict_target(self.model, c.inference)
        ranking = ClassThresholds(len(self.space), c.portion).to(self.thresholds.device)
        rank_target(ranking, predictions, environment)
        self.thresholds.copy_(ranking.thresholds())
        environment.report({"portion": c.portion, "thresholds": self.thresholds, "predicted": ranking.counts})
        for seen in predictions:
            p = seen.probabilities[None]
            labels = (
                select(p, self.thresholds) if c.static == "cbst" else confident_labels(p, self.thresholds, c.portion)
            )
            environment.keep_label(seen.index, labels[0], p[0].amax(0))

    def streams(self, round_index: int, environment: Environment) -> dict[str, Stream]:
        """Return labelled source crops, rare classes more often; target crops with their static labels."""
        c = self.config
        weights = None
        if c.rare_sampling is not None:
            weights = rare_class_weights(environment.source_shares().double().numpy(), c.rare_sampling)
        source = labelled_part(environment.source, 0, environment.source_size, c, weights=weights)
        target = Part(environment.pseudo_labelled(), 1, environment.target_size, c.augmentation)
        return paired_streams(source, target, c, round_index)

    def step(self, batch: Mapping[str, Samples]) -> Iterator[Terms]:
        """Yield the lines of the box; sample i of the source is paired with sample i of the target."""
        c, s, t = self.config, batch["source"], batch["target"]
        source, target = self.model(s.images), self.model(t.images)
        f_s, f_t = (out.features if c.features == "network" else out.logits for out in (source, target))
        y_s = nearest_labels(s.labels, f_s.shape[-2:])
        rho_s = self._prototypes(s, f_s, y_s)
        y_f, y_d, y_t = self._labels(t, f_t, rho_s)
        rho_t = self._prototypes(t, f_t, y_t)
        self._rho = (rho_s, rho_t if c.bias_from == "hybrid" else self._prototypes(t, f_t.detach(), y_f))

        ce_s, h_s = self._fitting(s, source, s.labels)
        ce_t, h_t = self._fitting(t, target, self._learnt(t, y_d))
        weighted = {
            "source": (ce_s, c.source_weight),
            "source entropy": (h_s, c.source_entropy),
            "target": (ce_t, c.target_weight),
            "target entropy": (h_t, c.target_entropy),
        }
        if c.forward_contrast:
            fc = pixel_prototype_contrast(f_t, y_t, rho_s, c.temperature)
            weighted["forward contrast"] = (fc, c.forward_contrast)
        if c.backward_contrast:
            bc = pixel_prototype_contrast(f_s, y_s, rho_t, c.temperature)
            weighted["backward contrast"] = (bc, c.backward_contrast)
        yield {name: term * weight for name, (term, weight) in weighted.items() if weight}

    def _fitting(self, x: Samples, out: Output, labels: Tensor) -> tuple[Term, Term]:
        """Return cross entropy and entropy of crops at their resolution (eq. 11); padding has neither."""
        size = x.labels.shape[-2:]
        shown = inside(x.windows, x.sizes, size, labels.device)
        return cross_entropy_and_entropy(out.logits, labels, shown, size, self.align_corners)

    def _prototypes(self, x: Samples, features: Tensor, labels: Tensor) -> ClassMeans:
        """Return rho of each image (eq. 1) for classes with enough cells; padding does not count."""
        cells = inside(x.windows, x.sizes, features.shape[-2:], features.device).sum((1, 2))
        return class_means(features, labels, len(self.space), (self.config.least * cells).clamp(min=1))

    @torch.no_grad()
    def _labels(self, t: Samples, features: Tensor, rho_s: ClassMeans) -> tuple[Tensor, Tensor, Tensor]:
        """Return y_F, y_D and y_T [B, h, w] at the resolution of the features (eq. 6 to 10); noted for the record."""
        c, pixels = self.config, features.detach()
        static = nearest_labels(t.labels, features.shape[-2:])
        shown = inside(t.windows, t.sizes, features.shape[-2:], features.device)
        bias = torch.where(self.seen.all(0)[:, None], self.mu[1] - self.mu[0], 0.0)
        prototypes = {
            "plain": rho_s,
            "calibrated": ClassMeans(rho_s.vectors + bias, rho_s.present),
            "running": ClassMeans(self.mu[0].expand_as(rho_s.vectors), self.seen[0].expand_as(rho_s.present)),
        }

        def transferred(by: str) -> Tensor:
            tau = c.temperature if c.confidence == "softmax" else None
            return transferred_labels(pixels, prototypes[by], shown, c.threshold, tau)

        dynamic = torch.full_like(static, IGNORE) if c.dynamic == "none" else transferred(c.dynamic)
        hybrid = torch.where(dynamic != IGNORE, dynamic, static)
        used = {NAMES[c.dynamic]: dynamic} if c.dynamic in NAMES else {}
        others = [by for by in ("plain", "calibrated") if by != c.dynamic]  # table 4 has both
        self.online = OnlineLabels(
            "target",
            {"static": static, **used, "hybrid": hybrid},
            lambda: {NAMES[by]: transferred(by) for by in others},
        )
        return static, dynamic, hybrid

    def _learnt(self, t: Samples, dynamic: Tensor) -> Tensor:
        """Return the labels of CE_t at the resolution of the crop; static ones are finer than dynamic ones."""
        if self.config.target_labels == "static":
            return t.labels
        dynamic = nearest_labels(dynamic, t.labels.shape[-2:])
        return torch.where(dynamic != IGNORE, dynamic, t.labels)

    def after_step(self, environment: Environment) -> None:
        """Let mu_S and mu_T follow the prototypes of the step (eq. 4, 5)."""
        assert self._rho is not None
        c = self.config
        for domain, rho in enumerate(self._rho):
            vectors, present = (environment.gather(part.detach().float(), c.batch_size) for part in rho)
            means = ClassMeans(vectors, present > 0)
            mu, seen = seen_average(self.mu[domain], self.seen[domain], means, 1 - c.prototype_momentum)
            self.mu[domain], self.seen[domain] = mu, seen
