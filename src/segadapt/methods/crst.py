"""Confidence-regularised self-training (CRST): CBST with labels or a model kept from over-confidence.

Zou, Yu, Liu, Kumar, Wang: Confidence Regularized Self-Training, ICCV 2019. Rounds, thresholds and
selection are in :mod:`segadapt.methods.cbst`; two things differ.

    LRENT (label entropy)
        y_t,c = (P_t,c / lambda_c)^(1/alpha) / Z,   Z = sum_c (P_t,c / lambda_c)^(1/alpha)
        labelled where Z > 1, with the soft label y_t
        L = -sum_n sum_c y_n,c log p_n,c / #{labelled pixels of both domains}
    MRKLD (model KL divergence to the uniform distribution)
        L = CE + w  sum_{labelled target pixels} (-1/K sum_c log p_c) / #{labelled target pixels}

Soft labels are not stored: they follow from the class scores at the network's own stride, inside
the crop, when they are needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from segadapt.data.loader import Samples
from segadapt.labels import IGNORE
from segadapt.methods.cbst import CBST, CBSTConfig
from segadapt.methods.method import Terms
from segadapt.pieces.losses import (
    divergence_from_uniform,
    log_probabilities,
    negative_log_likelihood,
    soft_negative_log_likelihood,
)
from segadapt.pieces.pseudo_labels import probabilities_in_window, soft_labels
from segadapt.pieces.terms import Term


class CRSTConfig(CBSTConfig):
    """Settings of CRST beside the settings of CBST.

    Attributes:
        regulariser: ``mrkld`` (on the model) or ``lrent`` (on the labels).
        kld_weight: w, at least 0. The authors' code multiplies by its weight of 0.1 twice; the effective value
            0.01, which they say scores better than the paper's 0.1, is the default here.
        alpha: temperature of LRENT, above 0 (paper: 0.25); 0 would be hard labels.
        source_policy: ``redrawn`` draws all source images again in each round (the CRST code), ``cumulative`` keeps the
            images of earlier rounds (the CBST code).
        mining_fallback: where no rare class is present, take one of the three rarest (not in the CRST code).
    """

    method: str = "crst"
    regulariser: Literal["mrkld", "lrent"] = "mrkld"
    kld_weight: float = Field(default=0.01, ge=0)
    alpha: float = Field(default=0.25, gt=0)
    source_policy: Literal["cumulative", "redrawn"] = "redrawn"
    mining_fallback: bool = False

    @model_validator(mode="after")
    def _defined(self) -> CRSTConfig:
        if self.regulariser == "lrent" and self.spatial_prior:
            raise ValueError("spatial priors are not defined for the soft labels of lrent")
        if self.regulariser == "lrent" and self.loss_resolution == "logits":
            raise ValueError("lrent needs loss_resolution: image")
        return self


class CRST(CBST):
    """CBST with a confidence regulariser."""

    Config = CRSTConfig
    config: CRSTConfig

    @property
    def keeps_scores(self) -> bool:
        """LRENT needs the class scores of the target."""
        return self.config.regulariser == "lrent"

    def pseudo_label(self, probabilities: Tensor) -> Tensor:
        """Return hard labels; for LRENT the largest entry of the soft label where Z > 1."""
        if self.config.regulariser == "mrkld":
            return super().pseudo_label(probabilities)
        soft, kept = soft_labels(probabilities, self.thresholds, self.config.alpha)
        return torch.where(kept, soft.argmax(1), IGNORE).to(torch.uint8)

    def step(self, batch: Mapping[str, Samples]) -> Iterator[Terms]:
        """Yield the loss of one step with the chosen regulariser."""
        x = batch["pool"]
        scores = self.model(x.images).logits
        if self.config.regulariser == "mrkld":
            logits, labels = self.at_loss_resolution(scores, x.labels)
            log_p = log_probabilities(logits)
            on_target = (labels != IGNORE) & (x.domain == 1)[:, None, None]
            yield {
                "pool": negative_log_likelihood(log_p, labels),
                "kld": divergence_from_uniform(log_p, on_target) * self.config.kld_weight,
            }
        else:
            log_p = log_probabilities(scores, x.labels.shape[-2:], self.align_corners)
            is_target = (x.domain == 1)[:, None, None]
            hard = negative_log_likelihood(log_p, x.labels.masked_fill(is_target, IGNORE))
            soft = soft_negative_log_likelihood(
                log_p, self._soft_target(x) * (is_target & (x.labels != IGNORE))[:, None]
            )
            yield {"pool": Term(hard.total + soft.total, hard.count + soft.count)}

    def _soft_target(self, x: Samples) -> Tensor:
        """Return soft labels [B, K, h, w] of the crops, from the stored scores of their images."""
        if x.scores is None:
            return torch.zeros(len(x.images), len(self.space), *x.labels.shape[-2:], device=x.images.device)
        size = x.labels.shape[-2:]
        probabilities = probabilities_in_window(x.scores, x.windows, x.sizes, size, align_corners=self.align_corners)
        soft, _ = soft_labels(probabilities, self.thresholds, self.config.alpha)
        return soft
