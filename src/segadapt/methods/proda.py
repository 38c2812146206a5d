"""ProDA, first stage: soft pseudo labels denoised online by prototypes, and target structure learning.

Zhang, Zhang, Zhang, Chen, Wang, Wen: Prototypical Pseudo Label Denoising and Target Structure Learning
for Domain Adaptive Semantic Segmentation, CVPR 2021. Later stages are :mod:`segadapt.methods.distill`; settings are in
:mod:`segadapt.methods.proda_config`. All maps of the target are at a quarter of the crop's resolution.

    Input: source (x_s, y_s), target x_t; network G with features f, warmed up
    p0 = softmax(G(x_t)) for every target image, fixed from here on                [K, H/8, W/8]
    e_k = mean of f over the pixels of class k in x_t                               (eq. 5)
    G~ = G (the teacher)
    repeat
        L_s = CE(G(x_s), y_s)
        f~ = G~(whole target image), seen in the crop;  w = softmax_k(-|f~ - e_k| T)  (eq. 4)
        y = argmax_k w_k p0_k                                                         (eq. 3)
        L_t = alpha CE(G(weak), y) + beta RCE(G(weak), y)                             (eq. 7)
        L_reg = -mean_k log G(weak)_k                                                 (eq. 10)
        z = softmax_k(-|f~ - e_k| T) moved as the strong view is; z' the same of f(strong)  (eq. 8)
        L_kl = KL(z || z')                                                            (eq. 9)
        step on L_s + L_t + gamma1 L_kl + gamma2 L_reg                                (eq. 11)
        G~ = m G~ + (1 - m) G
        e_k = lambda e_k + (1 - lambda) mean of f~ over the pixels that G~ gives class k   (eq. 6)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from segadapt.core.types import Size
from segadapt.data.loader import Samples, Stream
from segadapt.labels import IGNORE, LabelSpace
from segadapt.methods.environment import Environment
from segadapt.methods.method import Method, Terms
from segadapt.methods.proda_config import ProDAConfig
from segadapt.methods.rectified import (
    as_strong,
    in_crops,
    label_target,
    rectified_labels,
    seen_classes,
    set_teacher_mode,
    slow_teacher,
    soft_labelled_streams,
    stored_labels,
    target_places,
)
from segadapt.methods.supervision import source_terms
from segadapt.models.segmenter import Segmenter
from segadapt.pieces.denoising import symmetric_cross_entropy
from segadapt.pieces.losses import divergence_from_uniform, log_probabilities, nearest_labels
from segadapt.pieces.prototypes import (
    assignment,
    class_sums,
    distances,
    feature_moments,
    means_of_sums,
    moving_average,
    pooled_mean,
    running_mean,
    total_variance,
)
from segadapt.pieces.resizing import upsample
from segadapt.pieces.structure import prototypical_consistency
from segadapt.pieces.teacher import follow


class TeacherView(NamedTuple):
    """The teacher's view of the target images of a step.

    Attributes:
        features: f~ [B, D, h, w] of the whole images.
        labels: [B, h, w] its own classes there.
        assignment: [B, K, h', w'] of the crops to the prototypes, w of eq. 4.
    """

    features: Tensor
    labels: Tensor
    assignment: Tensor


class ProDA(Method):
    """Self-training with labels denoised online.

    State: ``prototypes`` [K, D], e_k; ``temperature``, T; the ``teacher`` G~, unless nothing asks for it.
    """

    Config = ProDAConfig
    config: ProDAConfig
    prototypes: Tensor
    temperature: Tensor

    def __init__(self, config: ProDAConfig, model: Segmenter, space: LabelSpace):
        super().__init__(config, model, space)
        taught = config.weights == "prototypes" or config.structure > 0
        self.teacher = slow_teacher(model, config.norm) if taught else None  # G~ = G
        self.register_buffer("prototypes", torch.zeros(len(space), model.feature_channels))
        self.register_buffer("temperature", torch.tensor(config.temperature))
        self._seen: TeacherView | None = None  # from ``step`` to ``after_step``

    def train(self, mode: bool = True) -> ProDA:
        """Set the training mode, for the teacher too where ``teacher_mode`` says so."""
        super().train(mode)
        if self.teacher is not None:
            set_teacher_mode(self.teacher, mode and self.config.teacher_mode == "train")
        return self

    def prepare(self, round_index: int, environment: Environment) -> None:
        """Store p0 of all target images; compute the first prototypes (eq. 5), and T where it follows the features."""
        c, classes = self.config, len(self.space)
        prototypes, counts = torch.zeros_like(self.prototypes), torch.zeros_like(self.prototypes[:, 0])
        moments = self.prototypes.new_zeros(self.prototypes.shape[1] + 2)
        for features, labels in self._labelled_features(environment, moments):
            sums, pixels = class_sums(features, labels, classes)
            if c.prototype_mean == "pixels":
                prototypes, counts = pooled_mean(prototypes, counts, sums, pixels)
            else:
                prototypes, counts = running_mean(prototypes, counts, means_of_sums(sums, pixels, c.least_pixels))
        # Every process has the mean of its share; the mean of all weighs them by their counts.
        prototypes *= counts[:, None]
        environment.sum([prototypes, counts, moments])
        self.prototypes.copy_(prototypes / counts.clamp(min=1)[:, None])
        variance = total_variance(moments)
        if c.temperature_at is not None:
            self.temperature.copy_(c.temperature * (c.temperature_at / variance.clamp(min=1e-12)).sqrt())
        environment.report({"measured": {"feature_variance": float(variance), "temperature": float(self.temperature)}})

    def _labelled_features(self, environment: Environment, moments: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Label the target images, add up ``moments`` of their features, and yield what first prototypes are means of.

        Yields:
            Features [1, D, h, w] and classes [1, h, w] of an image.
        """
        initial = self.config.prototype_initial
        for out in label_target(self.model, environment, self.align_corners):
            moments += feature_moments(out.features)
            if initial == "target":
                yield out.features, seen_classes(out)
        for image, labels in environment.source_images() if initial != "target" else ():
            out = self.model(image)
            small = nearest_labels(labels, out.features.shape[-2:])
            yield out.features, small if initial == "source" else small.masked_fill(small != seen_classes(out), IGNORE)

    def streams(self, round_index: int, environment: Environment) -> dict[str, Stream]:
        """Return labelled source crops; target crops with p0, strong views and whole images where they are used."""
        c = self.config
        return soft_labelled_streams(
            c, round_index, environment, strong=c.structure > 0, whole=self.teacher is not None
        )

    def step(self, batch: Mapping[str, Samples]) -> Iterator[Terms]:
        """Yield the lines of the box, one backward pass per forward pass of the student."""
        c, s, t = self.config, batch.get("source"), batch["target"]
        yield from source_terms(self.model, s, self.align_corners)  # L_s

        size, places = target_places(t, c.stride)
        self._seen = seen = self._teacher_view(t, size)  # f~, w
        log_p = log_probabilities(self.model(t.images).logits, size, self.align_corners)
        stored = stored_labels(t, size, self.align_corners)
        fixed = stored if c.labels == "stored" else log_p.detach().exp()
        weights = seen.assignment if seen is not None and c.weights == "prototypes" else None
        if c.weights == "prediction":
            weights = log_p.detach().exp()
        y, self.online = rectified_labels(fixed, weights, places, stored, c)
        terms = symmetric_cross_entropy(log_p, y, c.alpha, c.beta)
        if c.regulariser:
            terms["regulariser"] = divergence_from_uniform(log_p, places) * c.regulariser
        yield terms
        del log_p, terms

        if c.structure:
            weight = c.per_class(c.structure, len(self.space))
            assert t.strong is not None
            assert seen is not None
            z, valid = as_strong(seen.assignment, places, t)
            features = upsample(self.model(t.strong.images).features, size, self.align_corners)
            distance = distances(features, self.prototypes)
            yield {"structure": prototypical_consistency(distance, z, valid, self.temperature) * weight}

    @torch.no_grad()
    def _teacher_view(self, t: Samples, size: Size) -> TeacherView | None:
        """Let the teacher see the whole images, and assign the places of the crops to prototypes (eq. 4)."""
        if self.teacher is None:
            return None
        out = self.teacher(t.whole)
        distance = distances(in_crops(out.features, t, size, self.align_corners), self.prototypes)
        return TeacherView(out.features, seen_classes(out), assignment(distance, self.temperature))

    def after_step(self, environment: Environment) -> None:
        """Let the teacher follow; move the prototypes to the class means that it saw (eq. 6)."""
        c, seen = self.config, self._seen
        if self.teacher is None or seen is None:
            return
        follow(self.teacher, self.model, c.teacher_momentum)
        summed = class_sums(seen.features, seen.labels, len(self.space))
        sums, pixels = (environment.gather(part, c.batch_size) for part in summed)
        if c.prototype_update == "step":  # one mean over all pixels of the batch
            sums, pixels = sums.sum(0, keepdim=True), pixels.sum(0, keepdim=True)
        means = means_of_sums(sums, pixels, c.least_pixels)
        self.prototypes.copy_(moving_average(self.prototypes, means, 1 - c.prototype_momentum))
