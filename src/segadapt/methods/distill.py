"""Distillation into a fresh student: the second and third stage of ProDA, and the last one of CPSL.

Zhang, Zhang, Zhang, Chen, Wang, Wen: ProDA, CVPR 2021, section 4.3.

    Input: source (x_s, y_s), target x_t; teacher G0 of the stage before, frozen; student G, from a
           self-supervised backbone where there is one
    y_t = argmax_k p_k where max_k p_k > 0.95, else ignored;    p = softmax(G0(x_t)), mean over mirror images
    repeat
        L_s  = CE(G(x_s), y_s)
        x'   = strong view of x_t;  y' = y_t moved alike                        [B, h/4, w/4]
        L_t  = CE(G(x'), y')
        L_kd = KL(softmax(G0(x')) || softmax(G(x')))                            (eq. 12)
        step on L_s + L_t + beta L_kd
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from segadapt.core.types import Size
from segadapt.data.loader import Part, Samples, Stream
from segadapt.data.strong import Strong, StrongAugmentation, in_cutout, warp
from segadapt.labels import IGNORE
from segadapt.methods.environment import Environment
from segadapt.methods.method import TaughtMethod, Terms, paired_streams, source_part
from segadapt.methods.stage_config import OptimiserConfig, TaughtConfig, Without
from segadapt.methods.supervision import source_terms
from segadapt.models.inference import InferenceConfig
from segadapt.pieces.losses import cross_entropy, nearest_labels
from segadapt.pieces.resizing import upsample
from segadapt.pieces.structure import distillation


class DistillConfig(TaughtConfig):
    """Settings of distillation; defaults are ProDA's.

    Attributes:
        initial: where the weights of the student come from; ``scratch`` is a self-supervised backbone where
            the recipe names one (section 4.3).
        optimiser: SGD (section 5.1: 6e-4 for the backbone, 10 times as fast for the head).
        inference: how the teacher predicts its hard labels (code: mean over mirror images).
        threshold: pseudo labels are kept where the teacher's confidence is larger, in [0, 1) (section 5.1: 0.95).
        weight: beta, weight of L_kd (section 4.3: 1); 0 leaves it out.
        variant: divergence of L_kd: ``paper`` (eq. 12), or ``official`` (the term of the published code,
            see :func:`segadapt.pieces.structure.distillation`).
        stride: target losses are taken at the crop's resolution divided by this (code: 4).
        strong: operations of the strong view (code: RandAugment and cut-out).
    """

    method: str = "distill"
    initial: str = "scratch"
    optimiser: OptimiserConfig = OptimiserConfig(lr=6e-4, weight_decay=2e-4)
    inference: InferenceConfig = InferenceConfig(flip=True)
    threshold: float = Field(default=0.95, ge=0, lt=1)
    weight: float = Field(default=1.0, ge=0)
    variant: Literal["paper", "official"] = "paper"
    stride: int = Field(default=4, ge=1)
    strong: StrongAugmentation = StrongAugmentation()
    WITHOUT_SOURCE: ClassVar[Without] = {}


class Distill(TaughtMethod):
    """A student learns from a frozen teacher's confident labels and from all its probabilities."""

    Config = DistillConfig
    config: DistillConfig

    def prepare(self, round_index: int, environment: Environment) -> None:
        """Store the teacher's confident labels for all target images."""
        for seen in environment.predict_target(self.teacher, self.config.inference):
            confidence, label = seen.probabilities.max(0)
            environment.keep_label(
                seen.index, label.masked_fill(confidence <= self.config.threshold, IGNORE), confidence
            )

    def streams(self, round_index: int, environment: Environment) -> dict[str, Stream]:
        """Return labelled source crops; pseudo-labelled target crops with their strong views."""
        c = self.config
        source = source_part(environment, c)
        target = Part(environment.pseudo_labelled(), 1, environment.target_size, c.augmentation)
        return paired_streams(source, target, c, round_index, strong=c.strong)

    def step(self, batch: Mapping[str, Samples]) -> Iterator[Terms]:
        """Yield the lines of the box."""
        c, s, t = self.config, batch.get("source"), batch["target"]
        yield from source_terms(self.model, s, self.align_corners)  # L_s

        assert t.strong is not None
        size = (t.images.shape[-2] // c.stride, t.images.shape[-1] // c.stride)
        labels = strong_labels(t.labels, t.strong, size)
        logits = upsample(self.model(t.strong.images).logits, size, self.align_corners)
        terms = {"target": cross_entropy(logits, labels)}
        if c.weight:
            with torch.no_grad():
                teacher = upsample(self.teacher(t.strong.images).logits, size, self.align_corners)
            terms["distillation"] = distillation(logits, teacher, c.variant) * c.weight
        yield terms


def strong_labels(labels: Tensor, strong: Strong, size: Size) -> Tensor:
    """Move label maps [B, H, W] of weak views as the strong views are, at ``size`` (nearest).

    IGNORE beyond the edge of the weak view and in the cut-out.
    """
    small = nearest_labels(labels, size)
    # Shifted by one, so that a zero is not a class but a place beyond the edge.
    moved = warp((small + 1)[:, None].float(), strong.theta, "nearest")[:, 0].long() - 1
    return moved.masked_fill((moved < 0) | in_cutout(strong.cutout, *size), IGNORE)
