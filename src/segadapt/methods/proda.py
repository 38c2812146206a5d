"""ProDA, first stage: soft pseudo labels denoised online by prototypes, and target structure learning.

Zhang, Zhang, Zhang, Chen, Wang, Wen: Prototypical Pseudo Label Denoising and Target Structure Learning
for Domain Adaptive Semantic Segmentation, CVPR 2021. Later stages are :mod:`segadapt.methods.distill`.
All maps of the target are at a quarter of the crop's resolution.

    Input: source (x_s, y_s), target x_t; network G with features f, warmed up
    p0 = softmax(G(x_t)) for every target image, fixed from here on                [K, H/8, W/8]
    e_k = mean of f over the pixels of class k in x_t                               (eq. 5)
    G~ = G (the teacher)
    repeat
        L_s = CE(G(x_s), y_s)
        f~ = G~(whole target image), seen in the crop;  w = softmax_k(-|f~ - e_k| T)  (eq. 4)
        y = argmax_k w_k p0_k                                                         (eq. 3)
        L_t = alpha CE(G(weak), y) + beta RCE(G(weak), y)                             (eq. 8)
        L_reg = -mean_k log G(weak)_k                                                 (eq. 10)
        z = softmax_k(-|f~ - e_k| T) moved as the strong view is; z' the same of f(strong)
        L_kl = KL(z || z')                                                            (eq. 9)
        step on L_s + L_t + gamma1 L_kl + gamma2 L_reg                                (eq. 11)
        G~ = m G~ + (1 - m) G
        e_k = lambda e_k + (1 - lambda) mean of f~ over the pixels that G~ gives class k   (eq. 6)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from segadapt.data.loader import Samples
from segadapt.data.resize import Size
from segadapt.labels import LabelSpace
from segadapt.methods.environment import Environment
from segadapt.methods.method import Terms
from segadapt.methods.prototyped import labelled
from segadapt.methods.rectified import Rectified, RectifiedConfig, seen_classes
from segadapt.methods.stage_config import OptimiserConfig
from segadapt.models.segmenter import Segmenter
from segadapt.pieces.denoising import symmetric_cross_entropy
from segadapt.pieces.losses import divergence_from_uniform, log_probabilities, upsample
from segadapt.pieces.prototypes import ClassMeans, assignment, class_means, distances, moving_average, running_mean
from segadapt.pieces.structure import prototypical_consistency


class ProDAConfig(RectifiedConfig):
    """Settings of ProDA's first stage; defaults are those of the GTA5 experiments.

    ``threshold`` is that of the paper's table 4, ``strong`` of table 7, ``alpha`` and ``beta`` of table 9.

    Attributes:
        labels: what is reweighted: ``stored`` (p0, the paper's) or ``predicted`` (the network's own
            prediction of the moment; degenerates, figure 4).
        weights: ``prototypes`` (the paper's), ``prediction``, or ``none`` (no denoising).
        temperature: T; the paper's tau is its inverse (table 8).
        structure: gamma1, weight of the prototypical consistency; 0 leaves it out (table 10).
        regulariser: gamma2.
        prototype_momentum: lambda, applied for each image (table 5).
        prototype_initial: prototypes from ``target`` images with predicted classes or from ``source``
            images with their labels (table 6).
        least_pixels: a class with fewer pixels in an image is left out of its prototypes.
    """

    method: str = "proda"
    optimiser: OptimiserConfig = OptimiserConfig(lr=1e-4, head_factor=1.0, weight_decay=2e-4)
    labels: Literal["stored", "predicted"] = "stored"
    weights: Literal["prototypes", "prediction", "none"] = "prototypes"
    temperature: float = Field(default=1.0, gt=0)
    structure: float = Field(default=10.0, ge=0)
    regulariser: float = Field(default=0.1, ge=0)
    prototype_momentum: float = Field(default=0.9999, ge=0, le=1)
    prototype_initial: Literal["target", "source"] = "target"
    least_pixels: int = Field(default=10, ge=1)


class TeacherView(NamedTuple):
    """What the teacher sees in the target images of a step.

    Attributes:
        features: [B, D, h, w] of the whole images.
        labels: [B, h, w] its own classes there.
        assignment: [B, K, h', w'] of the crops to the prototypes (eq. 4).
    """

    features: Tensor
    labels: Tensor
    assignment: Tensor


class ProDA(Rectified):
    """Self-training with labels denoised online.

    State: ``prototypes`` [K, D], e_k; the ``teacher`` G~, unless nothing asks for it.
    """

    Config = ProDAConfig
    config: ProDAConfig
    prototypes: Tensor

    def __init__(self, config: ProDAConfig, model: Segmenter, space: LabelSpace):
        super().__init__(config, model, space, taught=config.weights == "prototypes" or config.structure > 0)
        self.register_buffer("prototypes", torch.zeros(len(space), model.feature_channels))
        self._seen: TeacherView | None = None

    @property
    def wants_strong(self) -> bool:
        """Only the prototypical consistency looks at strong views."""
        return self.config.structure > 0

    def prepare(self, round_index: int, environment: Environment) -> None:
        """Soft pseudo labels of all target images, and the prototypes to begin with."""
        prototypes, counts = torch.zeros_like(self.prototypes), torch.zeros_like(self.prototypes[:, 0])
        for out in self.label_target(environment):
            if self.config.prototype_initial == "target":
                means = self._means(out.features, seen_classes(out))
                prototypes, counts = running_mean(prototypes, counts, means)
        if self.config.prototype_initial == "source":
            for image, labels in environment.source_images():
                features = self.model(image).features
                small = F.interpolate(labels[:, None].float(), features.shape[-2:], mode="nearest")[:, 0]
                prototypes, counts = running_mean(prototypes, counts, self._means(features, small))
        # Every process has the mean of its share; the mean of all weighs them by their counts.
        prototypes *= counts[:, None]
        environment.sum([prototypes, counts])
        self.prototypes.copy_(prototypes / counts.clamp(min=1)[:, None])

    def _means(self, features: Tensor, labels: Tensor) -> ClassMeans:
        return class_means(features, labels, len(self.space), self.config.least_pixels)

    def step(self, batch: Mapping[str, Samples]) -> Iterator[Terms]:
        """The lines of the box, one backward pass for each forward pass of the student."""
        c, s, t = self.config, batch["source"], batch["target"]
        yield self.source_terms(s)

        size = self.target_size(t)
        shown = self.shown(t, size)
        self._seen = seen = self._teacher_view(t, size)
        output = self.model(t.images)
        log_p = log_probabilities(output.logits, size, self.align_corners)
        labels = self._labels(t, log_p.detach(), seen, shown)
        terms = symmetric_cross_entropy(log_p, labels, c.alpha, c.beta)
        if c.regulariser:
            terms["regulariser"] = divergence_from_uniform(log_p, shown).times(c.regulariser)
        yield {**terms, **self.prototype_terms(output, labelled(t, labels), "target")}
        del output, log_p, terms

        if c.structure:
            assert t.strong is not None
            assert seen is not None
            features = upsample(self.model(t.strong.images).features, size, self.align_corners)
            target, valid = self.as_strong(seen.assignment, shown, t)
            distance = distances(features, self.prototypes)
            yield {"structure": prototypical_consistency(distance, target, valid, c.temperature).times(c.structure)}

    @torch.no_grad()
    def _teacher_view(self, t: Samples, size: Size) -> TeacherView | None:
        """The teacher on the whole images, and its features where the crops are (eq. 4)."""
        if self.teacher is None:
            return None
        out = self.teacher(t.whole)
        soft = assignment(distances(self.in_crops(out.features, t, size), self.prototypes), self.config.temperature)
        return TeacherView(out.features, seen_classes(out), soft)

    def _labels(self, t: Samples, log_p: Tensor, seen: TeacherView | None, shown: Tensor) -> Tensor:
        """The labels of the step (eq. 3)."""
        c, stored = self.config, self.stored(t, (shown.shape[1], shown.shape[2]))
        weights: Tensor | None = None
        if c.weights == "prototypes":
            assert seen is not None
            weights = seen.assignment
        elif c.weights == "prediction":
            weights = log_p.exp()
        return self.rectified_labels(stored if c.labels == "stored" else log_p.exp(), weights, shown, stored)

    def after_step(self, environment: Environment) -> None:
        """The teacher follows; the prototypes move to the class means that it saw (eq. 6)."""
        super().after_step(environment)
        c, seen = self.config, self._seen
        if seen is None:
            return
        vectors, present = (
            environment.gather(part.float(), c.batch_size) for part in self._means(seen.features, seen.labels)
        )
        self.prototypes.copy_(
            moving_average(self.prototypes, ClassMeans(vectors, present > 0), 1 - c.prototype_momentum)
        )
