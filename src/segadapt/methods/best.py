"""The library's own method: MPCL on MIC, with the target's colours, a mirrored view, pixels chosen per class.

Each part has a switch; what each brings on three tasks stands in docs/methods/best.md.

    Input: source (x_s, y_s), target x_t; network G
    G~ = G (the teacher)
    repeat
        x_s part of the way to the colours of a target image, strong colours      (augmentation)
        L_s = CE(G(x_s), y_s);  L_fd of x_s                                       (DAFormer)
        in the first half of the steps only these                                 (source_share)
        p = mean of softmax(G~(x_t)) and of its mirrored view                     (teacher_flip)
        y_t = argmax p;  w_t = 1 where p is as sure as G~ usually is of class y_t,
            exp(-(mu - max p)^2 / (2 n^2 sigma^2)) below                          (choice; SoftMatch, ICLR 2023)
        x_m, y_m, w_m mixed of x_s and x_t;  L_t = w_m CE(G(x_m), y_m)            (ClassMix)
        L_con, L_pce of the features of x_m with y_m, w_m                         (MPCL)
        L_M = w_t CE(G(M * colours(x_t)), y_t) of masked images                   (MIC)
        step on L_s + lambda L_fd + L_t + lambda1 L_con + lambda2 L_pce + lambda_M L_M
        G~ follows G;  mu_c, sigma_c follow the confidence of class c
    return G~                                                                     (keep)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator
from torch import Tensor

from segadapt.core.settings import Scaling
from segadapt.data.loader import Samples
from segadapt.data.streams import Augmentation
from segadapt.labels import LabelSpace
from segadapt.methods.environment import Environment
from segadapt.methods.mean_teacher import PseudoLabels
from segadapt.methods.method import Terms
from segadapt.methods.mic import MIC, MICConfig
from segadapt.methods.mpcl_config import MPCLConfig
from segadapt.methods.stage_config import Without
from segadapt.models.segmenter import Segmenter
from segadapt.pieces.class_confidence import ClassConfidence


class BestConfig(MICConfig):
    """Settings of the library's own method; what is not said here is as in MIC.

    Attributes:
        mpcl: several prototypes per class beside the classifier, whose losses shape the features; null for none.
        source_share: share of the steps, in [0, 1), that learn the source alone before the target is learnt. Labels are
            then those of a teacher that has met strong colours already.
        choice: weight of a pseudo label: per ``class``, by how sure the teacher usually is of that class, or per
            ``image``, the q of DACS.
        choice_width: n, of the Gaussian below the mean confidence of a class, in standard deviations, above 0
            (SoftMatch: 0.5).
        choice_momentum: share of the moments of a class's confidence that each step keeps, in [0, 1).
        keep: the network that is scored and kept: the ``teacher``, an average of the students, or the last ``student``.
    """

    method: str = "best"
    augmentation: Augmentation = Augmentation(jitter=0.5, colour_transfer="lab_random")
    feature_classes: Literal["things", "all"] | tuple[str, ...] = "all"
    teacher_flip: bool = True
    mpcl: MPCLConfig | None = MPCLConfig()
    source_share: float = Field(default=0.5, ge=0, lt=1)
    choice: Literal["class", "image"] = "class"
    choice_width: float = Field(default=0.5, gt=0)
    choice_momentum: Annotated[float, Scaling.MOMENTUM] = Field(default=0.999, ge=0, lt=1)
    keep: Literal["teacher", "student"] = "teacher"
    WITHOUT_SOURCE: ClassVar[Without] = {**(MICConfig.WITHOUT_SOURCE or {}), "source_share": 0.0}

    @model_validator(mode="after")
    def _share_of_steps(self) -> BestConfig:
        if self.epochs is not None and self.source_share:
            raise ValueError(
                "source_share is a share of steps, and the stage counts epochs; give steps, or source_share=0"
            )
        return self

    @property
    def first_steps(self) -> int:
        """Steps on the source alone."""
        return round(self.source_share * (self.steps or 0))


class Best(MIC):
    """MPCL on MIC whose teacher is surer, chooses pixels class by class, and is kept.

    State: the state of MIC, and ``sureness``, moments of the teacher's confidence per class.
    """

    Config = BestConfig
    config: BestConfig

    def __init__(self, config: BestConfig, model: Segmenter, space: LabelSpace, reference: Segmenter | None = None):
        super().__init__(config, model, space, reference)
        self.sureness = ClassConfidence(len(space))
        self._seen: Tensor | None = None

    def step(self, batch: Mapping[str, Samples]) -> Iterator[Terms]:
        """Yield the lines of the box; the first steps are those of source training."""
        if self.teacher.done < self.config.first_steps:
            yield self.source_terms(batch["source"])
        else:
            yield from super().step(batch)

    def pseudo_labels(self, t: Samples) -> PseudoLabels:
        """Return y_t and w_t."""
        pseudo = super().pseudo_labels(t)
        self._seen = self.sureness.tally(pseudo.labels, pseudo.confidence, pseudo.trusted)
        if self.config.choice == "image":
            return pseudo
        weights = self.sureness.weights(pseudo.labels, pseudo.confidence, self.config.choice_width)
        self.measured["weight of target pixels"] = weights.mean()
        return pseudo._replace(weights=weights * pseudo.trusted)

    def after_step(self, environment: Environment) -> None:
        """Let the teacher follow, and the moments of its confidence."""
        super().after_step(environment)
        if self._seen is not None:
            environment.sum([self._seen])
            self.sureness.follow(self._seen, self.config.choice_momentum)

    def result(self) -> Segmenter:
        """Return the teacher or the network, with prototypes as its classifier if they are to predict."""
        kept = self.teacher.network if self.config.keep == "teacher" else self.model
        return kept if self.mpcl is None else self.mpcl.result(kept)
