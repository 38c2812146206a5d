"""Settings of BCL (:mod:`segadapt.methods.bcl`)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from segadapt.core.settings import Scaling
from segadapt.methods.stage_config import StageConfig


class BCLConfig(StageConfig):
    """Settings of BCL; defaults are the paper's, or the authors' code's where the paper gives none.

    Attributes:
        rounds: R; the static labels are made again in each (section 4.1: every 10 000 of 100 000 steps).
        static: rule of the static labels: ``cbst`` (the paper), or ``official`` (the authors' code).
        portion: share of the pixels of each class that static labels select, in (0, 1] (table 4: 20.1 % of all pixels
            have a static label; the authors' code: 0.1, for its own rule).
        dynamic: dynamic labels by ``calibrated`` prototypes of the source image (rho_ST), by ``plain`` ones (rho_S;
            table 3), by ``running`` ones (mu_S, of all classes seen so far; figure 7), or ``none``.
        confidence: c(f), from which a dynamic label must be surer than T: the ``softmax`` of s / tau over the classes
            (the authors' code), or the ``cosine`` s itself (eq. 8 to the letter).
        threshold: T; a probability in [0, 1) for ``softmax``, in [-1, 1) for ``cosine`` (code: 0.8, of a probability).
        least: a class has a prototype in an image if at least this share of the image's cells is labelled so, in
            [0, 1]; 0: if any cell is. With ``confidence: cosine`` a few thousandths keep single cells, which resemble
            all classes, from passing on labels; with ``softmax`` each class left out is one rival less of the others.
        bias_from: labels by which target features are averaged into mu_T: ``hybrid`` (eq. 5), or ``static``, so that
            dynamic labels do not move the bias from which they follow.
        prototype_momentum: momentum of mu_S and mu_T, in [0, 1]; the paper's value is in a supplement.
        temperature: tau, above 0 (code: 0.1).
        source_weight: a_s, weight of CE_s (code: 1).
        target_weight: a_t, weight of CE_t (code: 0.3).
        source_entropy: e_s, weight of H_s; 0 leaves it out. The code's 0.4 is for its own entropy, which pulls some 2.5
            times less than Shannon's.
        target_entropy: e_t, weight of H_t; 0 leaves it out. The code's 0.12, likewise.
        forward_contrast: b_f, weight of FC (code: 0.2); 0 leaves it out.
        backward_contrast: b_b, weight of BC (code: 0.2); 0 leaves it out.
        features: f, the maps that are compared: ``logits`` (in the authors' code the features are outputs of the
            classifier), or ``network``, the features that a network names (these outputs in ``dass_deeplabv2``).
        target_labels: labels of CE_t: ``static`` (section 3.1, figure 3, the authors' code), or ``hybrid`` (eq. 10).
        rare_sampling: temperature of the sampling of source images by rare classes, above 0; null draws all alike.
    """

    method: str = "bcl"
    rounds: int = Field(default=10, ge=1)
    static: Literal["cbst", "official"] = "cbst"
    portion: float = Field(default=0.2, gt=0, le=1)
    dynamic: Literal["calibrated", "plain", "running", "none"] = "calibrated"
    confidence: Literal["softmax", "cosine"] = "softmax"
    threshold: float = Field(default=0.8, ge=-1, lt=1)
    least: float = Field(default=0.0, ge=0, le=1)
    bias_from: Literal["hybrid", "static"] = "hybrid"
    prototype_momentum: Annotated[float, Scaling.MOMENTUM] = Field(default=0.99, ge=0, le=1)
    temperature: float = Field(default=0.1, gt=0)
    source_weight: float = Field(default=1.0, ge=0)
    target_weight: float = Field(default=0.3, ge=0)
    source_entropy: float = Field(default=0.16, ge=0)
    target_entropy: float = Field(default=0.05, ge=0)
    forward_contrast: float = Field(default=0.2, ge=0)
    backward_contrast: float = Field(default=0.2, ge=0)
    features: Literal["logits", "network"] = "logits"
    target_labels: Literal["static", "hybrid"] = "static"
    rare_sampling: float | None = Field(default=0.1, gt=0)

    @model_validator(mode="after")
    def _threshold_of_a_probability(self) -> BCLConfig:
        if self.confidence == "softmax" and self.threshold < 0:
            raise ValueError(
                f"threshold is {self.threshold}, and the confidence 'softmax' is a probability; give a threshold in "
                "[0, 1), or set confidence=cosine"
            )
        return self
