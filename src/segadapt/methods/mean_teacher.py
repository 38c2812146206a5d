"""Shared by DAFormer and MIC: a mean teacher that labels target crops, and the colours of strong views.

The teacher of DACS (Tranheden et al., WACV 2021) labels every pixel; one number per image, the share of
pixels that it is sure of, says how much all of them weigh.
"""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from segadapt.core.settings import Scaling, Settings
from segadapt.data.loader import Samples
from segadapt.data.photometric import color_jitter, draw_blur, gaussian_blur
from segadapt.labels import IGNORE
from segadapt.models.norm import NormMode, set_norm_mode
from segadapt.models.segmenter import Segmenter
from segadapt.pieces.confidence import confident_share, labels_and_confidence
from segadapt.pieces.counted import CountsSteps
from segadapt.pieces.margins import Margins, crop_margins, image_margins
from segadapt.pieces.teacher import follow, frozen_copy, growing_momentum
from segadapt.pieces.windows import inside


class MeanTeacherConfig(Settings):
    """Settings of the teacher and of strong views; defaults are the values of DAFormer.

    Attributes:
        teacher_momentum: alpha, in [0, 1] (code: 0.999; DACS 0.99), reached from below: after t steps at most
            ``1 - 1 / (t + 1)``.
        teacher_flip: the teacher labels by the mean of its probabilities of the crop and of its mirror image (VFM-UDA),
            at the price of a second pass.
        teacher_norm: batch normalisation of the teacher by ``batch`` statistics (the authors' code), or by
            the ``running`` ones of the network.
        threshold: tau, in [0, 1] (DACS: 0.968); the teacher is sure of pixels with at least this probability.
        confidence: q per ``image`` (eq. 4), per ``batch`` (the authors' code), or ``none`` (q is 1).
        crop_margins: top, bottom, left, right of every target crop as shares of it; labels there weigh
            nothing (code of DAFormer: 15/512 and 120/512 at top and bottom).
        image_margins: the same for the target images, wherever the crop lies (code of HRDA: 30/1024, 240/1024,
            30/2048, 30/2048).
        jitter: strength of the colour changes of strong views, in [0, 1] (code: 0.2).
        jitter_probability: share of the strong views with changed colours (code: 0.8).
        blur_probability: share of the strong views with a Gaussian blur of 0.15 to 1.15 pixels (code: 0.5).
    """

    teacher_momentum: Annotated[float, Scaling.MOMENTUM] = Field(default=0.999, ge=0, le=1)
    teacher_flip: bool = False
    teacher_norm: Literal["batch", "running"] = "batch"
    threshold: float = Field(default=0.968, ge=0, le=1)
    confidence: Literal["image", "batch", "none"] = "image"
    crop_margins: Margins = Margins()
    image_margins: Margins = Margins()
    jitter: float = Field(default=0.2, ge=0, le=1)
    jitter_probability: float = Field(default=0.8, ge=0, le=1)
    blur_probability: float = Field(default=0.5, ge=0, le=1)


class PseudoLabels(NamedTuple):
    """The teacher's labels of target crops.

    Attributes:
        labels: [B, H, W] train ids.
        weights: [B, H, W] in [0, 1]; zero where labels are not to be trusted.
        trusted: [B, H, W] bool, pixels of the image that lie in no margin.
        sure: [B, H, W] bool, trusted pixels with at least the ``threshold`` of confidence.
        share: mean of q over the images, for the record; also where ``confidence`` is ``none``.
        confidence: [B, H, W] in (0, 1], the probability of the label.
    """

    labels: Tensor
    weights: Tensor
    trusted: Tensor
    sure: Tensor
    share: Tensor
    confidence: Tensor

    @property
    def of_pixels(self) -> tuple[Tensor, Tensor, Tensor]:
        """``labels``, ``weights`` and ``sure``."""
        return self.labels, self.weights, self.sure


class MeanTeacher(CountsSteps):
    """A slow copy of a network. State: the copy and the number of ``steps`` that it has followed.

    Args:
        student: the network as it begins.
        config: see :class:`MeanTeacherConfig`.
        norm: batch normalisation of the stage.
    """

    def __init__(self, student: Segmenter, config: MeanTeacherConfig, norm: NormMode):
        super().__init__()
        self.config = config
        self.network = frozen_copy(student)
        set_norm_mode(self.network, norm)
        self.network.requires_grad_(False)

    def train(self, mode: bool = True) -> MeanTeacher:
        """Let the teacher normalise by its batches in training, where asked, but drop nothing."""
        super().train(False)
        for layer in self.network.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm) and self.config.teacher_norm == "batch":
                layer.train(mode)  # has no effect where the stage pins the statistics
        return self

    @torch.no_grad()
    def label(self, t: Samples, align_corners: bool) -> PseudoLabels:
        """Return y_t and its weight: q, or zero in the margins and beside the image (DAFormer eq. 3, 4)."""
        c, size, device = self.config, t.images.shape[-2:], t.images.device
        labels, confidence = labels_and_confidence(self._scores(t.images), size, align_corners)
        shown = inside(t.windows, t.sizes, size, device)
        q = confident_share(confidence, shown, c.threshold, "batch" if c.confidence == "batch" else "image")
        share = q.mean()
        if c.confidence == "none":
            q = torch.ones_like(q)
        trusted = crop_margins(size, c.crop_margins, device) & image_margins(
            t.windows, t.sizes, size, c.image_margins, device
        )
        return PseudoLabels(labels, q * trusted, trusted, trusted & (confidence >= c.threshold), share, confidence)

    def _scores(self, images: Tensor) -> Tensor:
        """Return scores [B, K, h, w] whose softmax is the teacher's probability of images [B, C, H, W]."""
        scores: Tensor = self.network(images).logits
        if not self.config.teacher_flip:
            return scores
        mirrored: Tensor = self.network(images.flip(3)).logits.flip(3)
        return torch.logaddexp(scores.log_softmax(1), mirrored.log_softmax(1))

    def follow(self, student: Segmenter) -> None:
        """Move the copy: phi = alpha phi + (1 - alpha) theta, quickly at first (DAFormer eq. 5)."""
        self.count_step()
        follow(self.network, student, growing_momentum(self.done, self.config.teacher_momentum))


class Donors(NamedTuple):
    """Crops of which classes are pasted onto target crops.

    Attributes:
        images: [B, 3, H, W] in [0, 1].
        labels: [B, H, W] train ids; IGNORE where nothing is to be pasted from.
        weights: [B, H, W] in [0, 1].
        sure: [B, H, W] bool.
    """

    images: Tensor
    labels: Tensor
    weights: Tensor
    sure: Tensor


def donors(s: Samples | None, t: Samples, pseudo: PseudoLabels) -> Donors:
    """Return the source crops and their labels; in a run without source, each target crop's neighbour in the batch."""
    if s is not None:
        return Donors(s.images, s.labels, torch.ones_like(pseudo.weights), torch.ones_like(pseudo.sure))
    labels = torch.where(pseudo.trusted, pseudo.labels, IGNORE)
    return Donors(*(torch.roll(x, 1, 0) for x in (t.images, labels, pseudo.weights, pseudo.sure)))


def recoloured(images: Tensor, config: MeanTeacherConfig) -> Tensor:
    """Return strong views of images [B, 3, H, W] in [0, 1]: other colours and blur, each in some of them."""
    batch = len(images)
    chance, draws = torch.rand(batch), torch.rand(batch, 4)
    strength = torch.where(chance < config.jitter_probability, config.jitter, 0.0)
    images = color_jitter(images, strength, draws, hue_share=1.0)
    return gaussian_blur(images, draw_blur(batch, torch.default_generator, probability=config.blur_probability))
