"""MIC: masked image consistency, on top of DAFormer, HRDA, DACS and AdaptSeg.

Hoyer, Dai, Wang, Van Gool: MIC: Masked Image Consistency for Context-Enhanced Domain Adaptation, CVPR 2023.
On DAFormer (HRDA and DACS are its settings), with block side b and ratio r:

    Input: source (x_s, y_s), target x_t; network G
    G~ = G (the teacher)
    repeat
        L_s, L_fd of x_s                                                        (DAFormer)
        y_t, q of G~(x_t);  x_m, y_m, w_m mixed of x_s and x_t                  (DAFormer)
        L_t of x_m; with prototypes L_con, L_pce                                (DAFormer, MPCL)
        M = 0 in each block of b x b pixels with probability r, else 1          (eq. 5)
        L_M = q CE(G(M * colours(x_t)), y_t) over all pixels, seen or not       (eq. 6, 7)
        step on L_s + lambda L_fd + L_t + lambda_M L_M
        G~ follows G                                                            (eq. 8)

On AdaptSeg the first three lines are the lines of :mod:`segadapt.methods.adaptseg`, and the teacher exists for L_M
alone. A withheld block has the mean colour of the images that the network was trained on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from segadapt.core.moving import sent
from segadapt.core.settings import Scaling, Settings
from segadapt.data.loader import Part, Samples
from segadapt.labels import LabelSpace
from segadapt.methods.adaptseg import AdaptSeg, AdaptSegConfig
from segadapt.methods.daformer import DAFormer, DAFormerConfig
from segadapt.methods.environment import Environment
from segadapt.methods.mean_teacher import MeanTeacher, MeanTeacherConfig, PseudoLabels, recoloured
from segadapt.methods.method import Method, Terms, watched_part
from segadapt.methods.stage_config import Without
from segadapt.methods.supervision import segmentation_terms
from segadapt.models.segmenter import Segmenter
from segadapt.pieces.losses import Over
from segadapt.pieces.masking import blocks, visible


class MaskedConfig(Settings):
    """Settings of masked consistency; defaults are the values of HRDA on GTA5 and SYNTHIA.

    Attributes:
        masked_weight: lambda_M, weight of L_M, at least 0 (paper and code: 1).
        block: b, side of a block in pixels of the crop, at least 1; null takes a sixteenth of the crop's height (64 and
            32 pixels of the published crops of 1024 and 512).
        ratio: r, probability that a block is withheld, in [0, 1] (0.7); 0 is consistency without masks.
        masked: images that are masked: ``target``, ``source`` with its labels (table 6), or ``both``, half as
            many of each in one batch (the code on ACDC and Dark Zurich).
        masked_colours: masked images have the colours and the blur of strong views (code: except on ACDC and
            Dark Zurich).
    """

    masked_weight: float = Field(default=1.0, ge=0)
    block: int | None = Field(default=None, ge=1)
    ratio: float = Field(default=0.7, ge=0, le=1)
    masked: Literal["target", "source", "both"] = "target"
    masked_colours: bool = True


class MICConfig(MaskedConfig, DAFormerConfig):
    """Settings of MIC on DAFormer, HRDA or DACS.

    Attributes:
        masked_momentum: alpha, in [0, 1], of a teacher that labels masked images alone; 0 is the network itself
            ("without EMA"); null takes the labels of the host's teacher (the code).
        masked_confidence: q weighs masked target images (eq. 7); otherwise all labels count alike except in the
            margins.
    """

    method: str = "mic"
    masked_momentum: Annotated[float | None, Scaling.MOMENTUM] = Field(default=None, ge=0, le=1)
    masked_confidence: bool = True
    WITHOUT_SOURCE: ClassVar[Without] = {**(DAFormerConfig.WITHOUT_SOURCE or {}), "masked": "target"}


class AdaptSegMICConfig(MaskedConfig, MeanTeacherConfig, AdaptSegConfig):
    """Settings of MIC on AdaptSeg; its own settings are MIC's and the teacher's."""

    method: str = "adaptseg_mic"


class MIC(DAFormer):
    """DAFormer that must also label the blocks that its network does not see.

    State: the state of DAFormer, and a ``masked_teacher`` where masked images have a teacher of their own.
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
        """Yield the lines of the box, one backward pass per forward pass of the student."""
        s, t = batch.get("source"), batch["target"]
        if s is not None:
            yield self.source_terms(s)  # L_s, L_fd
        pseudo = self.pseudo_labels(t)  # y_t, q
        yield self.mixed_terms(*self.mixed(s, t, pseudo))  # x_m, y_m, w_m; L_t; L_con and L_pce of MPCL
        if self.masked_teacher is not None:
            pseudo = self.masked_teacher.label(t, self.align_corners)
            self.measured["confident share, masked"] = pseudo.share
        if not self.config.masked_confidence:
            pseudo = pseudo._replace(weights=pseudo.trusted.float())
        yield masked_terms(self, batch, pseudo, self.config, over=self.config.over)  # M, L_M

    def after_step(self, environment: Environment) -> None:
        """Let both teachers follow, and the prototypes of MPCL (eq. 8)."""
        super().after_step(environment)
        if self.masked_teacher is not None:
            self.masked_teacher.follow(self.model)


class AdaptSegMIC(AdaptSeg):
    """AdaptSeg that must also label the blocks that its network does not see.

    State: the state of AdaptSeg, and the ``teacher``.
    """

    Config = AdaptSegMICConfig
    config: AdaptSegMICConfig

    def __init__(self, config: AdaptSegMICConfig, model: Segmenter, space: LabelSpace):
        super().__init__(config, model, space)
        self.teacher = MeanTeacher(model, config, config.norm)

    def target_part(self, environment: Environment) -> Part:
        """Return target crops in their own colours, for the teacher."""
        return watched_part(environment, self.config)

    def step(self, batch: Mapping[str, Samples]) -> Iterator[Terms]:
        """Yield the lines of AdaptSeg's box, then L_M."""
        yield from super().step(batch)
        pseudo = self.teacher.label(batch["target"], self.align_corners)
        self.measured["confident share"] = pseudo.share
        yield masked_terms(self, batch, pseudo, self.config, over="valid")

    def after_step(self, environment: Environment) -> None:
        """Let the teacher follow (eq. 8)."""
        self.teacher.follow(self.model)


def masked_terms(
    host: Method,
    batch: Mapping[str, Samples],
    pseudo: PseudoLabels,
    config: MICConfig | AdaptSegMICConfig,
    *,
    over: Over,
) -> Terms:
    """Return lambda_M L_M of one pass of the host's network.

    Args:
        host: the method that MIC extends; its network predicts the masked images.
        batch: stream ``target``, and ``source`` where images of it are masked.
        pseudo: y_t and q of the target crops.
        config: settings of the masks and of strong views.
        over: the mean is taken over ``valid`` or ``all`` pixels.
    """
    images, labels, weights = batch["target"].images, pseudo.labels, pseudo.weights
    if config.masked != "target":
        s, guessed = batch["source"], (images, labels, weights)
        known = (s.images, s.labels, torch.ones_like(weights))
        half = -(-len(images) // 2)
        both = (torch.cat([a[:half], b[:half]]) for a, b in zip(known, guessed, strict=True))
        images, labels, weights = both if config.masked == "both" else known
    output = host.model(masked(images, host.model, config, config))
    terms = segmentation_terms(
        output, labels, weights=weights, align_corners=host.align_corners, prefix=f"masked {config.masked}", over=over
    )
    return {name: term * config.masked_weight for name, term in terms.items()}


@torch.no_grad()
def masked(images: Tensor, model: Segmenter, config: MaskedConfig, colours: MeanTeacherConfig) -> Tensor:
    """Return images [B, 3, H, W] with the model's mean colour in the blocks that are withheld (eq. 5)."""
    size = images.shape[-2:]
    if config.masked_colours:
        images = recoloured(images, colours)
    side = config.block or max(1, round(size[0] / 16))
    draws = sent(torch.rand(len(images), *blocks(size, side)), images.device)
    return torch.where(visible(draws, config.ratio, size)[:, None], images, model.mean_colour)
