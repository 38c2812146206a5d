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

from segadapt.data.loader import Part, Samples, Stream
from segadapt.data.resize import Size
from segadapt.data.strong import StrongAugmentation, outside, warp
from segadapt.labels import IGNORE, LabelSpace
from segadapt.methods.method import Method, OnlineLabels, OptimiserConfig, StageConfig, Terms, World, labelled_part
from segadapt.models.norm import set_norm_mode
from segadapt.models.segmenter import Segmenter
from segadapt.pieces.denoising import hard_labels, rectified, symmetric_cross_entropy
from segadapt.pieces.losses import cross_entropy, divergence_from_uniform, log_probabilities, upsample
from segadapt.pieces.prototypes import ClassMeans, assignment, class_means, distances, moving_average, running_mean
from segadapt.pieces.pseudo_labels import probabilities_in_window
from segadapt.pieces.structure import prototypical_consistency
from segadapt.pieces.teacher import follow, frozen_copy
from segadapt.pieces.windows import in_windows, inside


class ProDAConfig(StageConfig):
    """Settings of ProDA's first stage; defaults are those of the GTA5 experiments.

    Attributes:
        labels: what is reweighted: ``stored`` (p0, the paper's) or ``predicted`` (the network's own
            prediction of the moment; degenerates, figure 4).
        weights: ``prototypes`` (the paper's), ``prediction``, or ``none`` (no denoising).
        hard: train with the most probable class; otherwise with the reweighted distribution.
        threshold: a pixel whose reweighted probability is smaller is ignored (table 4).
        temperature: T; the paper's tau is its inverse (table 8).
        alpha, beta: weights of the cross entropy and the reverse cross entropy (table 9); (1, 0) is plain CE.
        structure: gamma1, weight of the prototypical consistency; 0 leaves it out (table 10).
        regulariser: gamma2.
        prototype_momentum: lambda, applied for each image (table 5).
        prototype_initial: prototypes from ``target`` images with predicted classes or from ``source``
            images with their labels (table 6).
        least_pixels: a class with fewer pixels in an image is left out of its prototypes.
        teacher_momentum: m.
        teacher_mode: ``train`` is the authors': the teacher runs with dropout, and with batch statistics
            if ``norm`` is ``train``.
        stride: target losses are taken at the crop's resolution divided by this.
        strong: the strong view (table 7).
    """

    method: str = "proda"
    optimiser: OptimiserConfig = OptimiserConfig(lr=1e-4, head_factor=1.0, weight_decay=2e-4)
    labels: Literal["stored", "predicted"] = "stored"
    weights: Literal["prototypes", "prediction", "none"] = "prototypes"
    hard: bool = True
    threshold: float = Field(default=0.0, ge=0, lt=1)
    temperature: float = Field(default=1.0, gt=0)
    alpha: float = Field(default=0.1, ge=0)
    beta: float = Field(default=1.0, ge=0)
    structure: float = Field(default=10.0, ge=0)
    regulariser: float = Field(default=0.1, ge=0)
    prototype_momentum: float = Field(default=0.9999, ge=0, le=1)
    prototype_initial: Literal["target", "source"] = "target"
    least_pixels: int = Field(default=10, ge=1)
    teacher_momentum: float = Field(default=0.999, ge=0, le=1)
    teacher_mode: Literal["train", "eval"] = "train"
    stride: int = Field(default=4, ge=1)
    strong: StrongAugmentation = StrongAugmentation()


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


class ProDA(Method):
    """Self-training with labels denoised online.

    State: ``prototypes`` [K, D], e_k; the ``teacher`` G~, unless nothing asks for it.
    """

    Config = ProDAConfig
    title = "ProDA"
    paper = "Zhang et al., CVPR 2021"
    config: ProDAConfig
    prototypes: Tensor

    def __init__(self, config: ProDAConfig, model: Segmenter, space: LabelSpace):
        super().__init__(config, model, space)
        self.register_buffer("prototypes", torch.zeros(len(space), model.feature_channels))
        self.teacher = frozen_copy(model) if config.weights == "prototypes" or config.structure else None
        if self.teacher is not None:
            set_norm_mode(self.teacher, config.norm)
            self.teacher.requires_grad_(False)
        self._seen: TeacherView | None = None

    def train(self, mode: bool = True) -> ProDA:
        """Training mode; of the teacher too where the authors' behaviour is wanted."""
        super().train(mode)
        if self.teacher is not None:
            self.teacher.train(mode and self.config.teacher_mode == "train")
        return self

    # ---- before training: p0 and e_k ----

    def prepare(self, round: int, world: World) -> None:
        """Soft pseudo labels of all target images, and the prototypes to begin with."""
        prototypes, counts = torch.zeros_like(self.prototypes), torch.zeros_like(self.prototypes[:, 0])
        for index, image in world.target_images():
            out = self.model(image)
            world.keep_soft_label(index, log_probabilities(out.logits)[0])
            p = log_probabilities(out.logits, image.shape[-2:], self.align_corners)[0].exp()
            confidence, label = p.max(0)
            world.keep_label(index, label, confidence)
            if self.config.prototype_initial == "target":
                means = self._means(out.features, out.logits.argmax(1))
                prototypes, counts = running_mean(prototypes, counts, means)
        if self.config.prototype_initial == "source":
            for image, labels in world.source_images():
                features = self.model(image).features
                small = F.interpolate(labels[:, None].float(), features.shape[-2:], mode="nearest")[:, 0]
                prototypes, counts = running_mean(prototypes, counts, self._means(features, small))
        # Every process has the mean of its share; the mean of all weighs them by their counts.
        prototypes *= counts[:, None]
        world.sum([prototypes, counts])
        self.prototypes.copy_(prototypes / counts.clamp(min=1)[:, None])

    def _means(self, features: Tensor, labels: Tensor) -> ClassMeans:
        return class_means(features, labels, len(self.space), self.config.least_pixels)

    # ---- training ----

    def streams(self, round: int, world: World) -> dict[str, Stream]:
        """Labelled source crops; target crops with their soft labels, strong views and whole images."""
        c, key = self.config, f"{self.config.name}/{round}"
        source = labelled_part(world.source, 0, world.source_size, c)
        target = Part(world.target, 1, world.target_size, c.augmentation, scores=world.soft_label)
        return {
            "source": Stream((source,), c.batch_size, f"{key}/source"),
            "target": Stream(
                (target,),
                c.batch_size,
                f"{key}/target",
                strong=c.strong if c.structure else None,
                whole=self.teacher is not None,
            ),
        }

    def step(self, batch: Mapping[str, Samples]) -> Iterator[Terms]:
        """The lines of the box, one backward pass for each forward pass of the student."""
        c, s, t = self.config, batch["source"], batch["target"]
        yield {"source": cross_entropy(self.model(s.images).logits, s.labels, s.labels.shape[-2:], self.align_corners)}

        size = (t.images.shape[-2] // c.stride, t.images.shape[-1] // c.stride)
        valid = inside(t.windows, t.sizes, size, t.images.device)
        self._seen = seen = self._teacher_view(t, size)
        log_p = log_probabilities(self.model(t.images).logits, size, self.align_corners)
        terms = symmetric_cross_entropy(log_p, self._labels(t, log_p.detach(), seen, valid), c.alpha, c.beta)
        if c.regulariser:
            terms["regulariser"] = divergence_from_uniform(log_p, valid).times(c.regulariser)
        yield terms

        if c.structure:
            assert t.strong is not None
            assert seen is not None
            features = upsample(self.model(t.strong.images).features, size, self.align_corners)
            target = warp(seen.assignment, t.strong.theta, "nearest")
            shown = warp(valid[:, None].float(), t.strong.theta, "nearest")[:, 0] > 0.5
            shown &= ~outside(t.strong.cutout, *size)
            distance = distances(features, self.prototypes)
            consistency = prototypical_consistency(distance, target, shown, c.temperature)
            yield {"structure": consistency.times(c.structure)}

    @torch.no_grad()
    def _teacher_view(self, t: Samples, size: Size) -> TeacherView | None:
        """The teacher on the whole images, and its features where the crops are."""
        if self.teacher is None:
            return None
        assert t.whole is not None
        out = self.teacher(t.whole)
        extent = [t.whole.shape[-2:]] * len(t.whole)  # of the batch: smaller images lie at its upper left
        features = in_windows(out.features, t.windows, extent, size, self.align_corners)
        soft = assignment(distances(features, self.prototypes), self.config.temperature)
        return TeacherView(out.features, out.logits.argmax(1), soft)

    @torch.no_grad()
    def _labels(self, t: Samples, log_p: Tensor, seen: TeacherView | None, valid: Tensor) -> Tensor:
        """The labels of the step (eq. 3): classes [B, h, w], or distributions [B, K, h, w] if not ``hard``."""
        c = self.config
        assert t.scores is not None
        stored = probabilities_in_window(t.scores, t.windows, t.sizes, valid.shape[-2:], None, self.align_corners)
        soft = stored if c.labels == "stored" else log_p.exp()
        if c.weights == "prototypes":
            assert seen is not None
            soft = rectified(soft, seen.assignment)
        elif c.weights == "prediction":
            soft = rectified(soft, log_p.exp())
        labels = hard_labels(soft, c.threshold).masked_fill(~valid, IGNORE)
        before = stored.argmax(1).masked_fill(~valid, IGNORE)
        self.online = OnlineLabels("target", {"rectified": labels, "before rectification": before})
        return labels if c.hard else soft * (labels != IGNORE)[:, None]

    def after_step(self, world: World) -> None:
        """The teacher follows; the prototypes move to the class means that the teacher saw (eq. 6)."""
        c, seen = self.config, self._seen
        if self.teacher is None or seen is None:
            return
        follow(self.teacher, self.model, c.teacher_momentum)
        means = self._means(seen.features, seen.labels)
        vectors, present = (world.gather(part.float(), c.batch_size) for part in means)
        means = ClassMeans(vectors, present > 0)
        self.prototypes.copy_(moving_average(self.prototypes, means, 1 - c.prototype_momentum))
