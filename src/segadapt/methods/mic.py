"""MIC: masked image consistency, on top of DAFormer, HRDA, DACS and AdaptSeg.

Hoyer, Dai, Wang, Van Gool: MIC: Masked Image Consistency for Context-Enhanced Domain Adaptation, CVPR 2023.

    Input: as for the host; block side b, ratio r
    repeat
        the lines of the host: y_t, q of its teacher G~
        M = 0 in each block of b x b pixels with probability r, else 1          (eq. 5)
        L_M = q CE(G(M * colours(x_t)), y_t) over all pixels, seen or not       (eq. 6, 7)
        step on the host's losses and lambda_M L_M
        G~ follows G                                                            (eq. 8)

A withheld block has the mean colour of what the network was trained on. A host without a teacher is given one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from segadapt.core.settings import Settings
from segadapt.data.loader import Samples
from segadapt.labels import LabelSpace
from segadapt.methods.adaptseg import AdaptSeg, AdaptSegConfig
from segadapt.methods.daformer import DAFormer, DAFormerConfig
from segadapt.methods.environment import Environment
from segadapt.methods.mean_teacher import MeanTeacher, MeanTeacherConfig, PseudoLabels, recoloured
from segadapt.methods.method import Method, Terms
from segadapt.methods.supervision import segmentation_terms
from segadapt.models.segmenter import Segmenter
from segadapt.pieces.losses import Over
from segadapt.pieces.masking import blocks, visible


class MaskedConfig(Settings):
    """Settings of masked consistency; defaults are those of HRDA on GTA5 and SYNTHIA.

    Attributes:
        masked_weight: lambda_M.
        block: b, side of a block in pixels of the crop; 64 of the crops of HRDA, 32 at half their resolution.
        ratio: r, probability that a block is withheld; 0 is consistency without masks.
        masked: which images: ``target``, ``source`` with its labels, or half as many of ``both``, in one batch.
        masked_colours: whether masked images have the colours and the blur of strong views.
    """

    masked_weight: float = Field(default=1.0, ge=0)
    block: int = Field(default=64, ge=1)
    ratio: float = Field(default=0.7, ge=0, le=1)
    masked: Literal["target", "source", "both"] = "target"
    masked_colours: bool = True


class MICConfig(MaskedConfig, DAFormerConfig):
    """Settings of MIC on DAFormer, HRDA or DACS.

    Attributes:
        masked_momentum: alpha of a teacher that labels masked images alone, 0 being the network itself; None takes
            the labels of the host's teacher.
        masked_confidence: whether q weighs masked target images; otherwise labels count alike but in the margins.
    """

    method: str = "mic"
    masked_momentum: float | None = Field(default=None, ge=0, le=1)
    masked_confidence: bool = True


class AdaptSegMICConfig(MaskedConfig, MeanTeacherConfig, AdaptSegConfig):
    """Settings of MIC on AdaptSeg."""

    method: str = "adaptseg_mic"


class MIC(DAFormer):
    """DAFormer whose network must also label what it does not see.

    State: that of DAFormer, and a ``masked_teacher`` where it is another than the host's.
    """

    Config = MICConfig
    config: MICConfig

    def __init__(self, config: MICConfig, model: Segmenter, space: LabelSpace, reference: Segmenter | None = None):
        super().__init__(config, model, space, reference)
        self.masked_teacher: MeanTeacher | None = None
        if config.masked_momentum is not None:
            own = config.model_copy(update={"teacher_momentum": config.masked_momentum})
            self.masked_teacher = MeanTeacher(model, own, config.norm)

    def step(self, batch: Mapping[str, Samples]) -> Iterator[Terms]:
        """The lines of the box."""
        yield from super().step(batch)
        pseudo = self.pseudo
        if self.masked_teacher is not None:
            pseudo = self.masked_teacher.label(batch["target"], self.align_corners)
        assert pseudo is not None
        if not self.config.masked_confidence:
            pseudo = pseudo._replace(weights=pseudo.trusted.float())
        yield masked_terms(self, batch, pseudo, self.config, self.config.over)

    def after_step(self, environment: Environment) -> None:
        """All that follows the network does."""
        super().after_step(environment)
        if self.masked_teacher is not None:
            self.masked_teacher.follow(self.model)


class AdaptSegMIC(AdaptSeg):
    """AdaptSeg whose network must also label what it does not see.

    State: that of AdaptSeg, and the ``teacher``.
    """

    Config = AdaptSegMICConfig
    config: AdaptSegMICConfig

    def __init__(self, config: AdaptSegMICConfig, model: Segmenter, space: LabelSpace):
        super().__init__(config, model, space)
        self.teacher = MeanTeacher(model, config, config.norm)

    def step(self, batch: Mapping[str, Samples]) -> Iterator[Terms]:
        """The lines of the box."""
        yield from super().step(batch)
        pseudo = self.teacher.label(batch["target"], self.align_corners)
        yield masked_terms(self, batch, pseudo, self.config, "valid")

    def after_step(self, environment: Environment) -> None:
        """The teacher follows."""
        super().after_step(environment)
        self.teacher.follow(self.model)


def masked_terms(
    host: Method, batch: Mapping[str, Samples], pseudo: PseudoLabels, config: MICConfig | AdaptSegMICConfig, over: Over
) -> Terms:
    """L_M of the host's network in one pass; means ``over`` valid or all pixels."""
    s, t = batch["source"], batch["target"]
    known = (s.images, s.labels, torch.ones_like(pseudo.weights))
    guessed = (t.images, pseudo.labels, pseudo.weights)
    if config.masked == "both":
        half = -(-len(t.images) // 2)
        images, labels, weights = (torch.cat([a[:half], b[:half]]) for a, b in zip(known, guessed, strict=True))
    else:
        images, labels, weights = known if config.masked == "source" else guessed
    output = host.model(masked(images, host.model, config, config))
    terms = segmentation_terms(
        output, labels, weights=weights, align_corners=host.align_corners, prefix=f"masked {config.masked}", over=over
    )
    return {k: t.times(config.masked_weight) for k, t in terms.items()}


@torch.no_grad()
def masked(images: Tensor, model: Segmenter, config: MaskedConfig, colours: MeanTeacherConfig) -> Tensor:
    """Images [B, 3, H, W] with the model's mean colour in the blocks that are withheld (eq. 5)."""
    size = images.shape[-2:]
    if config.masked_colours:
        images = recoloured(images, colours)
    draws = torch.rand(len(images), *blocks(size, config.block)).to(images.device, non_blocking=True)
    return torch.where(visible(draws, config.ratio, size)[:, None], images, model.mean_colour)
