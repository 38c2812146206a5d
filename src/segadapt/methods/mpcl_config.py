"""Settings of MPCL (:mod:`segadapt.methods.mpcl`)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from segadapt.core.settings import Settings
from segadapt.pieces.losses import Over


class MPCLConfig(Settings):
    """Settings of MPCL; defaults are the paper's where it gives them, else ours (docs/methods/mpcl.md).

    Attributes:
        kind: a prototype is a point (``centroid``), or a normal distribution with one variance per dimension
            (``gaussian``) or with a whole covariance matrix (``full``; eq. 9).
        prototypes: K, prototypes per class (table IX: 5).
        channels: D, length of the projected features.
        contrast: lambda1, weight of L_con (table X: 0.1).
        cross_entropy: lambda2, weight of L_pce (table X: 0.1).
        in_class: the other prototypes of a pixel's own class are negatives too (table VI).
        domains: pixels of the mixed images that take part: pasted from the ``source``, of the ``target``, or
            ``both`` (table VII); pixels of weight zero never do.
        resolutions: resolutions of a ``hrda:`` network: the context (``low``), the detail (``high``), or ``both``
            (table VIII).
        temperature: tau, above 0, divides similarities in both losses (implementation details: 0.1).
        solver: assignment of pixels to prototypes: ``sinkhorn``, ``greenkhorn`` (the paper's), or ``nearest``
            (no equal shares).
        epsilon: entropy of the optimal transport, above 0; smaller is sharper.
        iterations: iterations of the solver; Greenkhorn needs many times as many as a class has pixels.
        momentum: alpha, in [0, 1], share of the old prototypes that a step keeps (eq. 20, 21; table XI).
        bank: features per class and resolution that statistics are taken from (table XI: 20 000); 0 takes
            the features of the step.
        insert: pixels per class that enter the bank in one step, at most.
        start: a class joins once its bank holds this many features, or is full.
        warmup: steps before any class joins; the projection is random at first.
        confident: target pixels enter the bank only where the teacher is sure of them.
        unit: features, and centroids, are scaled to length one.
        per_dimension: divide the log density of eq. 9 by D; otherwise it is one-hot at any useful temperature.
        floor: added to variances, times 1 / D; above 0.
        weighted: L_pce has the pixel weights w_M of L_con.
        over: means are taken over ``valid`` pixels, which take part, or over ``all``.
        predict: classifier of the model that is kept: the ``classifier`` of the network, or the ``prototypes``
            (eq. 10; table VI).
    """

    kind: Literal["centroid", "gaussian", "full"] = "gaussian"
    prototypes: int = Field(default=5, ge=1)
    channels: int = Field(default=256, ge=1)
    contrast: float = Field(default=0.1, ge=0)
    cross_entropy: float = Field(default=0.1, ge=0)
    in_class: bool = True
    domains: Literal["source", "target", "both"] = "both"
    resolutions: Literal["low", "high", "both"] = "both"
    temperature: float = Field(default=0.1, gt=0)
    solver: Literal["sinkhorn", "greenkhorn", "nearest"] = "sinkhorn"
    epsilon: float = Field(default=0.05, gt=0)
    iterations: int = Field(default=10, ge=1)
    momentum: float = Field(default=0.999, ge=0, le=1)
    bank: int = Field(default=20000, ge=0)
    insert: int = Field(default=1000, ge=1)
    start: int = Field(default=1000, ge=1)
    warmup: int = Field(default=500, ge=0)
    confident: bool = True
    unit: bool = True
    per_dimension: bool = True
    floor: float = Field(default=0.25, gt=0)
    weighted: bool = True
    over: Over = "valid"
    predict: Literal["classifier", "prototypes"] = "classifier"
