"""Settings of CPSL (:mod:`segadapt.methods.cpsl`)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from segadapt.core.settings import Scaling
from segadapt.data.strong import StrongAugmentation
from segadapt.methods.rectified import RectifiedConfig
from segadapt.methods.stage_config import OptimiserConfig, Without


class CPSLConfig(RectifiedConfig):
    """Settings of CPSL; defaults are the paper's where it gives them, else the authors' code's.

    Attributes:
        alpha: weight of the cross entropy of target pixels (eq. 2: 1; code: 0.1).
        beta: weight of their reverse cross entropy (eq. 2: 0; code: 1).
        strong: operations of the strong view: RandAugment and cut-out, blur of 1 pixel and colour jitter of 0.4 (code).
        optimiser: SGD (section 4.1: 1e-4 for the whole network, weight decay 2e-4; in the code, the head of the
            network learns 5 times as fast).
        labels: labels that are rectified: ``stored`` (p0), or ``none``: the assignment alone makes the labels
            (table 3, w/o ST).
        weights: weights that rectify them: ``assignment`` (P_SL), or ``none`` (table 3, w/o SL, together with
            ``self_labelling: 0``).
        self_labelling: lambda1, weight of L_SL (paper and code: 0.1).
        consistency: lambda2, weight of L_reg (paper and code: 5). The loss is a mean over the K classes, so a pixel has
            the weight lambda2 / K; 5 K / 19 acts like the published 5.
        consistency_of: views are compared by their ``prediction`` (eq. 13), which pulls the network towards the
            teacher's prediction before it is rectified; or by their ``assignment`` to C~, one way, as in ProDA (the
            authors' code).
        temperature: tau, above 0 (paper and code: 0.08).
        epsilon: weight of the entropy in the Sinkhorn algorithm, above 0 (paper and code: 0.05).
        iterations: iterations of the Sinkhorn algorithm (code: 3).
        samples: M, pixels per image (section 4.1: 512; code: 256).
        sampling: pixels are drawn ``balanced`` (eq. 9), or ``uniform`` (the authors' code).
        bank: number of pixels with remembered features (section 4.1: 65 536); 0 for none.
        partition: class masses r: ``aligned`` (eq. 11), ``fixed`` (the authors' code), or ``equal`` (table 3,
            w/o CB).
        shares_from: first r from the classes that the warmed-up network has ``predicted`` (eq. 10), or from the labels
            that the first C has ``rectified`` (ours; one more pass).
        share_momentum: a, in [0, 1], momentum of the class masses (eq. 11); not given in the paper.
        output_term: also assign by the teacher's class scores (the authors' code).
        head_initial: first C from ``prototypes`` (eq. 7), or ``random`` (table 3, w/o Init).
        head_optimiser: optimiser of C (section 4.1: 5e-4).
        cutmix: probability, in [0, 1], that a box of half the crop is pasted from the source (code: 0.5).
    """

    method: str = "cpsl"
    optimiser: OptimiserConfig = OptimiserConfig(lr=1e-4, head_factor=1.0, weight_decay=2e-4)
    alpha: float = Field(default=1.0, ge=0)
    beta: float = Field(default=0.0, ge=0)
    strong: StrongAugmentation = StrongAugmentation(blur=1.0, jitter=0.4)
    labels: Literal["stored", "none"] = "stored"
    weights: Literal["assignment", "none"] = "assignment"
    self_labelling: float = Field(default=0.1, ge=0)
    consistency: float = Field(default=5.0, ge=0)
    consistency_of: Literal["prediction", "assignment"] = "prediction"
    temperature: float = Field(default=0.08, gt=0)
    epsilon: float = Field(default=0.05, gt=0)
    iterations: int = Field(default=3, ge=1)
    samples: int = Field(default=512, ge=1)
    sampling: Literal["balanced", "uniform"] = "balanced"
    bank: int = Field(default=65_536, ge=0)
    partition: Literal["aligned", "fixed", "equal"] = "aligned"
    shares_from: Literal["predicted", "rectified"] = "predicted"
    share_momentum: Annotated[float, Scaling.MOMENTUM] = Field(default=0.999, ge=0, le=1)
    output_term: bool = False
    head_initial: Literal["prototypes", "random"] = "prototypes"
    head_optimiser: OptimiserConfig = OptimiserConfig(lr=5e-4, weight_decay=2e-4)
    cutmix: float = Field(default=0.5, ge=0, le=1)
    WITHOUT_SOURCE: ClassVar[Without] = {"cutmix": 0.0}

    @model_validator(mode="after")
    def _something_makes_labels(self) -> CPSLConfig:
        if self.labels == "none" and self.weights == "none":
            raise ValueError("labels and weights are both 'none': nothing is left to make pseudo labels of")
        if self.partition == "equal" and self.shares_from != "predicted":
            raise ValueError("shares_from says where class masses come from, and with partition=equal all are equal")
        return self
