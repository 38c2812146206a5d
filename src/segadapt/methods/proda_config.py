"""Settings of ProDA's first stage (:mod:`segadapt.methods.proda`)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from segadapt.core.settings import Scaling
from segadapt.methods.rectified import RectifiedConfig
from segadapt.methods.stage_config import OptimiserConfig, Without


class ProDAConfig(RectifiedConfig):
    """Settings of ProDA's first stage; defaults are the paper's for GTA5.

    Attributes:
        optimiser: SGD at one rate for all layers (section 5.1: 1e-4; code: weight decay 2e-4).
        labels: labels that are rectified: ``stored`` (p0, the paper's) or ``predicted`` (the network's own
            prediction of the moment, which degenerates; figure 4).
        weights: weights that rectify them: ``prototypes`` (eq. 4), the network's own ``prediction`` (figure 4),
            or ``none`` (no denoising; table 3).
        temperature: T, above 0, multiplies distances (section 4.1 and code: 1); the paper's tau is its inverse.
        temperature_at: total variance of the features, above 0, at which ``temperature`` holds: T is multiplied by
            the root of this over the total variance of the target features at the start of the stage, because
            distances grow with the root of the variance (the published network: 256, of 256 normalised channels);
            null takes ``temperature`` as it is.
        structure: gamma1, weight of the prototypical consistency (table 10: 10); 0 leaves it out. The loss is a mean
            over the K classes, so a pixel has the weight gamma1 / K; 10 K / 19 acts like the published 10.
        regulariser: gamma2, weight of eq. 10 (table 10: 0.1 on GTA5, 0 on SYNTHIA); a mean over classes too.
        prototype_momentum: lambda, in [0, 1] (table 5: 0.9999).
        prototype_update: prototypes move once per ``step``, to the means over the pixels of the batch (eq. 6), or
            once per ``image`` (code), which with B images is up to B times as far.
        prototype_initial: first prototypes from ``target`` images with predicted classes (eq. 5), from
            ``source`` images with their labels (table 6), or from the pixels of source images whose label the
            network predicts, ``source_right`` (code).
        prototype_mean: first prototypes are means over all ``pixels`` of a class (eq. 5), or means over the means of
            ``images`` (code).
        least_pixels: a class with fewer pixels is left out of the mean of a batch or an image (code: 10).
    """

    method: str = "proda"
    optimiser: OptimiserConfig = OptimiserConfig(lr=1e-4, head_factor=1.0, weight_decay=2e-4)
    labels: Literal["stored", "predicted"] = "stored"
    weights: Literal["prototypes", "prediction", "none"] = "prototypes"
    temperature: float = Field(default=1.0, gt=0)
    temperature_at: float | None = Field(default=None, gt=0)
    structure: float = Field(default=10.0, ge=0)
    regulariser: float = Field(default=0.1, ge=0)
    prototype_momentum: Annotated[float, Scaling.MOMENTUM] = Field(default=0.9999, ge=0, le=1)
    prototype_update: Literal["step", "image"] = "step"
    prototype_initial: Literal["target", "source", "source_right"] = "target"
    prototype_mean: Literal["pixels", "images"] = "pixels"
    least_pixels: int = Field(default=10, ge=1)
    WITHOUT_SOURCE: ClassVar[Without] = {"prototype_initial": "target"}
