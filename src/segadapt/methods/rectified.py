"""Lines that the boxes of ProDA and CPSL share: fixed soft labels, rectified by the features of a slow teacher.

Both store p0 = softmax(G(x_t)) of every target image before they train, and in every step weigh it with how much a
pixel is like each class, by features of a slow teacher, which looks at whole images and is read at the crops' places.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from segadapt.core.moving import sent
from segadapt.core.settings import Scaling
from segadapt.core.types import Size
from segadapt.data.augment import Window
from segadapt.data.loader import Part, Samples, Stream
from segadapt.data.strong import StrongAugmentation, in_cutout, warp
from segadapt.errors import RequestError
from segadapt.labels import IGNORE
from segadapt.methods.environment import Environment
from segadapt.methods.method import OnlineLabels, paired_streams, source_part
from segadapt.methods.stage_config import StageConfig
from segadapt.models.multires import see_whole
from segadapt.models.norm import NormMode, set_norm_mode
from segadapt.models.segmenter import Output, Segmenter
from segadapt.pieces.cutmix import half_box, paste, paste_labels
from segadapt.pieces.denoising import hard_labels, rectified
from segadapt.pieces.losses import log_probabilities, nearest_labels
from segadapt.pieces.pseudo_labels import probabilities_in_window
from segadapt.pieces.teacher import frozen_copy
from segadapt.pieces.windows import in_windows, inside


class RectifiedConfig(StageConfig):
    """Settings that ProDA and CPSL share; defaults are ProDA's, CPSL names its own.

    Attributes:
        hard: train with the most probable class (both papers); otherwise with the rectified distribution.
        threshold: pixels with a smaller rectified probability are ignored, in [0, 1) (table 4: 0).
        alpha: weight of the cross entropy of target pixels (table 9: 0.1).
        beta: weight of their reverse cross entropy (table 9: 1).
        teacher_momentum: m, in [0, 1] (both: 0.999); 0 makes the teacher the network itself.
        teacher_mode: ``train`` is the authors': the teacher runs with dropout, and with batch statistics
            if ``norm`` is ``train``; ``eval`` is without.
        published_classes: number of classes for which the weight of the consistency was chosen, at least 1: the loss
            is a mean over classes, so its weight is multiplied by the run's number of classes over this;
            null leaves it.
        stride: target losses are taken at the crop's resolution divided by this (both codes: 4).
        strong: operations of the strong view: RandAugment and cut-out (table 7).
    """

    hard: bool = True
    threshold: float = Field(default=0.0, ge=0, lt=1)
    alpha: float = Field(default=0.1, ge=0)
    beta: float = Field(default=1.0, ge=0)
    teacher_momentum: Annotated[float, Scaling.MOMENTUM] = Field(default=0.999, ge=0, le=1)
    teacher_mode: Literal["train", "eval"] = "train"
    published_classes: int | None = Field(default=None, ge=1)
    stride: int = Field(default=4, ge=1)
    strong: StrongAugmentation = StrongAugmentation()

    def per_class(self, weight: float, classes: int) -> float:
        """Return the weight of a loss that is a mean over classes, for ``classes`` of them."""
        return weight if self.published_classes is None else weight * classes / self.published_classes


# ---- before training ----


def slow_teacher(model: Segmenter, norm: NormMode) -> Segmenter:
    """Return G~ = G: a copy without gradients, with the stage's batch normalisation."""
    teacher = frozen_copy(model)
    set_norm_mode(teacher, norm)
    return teacher.requires_grad_(False)


def set_teacher_mode(teacher: Segmenter, training: bool) -> None:
    """Set the mode of the teacher's layers; a network of two resolutions sees whole images in both modes."""
    teacher.train(training)
    see_whole(teacher)


def label_target(model: Segmenter, environment: Environment, align_corners: bool) -> Iterator[Output]:
    """Store p0 of every target image, and yield the network's output for it.

    Args:
        model: G, in evaluation mode.
        environment: target images, and the place for labels.
        align_corners: convention in which class scores are enlarged.
    """
    for index, image in environment.target_images():
        out = model(image)
        environment.keep_soft_label(index, log_probabilities(out.logits)[0])
        confidence, label = log_probabilities(out.logits, image.shape[-2:], align_corners)[0].exp().max(0)
        environment.keep_label(index, label, confidence)
        yield out


def soft_labelled_streams(
    config: RectifiedConfig, round_index: int, environment: Environment, *, strong: bool, whole: bool
) -> dict[str, Stream]:
    """Return labelled source crops, and target crops with their p0.

    Args:
        config, round_index, environment: settings of the stage, the round, data sets with stored soft labels.
        strong: target crops have strong views too.
        whole: target crops come with their whole images, for the teacher.
    """
    source = source_part(environment, config)
    target = Part(environment.target, 1, environment.target_size, config.augmentation, scores=environment.soft_label)
    view = config.strong if strong else None
    return paired_streams(source, target, config, round_index, strong=view, whole=whole)


# ---- in a step ----


def target_places(t: Samples, stride: int) -> tuple[Size, Tensor]:
    """Return (height, width) of the target losses, and [B, h, w] bool: places of the crops that lie in their image."""
    size = t.images.shape[-2] // stride, t.images.shape[-1] // stride
    return size, inside(t.windows, t.sizes, size, t.images.device)


@torch.no_grad()
def in_crops(maps: Tensor, t: Samples, size: Size, align_corners: bool) -> Tensor:
    """Read maps [B, C, H', W'] of the teacher's whole images at the places of the crops: [B, C, h, w]."""
    assert t.whole is not None
    extent = [t.whole.shape[-2:]] * len(t.whole)  # of the batch: smaller images lie at its upper left
    return in_windows(maps, t.windows, extent, size, align_corners)


@torch.no_grad()
def stored_labels(t: Samples, size: Size, align_corners: bool) -> Tensor:
    """Read p0 at the places of the crops: [B, K, h, w]."""
    assert t.scores is not None
    return probabilities_in_window(t.scores, t.windows, t.sizes, size, align_corners)


@torch.no_grad()
def stored_whole(t: Samples, size: Sequence[int], align_corners: bool) -> tuple[Tensor, Tensor]:
    """Read p0 of the whole images [B, K, h, w], and [B, h, w] bool, places that lie in their image."""
    assert t.whole is not None
    assert t.scores is not None
    everything = [Window(0, 0, t.whole.shape[-2], t.whole.shape[-1])] * len(t.whole)
    p0 = probabilities_in_window(t.scores, everything, t.sizes, size, align_corners)
    return p0, inside(everything, t.sizes, size, p0.device)


@torch.no_grad()
def rectified_labels(
    fixed: Tensor, weights: Tensor | None, places: Tensor, stored: Tensor, config: RectifiedConfig
) -> tuple[Tensor, OnlineLabels]:
    """Return y = argmax_k w_k p_k, and the labels before and after rectification for the record.

    Args:
        fixed: p [B, K, h, w], probabilities to rectify.
        weights: w [B, K, h, w], or None to leave them.
        places: see :func:`target_places`; labels elsewhere are ignored.
        stored: p0 [B, K, h, w], for comparison.
        config: ``threshold`` and ``hard``.

    Returns:
        Classes [B, h, w], or distributions [B, K, h, w] if not ``hard``.
    """
    soft = fixed if weights is None else rectified(fixed, weights)
    labels = hard_labels(soft, config.threshold).masked_fill(~places, IGNORE)
    before = stored.argmax(1).masked_fill(~places, IGNORE)
    online = OnlineLabels("target", {"rectified": labels, "before rectification": before})
    return labels if config.hard else soft * (labels != IGNORE)[:, None], online


def source_pasted(
    s: Samples | None, t: Samples, labels: Tensor, *, probability: float, classes: int, stage: str
) -> tuple[Tensor, Tensor]:
    """Return weak views and their labels, at times with the same box of the source pasted into all of them (CutMix).

    Args:
        s, t: source and target crops; without source crops nothing is pasted.
        labels: of the weak views, [B, h, w] classes or [B, K, h, w] distributions.
        probability: of a box, in [0, 1].
        classes: K.
        stage: name of the stage, for messages.

    Raises:
        RequestError: the crops differ in size.
    """
    if s is None or torch.rand(()) >= probability:
        return t.images, labels
    if s.images.shape != t.images.shape:
        raise RequestError(
            f"stage '{stage}': cutmix pastes source crops into target crops, which then need one size; "
            "set augmentation.crop, or cutmix=0"
        )
    box = sent(half_box(torch.rand(3)), t.images.device)
    return paste(t.images, s.images, box), paste_labels(labels, s.labels, box, classes)


def as_strong(maps: Tensor, places: Tensor, t: Samples) -> tuple[Tensor, Tensor]:
    """Move maps [B, C, h, w] of the weak views as the strong views are.

    Args:
        places: see :func:`target_places`.
        t: target crops with strong views.

    Returns:
        The maps [B, C, h, w], and [B, h, w] bool, places where the strong views show anything.
    """
    assert t.strong is not None
    moved = warp(maps, t.strong.theta, "nearest")
    valid = warp(places[:, None].float(), t.strong.theta, "nearest")[:, 0] > 0.5
    return moved, valid & ~in_cutout(t.strong.cutout, *places.shape[-2:])


def seen_classes(out: Output) -> Tensor:
    """Return the network's own classes [B, h, w] on the grid of its features, which may be coarser than its logits."""
    return nearest_labels(out.logits.argmax(1), out.features.shape[-2:])
