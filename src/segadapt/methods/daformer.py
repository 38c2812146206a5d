"""DAFormer: online self-training on mixed images; DACS with rare classes sampled and ImageNet features kept.

Hoyer, Dai, Van Gool: DAFormer: Improving Network Architectures and Training Strategies for
Domain-Adaptive Semantic Segmentation, CVPR 2022. Without rare-class sampling and feature distance it is DACS
(Tranheden, Olsson, Pinto, Svensson, WACV 2021); on a ``hrda:`` network it is HRDA (Hoyer et al., ECCV 2022).

    Input: source (x_s, y_s), target x_t; network G; F its encoder, F_I that of the ImageNet weights
    G~ = G (the teacher)
    repeat
        x_s with a class drawn from softmax_c((1 - f_c) / T)                                (eq. 11)
        L_s = CE(G(x_s), y_s)                                                               (eq. 1)
        L_fd = mean |F(x_s) - F_I(x_s)| over cells of thing classes                         (eq. 6 to 9)
        p = softmax(G~(x_t));  y_t = argmax p;  q = share of pixels with max p > tau        (eq. 2 to 4)
        half of the classes of x_s pasted onto x_t: x_m, y_m, w_m = 1 and q;  colours, blur (ClassMix)
        L_t = w_m CE(G(x_m), y_m)                                                           (eq. 3)
        step on L_s + lambda L_fd + L_t
        G~ = alpha G~ + (1 - alpha) G                                                       (eq. 5)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from segadapt.data.loader import Part, Samples, Stream
from segadapt.data.rare_classes import CROP_SHARE, MIN_SHARE, rare_classes
from segadapt.errors import RequestError
from segadapt.labels import IGNORE, THINGS, LabelSpace
from segadapt.methods.environment import Environment
from segadapt.methods.mean_teacher import MeanTeacher, MeanTeacherConfig, PseudoLabels, recoloured
from segadapt.methods.method import OnlineLabels, Terms, labelled_part, paired_streams
from segadapt.methods.mpcl import Mixed
from segadapt.methods.prototyped import Prototyped, PrototypedConfig
from segadapt.methods.stage_config import OptimiserConfig, ScheduleConfig, StageConfig
from segadapt.methods.supervision import segmentation_terms
from segadapt.models.multires import MultiRes
from segadapt.models.norm import NormMode
from segadapt.models.segmenter import Output, Segmenter
from segadapt.pieces.classmix import classes_present, half_of, where_chosen
from segadapt.pieces.feature_distance import cell_labels, feature_distance
from segadapt.pieces.losses import Over
from segadapt.pieces.teacher import frozen_copy
from segadapt.pieces.terms import Term


class DAFormerConfig(MeanTeacherConfig, PrototypedConfig, StageConfig):
    """Settings of DAFormer; defaults are those of the GTA5 experiments.

    Attributes:
        mix: classes are drawn from those of the ``image`` (the paper) or of the source ``batch``, ignored
            pixels being one of them (the authors' code).
        feature_distance: lambda; 0 leaves it out. Features are kept to those of the initial (ImageNet) weights,
            wherever the network itself starts from.
        feature_share: a cell belongs to a class that fills at least so much of it.
        feature_classes: ``things``, ``all`` classes, or names of classes.
        rare_temperature: T; None samples source images uniformly.
        rare_share: an image can be drawn for a class that fills more than this share of it.
        rare_crop_share: a crop is accepted with more than this share of the class.
        over: means are taken over ``all`` pixels, as in the authors' code, or over ``valid`` ones, which have a label.
    """

    method: str = "daformer"
    initial: str = "scratch"
    norm: NormMode = "train"
    optimiser: OptimiserConfig = OptimiserConfig(name="adamw", lr=6e-5, head_factor=10.0, weight_decay=0.01)
    schedule: ScheduleConfig = ScheduleConfig(name="poly", power=1.0, warmup=1500)
    mix: Literal["image", "batch"] = "image"
    feature_distance: float = Field(default=0.005, ge=0)
    feature_share: float = Field(default=0.75, ge=0, le=1)
    feature_classes: Literal["things", "all"] | tuple[str, ...] = "things"
    rare_temperature: float | None = Field(default=0.01, gt=0)
    rare_share: float = Field(default=MIN_SHARE, ge=0, lt=1)
    rare_crop_share: float = Field(default=CROP_SHARE, ge=0, lt=1)
    over: Over = "all"

    @model_validator(mode="after")
    def _mpcl_has_prototypes(self) -> DAFormerConfig:
        if self.method == "mpcl" and self.mpcl is None:
            raise ValueError("mpcl is null, and without prototypes MPCL is DAFormer; set method=daformer instead")
        return self

    @property
    def learns_from(self) -> str | None:
        """The network with its initial weights, unless it begins with them."""
        return "scratch" if self.feature_distance and self.initial != "scratch" else None


class DAFormer(Prototyped):
    """Self-training with a mean teacher on images mixed of both domains.

    State: the ``teacher``; ``reference``, where features are kept to it: the network with its initial weights,
    which is the ``model`` as it begins if none is given.
    """

    Config = DAFormerConfig
    config: DAFormerConfig
    kept_near: Tensor

    def __init__(self, config: DAFormerConfig, model: Segmenter, space: LabelSpace, reference: Segmenter | None = None):
        super().__init__(config, model, space)
        if config.feature_distance and not model.names_deep:
            raise RequestError(
                f"stage '{config.name}': feature_distance compares encoder features, which the network "
                f"'{model.architecture.get('name')}' does not name; set {config.name}.feature_distance=0, or take "
                "another network"
            )
        self.teacher = MeanTeacher(model, config, config.norm)
        self.reference = frozen_copy(reference or model) if config.feature_distance else None
        if reference is not None and reference.architecture != model.architecture:
            raise RequestError(
                f"stage '{config.name}': feature_distance needs the initial weights of the network that it starts "
                f"from, {model.architecture}, but those given are of {reference.architecture}; give 'model' (or the "
                "stage's 'network') the same name and arguments, or set feature_distance=0"
            )
        near = kept_near(space, config.feature_classes) if config.feature_distance else torch.zeros(0)
        self.register_buffer("kept_near", near, persistent=False)
        self.pseudo: PseudoLabels | None = None

    def train(self, mode: bool = True) -> DAFormer:
        """Training mode of everything but the reference; what the teacher makes of it is its own matter."""
        super().train(mode)
        if self.reference is not None:
            self.reference.eval()
        return self

    def streams(self, round_index: int, environment: Environment) -> dict[str, Stream]:
        """Labelled source crops, rare classes more often; target crops."""
        c = self.config
        rare = None
        if c.rare_temperature is not None:
            rare = rare_classes(environment.source_shares(), c.rare_temperature, c.rare_share, c.rare_crop_share)
        source = labelled_part(environment.source, 0, environment.source_size, c, rare=rare)
        target = Part(environment.target, 1, environment.target_size, c.augmentation)
        return paired_streams(source, target, c, round_index)

    def step(self, batch: Mapping[str, Samples]) -> Iterator[Terms]:
        """The lines of the box."""
        c, s, t = self.config, batch["source"], batch["target"]
        source = self.model(s.images)
        terms = self.losses("source", source, s.labels)
        if self.reference is not None:
            terms["feature distance"] = self._feature_distance(source.deep, s)
        yield terms
        del source, terms

        self.pseudo = self.teacher.label(t, self.align_corners)
        self.online = OnlineLabels("target", {"teacher": torch.where(self.pseudo.trusted, self.pseudo.labels, IGNORE)})
        images, mixed = self._mixed(s, t, self.pseudo)
        output = self.model(recoloured(images, c))
        terms = self.losses("mixed", output, mixed.labels, mixed.weights)
        yield {**terms, **self.prototype_terms(output, mixed)}

    # ---- lines of the box ----

    def losses(self, name: str, output: Output, labels: Tensor, weights: Tensor | None = None) -> dict[str, Term]:
        """Cross entropy of a batch, of both resolutions where the network has two."""
        return segmentation_terms(
            output, labels, weights=weights, align_corners=self.align_corners, prefix=name, over=self.config.over
        )

    def _feature_distance(self, features: Tensor | None, s: Samples) -> Term:
        """L_fd between the encoder and that of the reference."""
        assert self.reference is not None
        assert features is not None
        c = self.config
        with torch.no_grad():
            reference = self.reference.deep_features(s.images)
        cells = cell_labels(s.labels, features.shape[-2:], len(self.space), c.feature_share)
        wanted = (cells != IGNORE) & self.kept_near[torch.where(cells == IGNORE, 0, cells)]
        return feature_distance(features, reference, wanted).times(c.feature_distance)

    @torch.no_grad()
    def _mixed(self, s: Samples, t: Samples, pseudo: PseudoLabels) -> tuple[Tensor, Mixed]:
        """x_m, y_m and w_m: half of the classes of each source crop on the target crop of its place."""
        present = classes_present(s.labels, len(self.space))
        if self.config.mix == "batch":
            present = present.any(0, keepdim=True).expand_as(present)
        else:
            present[:, -1] = False  # what is ignored is no class
        chosen = half_of(present, torch.rand(present.shape).to(present.device, non_blocking=True))
        pasted = where_chosen(s.labels, chosen)
        images = torch.where(pasted[:, None], s.images, t.images)
        labels = torch.where(pasted, s.labels, pseudo.labels)
        return images, Mixed(labels, torch.where(pasted, 1.0, pseudo.weights), pasted, pasted | pseudo.sure)

    def after_step(self, environment: Environment) -> None:
        """The teacher follows, quickly at first, and so do prototypes."""
        super().after_step(environment)
        self.teacher.follow(self.model)


class HRDA(DAFormer):
    """DAFormer with a network that looks at two resolutions; its losses are those of both."""

    def __init__(self, config: DAFormerConfig, model: Segmenter, space: LabelSpace, reference: Segmenter | None = None):
        super().__init__(config, model, space, reference)
        if not isinstance(model, MultiRes):
            name = model.architecture.get("name", "lite")
            raise RequestError(
                f"stage '{config.name}': HRDA needs two resolutions; set {config.name}.network.name=hrda:{name}, "
                f"or model.name=hrda:{name} where the stage starts from scratch"
            )


def kept_near(space: LabelSpace, classes: Literal["things", "all"] | tuple[str, ...]) -> Tensor:
    """[K] bool: classes on which features are kept to those of ImageNet; RequestError if there is none."""
    if isinstance(classes, tuple):
        wanted = {space.index(name) for name in classes}
    else:
        wanted = {i for i, name in enumerate(space.names) if classes == "all" or name in THINGS}
    if not wanted:
        raise RequestError(
            f"feature_classes: none of the classes of '{space.name}' is known as a thing; name some, "
            "take 'all', or set feature_distance=0"
        )
    return torch.tensor([i in wanted for i in range(len(space))])
