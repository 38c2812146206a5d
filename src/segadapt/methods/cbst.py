"""Class-balanced self-training (CBST), with plain self-training (ST) and spatial priors (SP).

Zou, Yu, Kumar, Wang: Unsupervised Domain Adaptation for Semantic Segmentation via Class-Balanced
Self-Training, ECCV 2018. Equation and algorithm numbers are the paper's.

    Input: source images x_s with labels y_s, target images x_t, network G trained on the source
    for round r = 0 .. R-1
        p = min(p0 + r dp, p_max)                                portion of target pixels to label
        # a) fix G, choose the pseudo labels
        P_t = softmax(up(G(x_t)))           [K, H, W]            every target image
        P_t = q_c(n) P_t                                         SP: spatial prior of class c at pixel n (eq. 9)
        lambda_c = exp(-k_c): the confidence ranked p |M_c| in   M_c = {max_c' P : argmax P = c} (algorithm 2);
                   one lambda over all classes for ST            (algorithm 1)
        y_t = argmax_c P_t,c / lambda_c where its ratio is >= 1, (eq. 8; eq. 5 for ST)
              else ignored
        # b) fix the pseudo labels, train G
        for batches from {a portion s_r of the source} and {all target images}
            L = CE(G(x), y) over all labelled pixels of both domains     (eq. 6 given y_t)
            step on L
        with crops centred on rare classes of the pseudo labels          (hard-class mining)

Every image of a round is seen ``epochs`` times; the weights go on from round to round, the optimiser begins anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from segadapt.core.randomness import Purpose, generator_for
from segadapt.data.dataset import Dataset
from segadapt.data.loader import Part, Samples, Stream
from segadapt.data.resize import Scales
from segadapt.labels import LabelMap, LabelSpace
from segadapt.methods.environment import Environment
from segadapt.methods.method import Method, Terms, labelled_part
from segadapt.methods.ranking import rank_target
from segadapt.methods.stage_config import StageConfig, Without
from segadapt.models.segmenter import Segmenter
from segadapt.pieces.losses import cross_entropy, nearest_labels
from segadapt.pieces.mining import mined_classes, wanted_classes
from segadapt.pieces.priors import PriorScale, apply_prior, spatial_prior
from segadapt.pieces.pseudo_labels import confidence_and_prediction, select
from segadapt.pieces.resizing import upsample
from segadapt.pieces.thresholds import ClassThresholds


class CBSTConfig(StageConfig):
    """Settings of CBST; defaults are the values of the paper's appendix A where it gives them.

    Attributes:
        policy: thresholds are ``class_balanced`` (CBST, eq. 8) or ``global`` (ST, eq. 5).
        spatial_prior: multiply target probabilities by source label frequencies (SP, eq. 9).
        prior_scale: they sum to 1 over the places of each ``class`` (section 4.4), or over the classes at each
            ``place``.
        rounds: R, number of rounds (appendix A: 3).
        epochs: passes over the pool per round, unless ``steps`` is given (appendix A: 2).
        portion: p0, share of the target pixels that are labelled in the first round, in (0, 1] (section 4.3: 0.2).
        portion_step: dp, growth of the portion per round (section 4.3: 0.05).
        portion_max: p_max, largest portion that it grows to, in (0, 1] (section 4.3: 0.5).
        source_portion: share of the source images that takes part in the first round, in [0, 1] (code: 0.03);
            null takes as many as there are target images, in every round (in the code's pool 54 % are source).
        source_portion_step: growth of this share per round (code: 0.0025).
        source_portion_max: largest share that it grows to, in [0, 1] (code: 0.06).
        source_policy: ``cumulative`` keeps the source images of earlier rounds (the CBST code), ``redrawn`` draws all
            of them again (the CRST code).
        mining: probability that a target crop is centred on a rare class, in [0, 1] (code: 0.8).
        mining_share: classes with a smaller share of the predicted pixels are rare, in [0, 1] (section 5: 0.001).
        mining_source: mine source crops too (the CBST code).
        mining_fallback: where no rare class is present, take one of the three rarest (the CBST code).
        lr_factor: learning-rate factor from round to round, above 0.
        target_scales: range of the scales of target crops; null takes the range of ``augmentation``.
        subsample: rank only every n-th confidence of a class in an image (code: 4; 1 ranks all).
        loss_resolution: ``image`` upsamples the logits (the CRST code), ``logits`` subsamples the labels
            (the CBST code).
    """

    method: str = "cbst"
    policy: Literal["class_balanced", "global"] = "class_balanced"
    spatial_prior: bool = False
    prior_scale: PriorScale = "class"
    rounds: int = Field(default=3, ge=1)
    epochs: float | None = Field(default=2, gt=0)
    portion: float = Field(default=0.2, gt=0, le=1)
    portion_step: float = Field(default=0.05, ge=0)
    portion_max: float = Field(default=0.5, gt=0, le=1)
    source_portion: float | None = Field(default=0.03, ge=0, le=1)
    source_portion_step: float = Field(default=0.0025, ge=0)
    source_portion_max: float = Field(default=0.06, ge=0, le=1)
    source_policy: Literal["cumulative", "redrawn"] = "cumulative"
    mining: float = Field(default=0.8, ge=0, le=1)
    mining_share: float = Field(default=1e-3, ge=0, le=1)
    mining_source: bool = False
    mining_fallback: bool = True
    lr_factor: float = Field(default=1.0, gt=0)
    target_scales: Scales | None = None
    subsample: int = Field(default=1, ge=1)
    loss_resolution: Literal["image", "logits"] = "image"
    WITHOUT_SOURCE: ClassVar[Without] = {"spatial_prior": False}


class CBST(Method):
    """Self-training in rounds with class-wise thresholds.

    State: ``thresholds`` [K], lambda_c of the current round; ``counts`` [K], pixels predicted as
    each class, from which rarity follows. The spatial prior of SP is computed again in every round.
    """

    Config = CBSTConfig
    config: CBSTConfig
    thresholds: Tensor
    counts: Tensor

    def __init__(self, config: CBSTConfig, model: Segmenter, space: LabelSpace):
        super().__init__(config, model, space)
        self.register_buffer("thresholds", torch.ones(len(space)))
        self.register_buffer("counts", torch.zeros(len(space), dtype=torch.int64))

    @property
    def rounds(self) -> int:
        """R, the number of rounds."""
        return self.config.rounds

    def portion(self, round_index: int) -> float:
        """Return p of a round: it grows by a fixed step up to a maximum (section 4.3)."""
        c = self.config
        return grown(c.portion, c.portion_step, c.portion_max, round_index)

    def prepare(self, round_index: int, environment: Environment) -> None:
        """Choose thresholds, then pseudo labels, for the whole target set: step a)."""
        c, p, prior = self.config, self.portion(round_index), self._prior(environment)
        predictions = environment.predict_target(self.model, c.inference, keep=self.keeps_scores)
        ranking = ClassThresholds(len(self.space), p, every=c.subsample, pooled=c.policy == "global")
        rank_target(ranking.to(self.thresholds.device), predictions, environment, prior)
        self.thresholds.copy_(ranking.thresholds())
        self.counts.copy_(ranking.counts)
        environment.report({"portion": p, "thresholds": self.thresholds, "predicted": self.counts})
        for seen in predictions:
            probabilities = seen.probabilities[None]
            confidence, _ = confidence_and_prediction(probabilities)
            weighted = probabilities if prior is None else apply_prior(probabilities, prior)
            environment.keep_label(seen.index, self.pseudo_label(weighted)[0], confidence[0])

    def pseudo_label(self, probabilities: Tensor) -> Tensor:
        """Return pseudo labels [B, H, W] of (prior-weighted) probabilities [B, K, H, W] (eq. 8, eq. 5)."""
        return select(probabilities, self.thresholds)

    def _prior(self, environment: Environment) -> Tensor | None:
        if not self.config.spatial_prior:
            return None
        frequencies = environment.source_frequencies(environment.target_shape())
        return spatial_prior(frequencies, scale=self.config.prior_scale).to(self.thresholds.device)

    def streams(self, round_index: int, environment: Environment) -> dict[str, Stream]:
        """Return a growing share of the source pooled with the pseudo-labelled target: step b)."""
        c, focus = self.config, self._focus()
        chosen = self._source_subset(round_index, environment)
        mined = {"focus": focus if c.mining_source else None, "focus_probability": c.mining}
        source = labelled_part(chosen, 0, environment.source_size, c, **mined)
        augmentation = c.augmentation
        if c.target_scales is not None:
            augmentation = augmentation.model_copy(update={"scales": c.target_scales})
        scores = environment.kept_scores if self.keeps_scores else None
        labelled = environment.pseudo_labelled()
        target = Part(labelled, 1, environment.target_size, augmentation, focus, c.mining, scores)
        parts = (source, target) if len(source.dataset) else (target,)
        return {"pool": Stream(parts, c.batch_size, f"{c.name}/{round_index}")}

    def _source_subset(self, round_index: int, environment: Environment) -> Dataset:
        c = self.config
        if not environment.has_source:
            return environment.target.subset(())  # the pool is the target alone
        images = len(environment.source)
        if c.source_portion is None:
            wanted = min(len(environment.target), images)
        else:
            share = grown(c.source_portion, c.source_portion_step, c.source_portion_max, round_index)
            wanted = int(share * images + 0.5)
        draw = round_index if c.source_policy == "redrawn" else 0
        order = generator_for(environment.seed, Purpose.SOURCE_SUBSET, draw).permutation(images)
        return environment.source.subset([int(i) for i in order[:wanted]])

    def _focus(self) -> Callable[[LabelMap], Sequence[int]]:
        """Return the rule that names the classes a crop may be centred on; rarity follows from predictions."""
        mining = mined_classes(self.counts.cpu(), self.config.mining_share)
        return partial(wanted_classes, mining=mining, fallback=self.config.mining_fallback)

    def step(self, batch: Mapping[str, Samples]) -> Iterator[Terms]:
        """Yield the cross entropy over the labelled pixels of both domains, pooled."""
        x = batch["pool"]
        logits, labels = self.at_loss_resolution(self.model(x.images).logits, x.labels)
        yield {"pool": cross_entropy(logits, labels)}

    def at_loss_resolution(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Bring logits and labels to one resolution."""
        if self.config.loss_resolution == "image":
            return upsample(logits, labels.shape[-2:], self.align_corners), labels
        return logits, nearest_labels(labels, logits.shape[-2:], at="centre")

    @property
    def keeps_scores(self) -> bool:
        """Whether training needs the class scores beside the hard labels."""
        return False

    def learning_rate_factor(self, round_index: int) -> float:
        """Return the factor of a round: geometric decay."""
        return self.config.lr_factor**round_index


def grown(start: float, step: float, most: float, round_index: int) -> float:
    """Return a share that grows from round to round up to ``most``, but is never below its start."""
    return min(start + round_index * step, max(start, most))
