"""What ProDA and CPSL share: fixed soft pseudo labels, rectified in every step by what a teacher sees.

    p0 = softmax(G(x_t)) for every target image, fixed from here on                [K, H/8, W/8]
    repeat
        w = how much a pixel is like each class, from features of the teacher      (the method's own)
        y = argmax_k w_k p0_k, where the normalised product reaches a threshold

The teacher follows the network slowly and looks at whole target images; what it sees is read at the
places of the crops.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from segadapt.data.loader import Part, Samples, Stream
from segadapt.data.resize import Size
from segadapt.data.strong import StrongAugmentation, in_cutout, warp
from segadapt.labels import IGNORE, LabelSpace
from segadapt.methods.environment import Environment
from segadapt.methods.method import OnlineLabels, Terms, labelled_part, paired_streams
from segadapt.methods.prototyped import Prototyped, PrototypedConfig
from segadapt.methods.stage_config import StageConfig
from segadapt.methods.supervision import segmentation_terms
from segadapt.models.multires import see_whole
from segadapt.models.norm import set_norm_mode
from segadapt.models.segmenter import Output, Segmenter
from segadapt.pieces.denoising import hard_labels, rectified
from segadapt.pieces.losses import log_probabilities, nearest_labels
from segadapt.pieces.pseudo_labels import probabilities_in_window
from segadapt.pieces.teacher import follow, frozen_copy
from segadapt.pieces.windows import in_windows, inside


class RectifiedConfig(PrototypedConfig, StageConfig):
    """Settings of rectified self-training.

    Attributes:
        hard: train with the most probable class; otherwise with the reweighted distribution.
        threshold: a pixel whose reweighted probability is smaller is ignored.
        alpha, beta: weights of the cross entropy and the reverse cross entropy of target pixels.
        teacher_momentum: m; 0 makes the teacher the network itself.
        teacher_mode: ``train`` is the authors': the teacher runs with dropout, and with batch statistics
            if ``norm`` is ``train``.
        stride: target losses are taken at the crop's resolution divided by this.
        strong: the strong view.
    """

    hard: bool = True
    threshold: float = Field(default=0.0, ge=0, lt=1)
    alpha: float = Field(default=0.1, ge=0)
    beta: float = Field(default=1.0, ge=0)
    teacher_momentum: float = Field(default=0.999, ge=0, le=1)
    teacher_mode: Literal["train", "eval"] = "train"
    stride: int = Field(default=4, ge=1)
    strong: StrongAugmentation = StrongAugmentation()


class Rectified(Prototyped):
    """Base of methods that rectify fixed soft labels online.

    State: the ``teacher``, unless a subclass has no use for it.
    """

    config: RectifiedConfig

    def __init__(self, config: RectifiedConfig, model: Segmenter, space: LabelSpace, taught: bool = True):
        super().__init__(config, model, space)
        self.teacher = frozen_copy(model) if taught else None
        if self.teacher is not None:
            set_norm_mode(self.teacher, config.norm)
            self.teacher.requires_grad_(False)

    def train(self, mode: bool = True) -> Rectified:
        """Training mode; of the teacher too where the authors' behaviour is wanted."""
        super().train(mode)
        if self.teacher is not None:
            self.teacher.train(mode and self.config.teacher_mode == "train")
            see_whole(self.teacher)
        return self

    def label_target(self, environment: Environment) -> Iterator[Output]:
        """Store p0 of every target image; what the network gave for each, one after the other."""
        for index, image in environment.target_images():
            out = self.model(image)
            environment.keep_soft_label(index, log_probabilities(out.logits)[0])
            confidence, label = log_probabilities(out.logits, image.shape[-2:], self.align_corners)[0].exp().max(0)
            environment.keep_label(index, label, confidence)
            yield out

    def streams(self, round_index: int, environment: Environment) -> dict[str, Stream]:
        """Labelled source crops; target crops with their soft labels, strong views and whole images."""
        c = self.config
        source = labelled_part(environment.source, 0, environment.source_size, c)
        target = Part(environment.target, 1, environment.target_size, c.augmentation, scores=environment.soft_label)
        return paired_streams(
            source,
            target,
            c,
            round_index,
            strong=c.strong if self.wants_strong else None,
            whole=self.teacher is not None,
        )

    @property
    def wants_strong(self) -> bool:
        """Whether a term looks at the strong view."""
        return True

    # ---- pieces of a step ----

    def source_terms(self, s: Samples) -> Terms:
        """Cross entropy of the source at the resolution of its labels."""
        output = self.model(s.images)
        terms = segmentation_terms(output, s.labels, align_corners=self.align_corners, prefix="source")
        return {**terms, **self.prototype_terms(output, s, "source")}

    def target_size(self, t: Samples) -> Size:
        """Resolution of the target losses."""
        return t.images.shape[-2] // self.config.stride, t.images.shape[-1] // self.config.stride

    def shown(self, t: Samples, size: Size) -> Tensor:
        """[B, h, w] bool: places of the crops that lie in their image."""
        return inside(t.windows, t.sizes, size, t.images.device)

    @torch.no_grad()
    def in_crops(self, maps: Tensor, t: Samples, size: Size) -> Tensor:
        """Maps of the teacher's whole images, at the places of the crops."""
        assert t.whole is not None
        extent = [t.whole.shape[-2:]] * len(t.whole)  # of the batch: smaller images lie at its upper left
        return in_windows(maps, t.windows, extent, size, self.align_corners)

    @torch.no_grad()
    def stored(self, t: Samples, size: Size) -> Tensor:
        """p0 at the places of the crops."""
        assert t.scores is not None
        return probabilities_in_window(t.scores, t.windows, t.sizes, size, self.align_corners)

    @torch.no_grad()
    def rectified_labels(self, fixed: Tensor, weights: Tensor | None, shown: Tensor, stored: Tensor) -> Tensor:
        """y: classes [B, h, w], or distributions [B, K, h, w] if not ``hard``; noted for the record.

        Args:
            fixed: [B, K, h, w] probabilities to reweight.
            weights: [B, K, h, w], or None to leave them.
            shown: see :meth:`shown`.
            stored: p0, for comparison.
        """
        soft = fixed if weights is None else rectified(fixed, weights)
        labels = hard_labels(soft, self.config.threshold).masked_fill(~shown, IGNORE)
        before = stored.argmax(1).masked_fill(~shown, IGNORE)
        self.online = OnlineLabels("target", {"rectified": labels, "before rectification": before})
        return labels if self.config.hard else soft * (labels != IGNORE)[:, None]

    @staticmethod
    def as_strong(maps: Tensor, shown: Tensor, t: Samples) -> tuple[Tensor, Tensor]:
        """Maps [B, C, h, w] of the weak views as the strong views show them, and where these show anything."""
        assert t.strong is not None
        moved = warp(maps, t.strong.theta, "nearest")
        valid = warp(shown[:, None].float(), t.strong.theta, "nearest")[:, 0] > 0.5
        return moved, valid & ~in_cutout(t.strong.cutout, *shown.shape[-2:])

    def after_step(self, environment: Environment) -> None:
        """G~ = m G~ + (1 - m) G."""
        super().after_step(environment)
        if self.teacher is not None:
            follow(self.teacher, self.model, self.config.teacher_momentum)


def seen_classes(out: Output) -> Tensor:
    """The network's own classes [B, h, w] on the grid of its features, which may be coarser than that of its logits."""
    return nearest_labels(out.logits.argmax(1), out.features.shape[-2:])
