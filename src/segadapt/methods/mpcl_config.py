"""Settings of MPCL (:mod:`segadapt.methods.mpcl`)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from segadapt.core.settings import Scaling, Settings
from segadapt.models.prototype_net import Branch
from segadapt.pieces.losses import Over


class MPCLConfig(Settings):
    """Settings of MPCL; defaults are the paper's where it gives them, else ours (docs/methods/mpcl.md).

    Attributes:
        kind: a prototype is a point (``centroid``), or a normal distribution with one variance per dimension
            (``gaussian``) or with a whole covariance matrix (``full``; eq. 9).
        prototypes: K, prototypes per class (table IX: 5).
        channels: D, length of the projected features.
        branch: how features become F: a 1x1 ``projection`` of the decoder's features, or a ``fusion`` of the encoder's
            maps in a decoder of their own, built like DAFormer's, and then a 1x1 projection (section IV-B can be read
            either way); for networks that name their encoder's maps.
        contrast: lambda1, weight of L_con (table X: 0.1).
        cross_entropy: lambda2, weight of L_pce (table X: 0.1).
        in_class: the other prototypes of a pixel's own class are negatives too (table VI).
        domains: pixels of the mixed images that take part: pasted from the ``source``, of the ``target``, or
            ``both`` (table VII); pixels of weight zero never do.
        resolutions: resolutions of a ``hrda:`` network: the context (``low``), the detail (``high``), or ``both``
            (table VIII).
        source_pass: L_con of the host's source images too (eq. 15), beside the mixed images of eq. 17; its pixels enter
            no bank.
        temperature: tau, above 0, divides similarities in both losses (implementation details: 0.1).
        solver: assignment of pixels to prototypes: ``sinkhorn``, ``greenkhorn`` (the paper's), or ``nearest``
            (no equal shares).
        epsilon: entropy of the optimal transport, above 0; smaller is sharper.
        iterations: iterations of the solver; Greenkhorn needs many times as many as a class has pixels.
        least_pixels: a class with fewer pixels per prototype in the batch takes the nearest prototypes; equal shares
            of a few pixels, which show one object, push most of them to a prototype that is not theirs.
        momentum: alpha, in [0, 1], share of the old prototypes that a step keeps (eq. 20, 21; table XI).
        bank: features per class and resolution that statistics are taken from (table XI: 20 000); 0 takes
            the features of the step. It remembers ``bank / insert`` of the steps that show much of a class.
        insert: pixels per class that enter the bank in one step, at most.
        start: a class joins once its bank holds this many features, or is full.
        warmup: steps before any class joins, while the features of the network change most.
        collect: banks begin to fill this many steps before ``warmup``, and are emptied this many before ``restart``, so
            that first clusters are parts of a class and not ages of the network.
        restart: step from which on each class is clustered anew by k-means, once its emptied bank holds ``start``
            features; null clusters once. Above ``warmup + collect``.
        confident: target pixels enter the bank only where the teacher is sure of them.
        unit: features, and centroids, are scaled to length one.
        per_dimension: divide the log density of eq. 9 by D; otherwise it is one-hot at any useful temperature.
        floor: added to variances, times 1 / D; above 0. The variances of D = 256 features of length one add up to
            about 0.2 per prototype, so 0.25 makes normal distributions almost round (they agree with the nearest
            centroid on 93 to 97 % of the pixels); 0.02 to 0.05 lets dimensions differ.
        weighted: L_pce has the pixel weights w_M of L_con.
        over: means are taken over ``valid`` pixels, which take part, or over ``all``.
        predict: classifier of the model that is kept: the ``classifier`` of the network, or the ``prototypes``
            (eq. 10; table VI).
    """

    kind: Literal["centroid", "gaussian", "full"] = "gaussian"
    prototypes: int = Field(default=5, ge=1)
    channels: int = Field(default=256, ge=1)
    branch: Branch = "projection"
    contrast: float = Field(default=0.1, ge=0)
    cross_entropy: float = Field(default=0.1, ge=0)
    in_class: bool = True
    domains: Literal["source", "target", "both"] = "both"
    resolutions: Literal["low", "high", "both"] = "both"
    source_pass: bool = False
    temperature: float = Field(default=0.1, gt=0)
    solver: Literal["sinkhorn", "greenkhorn", "nearest"] = "sinkhorn"
    epsilon: float = Field(default=0.05, gt=0)
    iterations: int = Field(default=10, ge=1)
    least_pixels: int = Field(default=20, ge=1)
    momentum: Annotated[float, Scaling.MOMENTUM] = Field(default=0.999, ge=0, le=1)
    bank: int = Field(default=20000, ge=0)
    insert: int = Field(default=1000, ge=1)
    start: int = Field(default=1000, ge=1)
    warmup: Annotated[int, Scaling.STEPS] = Field(default=500, ge=0)
    collect: int = Field(default=50, ge=0)
    restart: Annotated[int | None, Scaling.STEPS] = Field(default=None, ge=1)
    confident: bool = True
    unit: bool = True
    per_dimension: bool = True
    floor: float = Field(default=0.25, gt=0)
    weighted: bool = True
    over: Over = "valid"
    predict: Literal["classifier", "prototypes"] = "classifier"

    @model_validator(mode="after")
    def _restarts_after_the_start(self) -> MPCLConfig:
        if self.restart is not None and self.restart <= self.warmup + self.collect:
            raise ValueError(
                f"restart is {self.restart}; give a step above warmup + collect = {self.warmup + self.collect}, "
                "or null to cluster once"
            )
        return self
