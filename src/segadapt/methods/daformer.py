"""DAFormer: online self-training on mixed images; DACS with rare classes sampled and ImageNet features kept.

Hoyer, Dai, Van Gool: DAFormer: Improving Network Architectures and Training Strategies for
Domain-Adaptive Semantic Segmentation, CVPR 2022. Without rare-class sampling and feature distance it is DACS
(Tranheden, Olsson, Pinto, Svensson, WACV 2021); on a ``hrda:`` network it is HRDA (Hoyer et al., ECCV 2022);
with ``mpcl`` it is MPCL (:mod:`segadapt.methods.mpcl`).

    Input: source (x_s, y_s), target x_t; network G; F its encoder, F_I the encoder with ImageNet weights
    G~ = G (the teacher)
    repeat
        x_s with a class drawn from softmax_c((1 - f_c) / T)                                (eq. 11)
        L_s = CE(G(x_s), y_s)                                                               (eq. 1)
        L_fd = mean |F(x_s) - F_I(x_s)| over cells of thing classes                         (eq. 6 to 9)
        p = softmax(G~(x_t));  y_t = argmax p;  q = share of pixels with max p > tau        (eq. 2 to 4)
        half of the classes of x_s pasted onto x_t: x_m, y_m, w_m = 1 and q;  colours, blur (ClassMix)
        L_t = w_m CE(G(x_m), y_m)                                                           (eq. 3)
        L_con, L_pce of the features of x_m with y_m, w_m                                   (MPCL alone)
        step on L_s + lambda L_fd + L_t + lambda1 L_con + lambda2 L_pce
        G~ = alpha G~ + (1 - alpha) G                                                       (eq. 5)
        the prototypes follow the features                                                  (MPCL alone)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from segadapt.core.moving import sent
from segadapt.data.loader import Samples, Stream
from segadapt.data.rare_class_sampling import CROP_SHARE, MIN_SHARE, rare_class_sampling
from segadapt.errors import RequestError
from segadapt.labels import IGNORE, LabelSpace
from segadapt.methods.environment import Environment
from segadapt.methods.imagenet_features import ImageNetFeatures, ImageNetFeaturesConfig
from segadapt.methods.mean_teacher import MeanTeacher, MeanTeacherConfig, PseudoLabels, donors, recoloured
from segadapt.methods.method import Method, OnlineLabels, Terms, Trained, paired_streams, source_part, watched_part
from segadapt.methods.mpcl import MPCL
from segadapt.methods.mpcl_config import MPCLConfig
from segadapt.methods.stage_config import OptimiserConfig, ScheduleConfig, StageConfig, Without
from segadapt.methods.supervision import segmentation_terms
from segadapt.models.multires import MultiRes
from segadapt.models.norm import NormMode
from segadapt.models.prototype_net import PrototypeNet, prototype_branch
from segadapt.models.segmenter import Output, Segmenter
from segadapt.pieces.classmix import Mixed, classes_present, half_of, where_chosen
from segadapt.pieces.losses import Over
from segadapt.pieces.terms import Term


class DAFormerConfig(MeanTeacherConfig, ImageNetFeaturesConfig, StageConfig):
    """Settings of DAFormer; defaults are the values of the GTA5 experiments.

    Attributes:
        initial: where the weights come from; ``scratch`` is ImageNet weights (paper).
        norm: batch normalisation of the network (code: ``train``).
        optimiser: AdamW (paper: 6e-5 for the encoder, 10 times as fast for the head, weight decay 0.01).
        schedule: linear warm-up of 1500 steps, then linear decay (paper).
        mix: classes are drawn from the classes in the source ``image`` (the paper) or in the whole source ``batch``,
            with "ignored" as one of them (the authors' code).
        rare_temperature: T, above 0 (paper: 0.01); null samples source images uniformly.
        rare_share: an image can be drawn for a class that fills more than this share of it, in [0, 1)
            (the code's 3000 pixels of a GTA5 image).
        rare_crop_share: a crop is accepted with more than this share of the class, in [0, 1)
            (the code's 1500 pixels of 512x512).
        over: means are taken over ``all`` pixels, as in the authors' code, or over ``valid`` (labelled) ones.
        two_resolutions: refuse a network that does not look at two resolutions; ``hrda`` sets it.
        mpcl: several prototypes per class beside the classifier; null for none; ``mpcl`` sets it.
    """

    method: str = "daformer"
    initial: str = "scratch"
    norm: NormMode = "train"
    optimiser: OptimiserConfig = OptimiserConfig(name="adamw", lr=6e-5, head_factor=10.0, weight_decay=0.01)
    schedule: ScheduleConfig = ScheduleConfig(name="poly", power=1.0, warmup=1500)
    mix: Literal["image", "batch"] = "image"
    rare_temperature: float | None = Field(default=0.01, gt=0)
    rare_share: float = Field(default=MIN_SHARE, ge=0, lt=1)
    rare_crop_share: float = Field(default=CROP_SHARE, ge=0, lt=1)
    over: Over = "all"
    two_resolutions: bool = False
    mpcl: MPCLConfig | None = None
    WITHOUT_SOURCE: ClassVar[Without] = {"feature_distance": 0.0, "rare_temperature": None}

    @model_validator(mode="after")
    def _mpcl_has_prototypes(self) -> DAFormerConfig:
        if self.method == "mpcl" and self.mpcl is None:
            raise ValueError("mpcl is null, and without prototypes MPCL is DAFormer; set method=daformer instead")
        return self

    @property
    def learns_from(self) -> str | None:
        """The network with its initial weights, unless the stage begins with them."""
        return "scratch" if self.feature_distance and self.initial != "scratch" else None


class DAFormer(Method):
    """Self-training with a mean teacher on images mixed of both domains.

    State: the ``teacher`` G~; ``imagenet``, F_I, unless ``feature_distance`` is 0; ``mpcl``, prototypes, if set.

    Args:
        config: see :class:`DAFormerConfig`.
        model: G.
        space: label space of the run.
        reference: the network with its initial weights; None where ``model`` begins with them.
    """

    Config = DAFormerConfig
    config: DAFormerConfig

    def __init__(self, config: DAFormerConfig, model: Segmenter, space: LabelSpace, reference: Segmenter | None = None):
        super().__init__(config, model, space)
        scales = 2 if isinstance(model, MultiRes) else 1
        self.mpcl: MPCL | None = None
        if config.mpcl is not None:
            branch = prototype_branch(model, config.mpcl.channels, config.mpcl.branch)
            self.mpcl = MPCL(config.mpcl, len(space), branch, scales)
        self.teacher = MeanTeacher(model, config, config.norm)
        self.imagenet = (
            ImageNetFeatures(config, config.name, model, reference, space) if config.feature_distance else None
        )
        if config.two_resolutions and scales == 1:
            name = model.architecture.get("name", "lite")
            raise RequestError(
                f"stage '{config.name}': HRDA needs two resolutions; set {config.name}.network.name=hrda:{name}, "
                f"or model.name=hrda:{name} where the stage starts from scratch"
            )

    def streams(self, round_index: int, environment: Environment) -> dict[str, Stream]:
        """Return labelled source crops, rare classes more often (eq. 11), and target crops in their own colours."""
        c, rare = self.config, None
        if c.rare_temperature is not None:
            rare = rare_class_sampling(environment.source_shares(), c.rare_temperature, c.rare_share, c.rare_crop_share)
        return paired_streams(source_part(environment, c, rare=rare), watched_part(environment, c), c, round_index)

    def step(self, batch: Mapping[str, Samples]) -> Iterator[Terms]:
        """Yield the lines of the box, one backward pass per forward pass of the student."""
        s, t = batch.get("source"), batch["target"]
        if s is not None:
            yield self.source_terms(s)  # L_s, L_fd
        pseudo = self.pseudo_labels(t)  # y_t, q
        yield self.mixed_terms(*self.mixed(s, t, pseudo))  # x_m, y_m, w_m; L_t; L_con and L_pce of MPCL

    def after_step(self, environment: Environment) -> None:
        """Let the teacher follow, quickly at first (eq. 5), and the prototypes of MPCL."""
        if self.mpcl is not None:
            self.mpcl.follow(environment, self.config.batch_size)
            self.measured |= self.mpcl.memory.measured()
        self.teacher.follow(self.model)

    # ---- lines of the box ----

    def source_terms(self, s: Samples) -> Terms:
        """Return L_s and lambda L_fd, and lambda1 L_con of MPCL if it asks for it, of one forward pass."""
        source = self.model(s.images)
        terms = self.losses("source", source, s.labels)
        if self.imagenet is not None:
            assert source.deep is not None
            terms["feature distance"] = self.imagenet.distance(source.deep, s)
        if self.mpcl is not None and self.mpcl.config.source_pass:
            terms |= self.mpcl.source_terms(source, s.labels)
        return terms

    def pseudo_labels(self, t: Samples) -> PseudoLabels:
        """Return y_t and q of the teacher; the trusted labels and q go to the record."""
        pseudo = self.teacher.label(t, self.align_corners)
        self.measured["confident share"] = pseudo.share
        self.online = OnlineLabels("target", {"teacher": torch.where(pseudo.trusted, pseudo.labels, IGNORE)})
        return pseudo

    @torch.no_grad()
    def mixed(self, s: Samples | None, t: Samples, pseudo: PseudoLabels) -> tuple[Tensor, Mixed]:
        """Return x_m, y_m and w_m: half of the classes of each donor crop on the target crop of its place."""
        donor = donors(s, t, pseudo)
        present = classes_present(donor.labels, len(self.space))
        if self.config.mix == "batch":
            present = present.any(0, keepdim=True).expand_as(present)
        else:
            present[:, -1] = False  # "ignored" is not a class
        chosen = half_of(present, sent(torch.rand(present.shape), present.device))
        pasted = where_chosen(donor.labels, chosen)
        images = torch.where(pasted[:, None], donor.images, t.images)
        labels, weights, sure = (torch.where(pasted, a, b) for a, b in zip(donor[1:], pseudo.of_pixels, strict=True))
        return images, Mixed(labels, weights, pasted, sure)

    def mixed_terms(self, images: Tensor, mixed: Mixed) -> Terms:
        """Return L_t, and lambda1 L_con and lambda2 L_pce of MPCL, of one forward pass."""
        output = self.model(recoloured(images, self.config))
        terms = self.losses("mixed", output, mixed.labels, mixed.weights)
        if self.mpcl is not None:
            terms |= self.mpcl.terms(output, mixed)
        return terms

    def losses(self, name: str, output: Output, labels: Tensor, weights: Tensor | None = None) -> dict[str, Term]:
        """Return the cross entropy of a batch, of both resolutions where the network has two."""
        return segmentation_terms(
            output, labels, weights=weights, align_corners=self.align_corners, prefix=name, over=self.config.over
        )

    # ---- MPCL beside the network ----

    def trained(self) -> dict[str, Trained]:
        """Return the network, and the projection of MPCL at the rate of a head."""
        if self.mpcl is None:
            return super().trained()
        rate = self.config.optimiser.lr * self.config.optimiser.head_factor
        optimiser = self.config.optimiser.model_copy(update={"lr": rate})
        return {**super().trained(), "mpcl": Trained(self.mpcl.projection, optimiser)}

    def result(self) -> Segmenter:
        """Return the network, with prototypes as its classifier if they are to predict."""
        return self.model if self.mpcl is None else self.mpcl.result(self.model)

    def prototype_view(self) -> PrototypeNet | None:
        """Return the network with its prototypes as classifier, also where the stage keeps another."""
        return None if self.mpcl is None else self.mpcl.around(self.model)
