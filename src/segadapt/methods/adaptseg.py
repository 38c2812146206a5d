"""AdaptSeg: adversarial adaptation of the output space, the warm-up of ProDA and CPSL.

Tsai, Hung, Schulter, Sohn, Yang, Chandraker: Learning to Adapt Structured Output Space for Semantic
Segmentation, CVPR 2018. Level i is the main classifier, and the auxiliary one where the network has it.

    Input: source (x_s, y_s), target x_t; network G; one discriminator D_i per level
    repeat
        P_s,i, P_t,i = softmax(up(G(x_s)_i)), softmax(up(G(x_t)_i))             [B, K, H, W]
        L_seg = sum_i w_i CE(P_s,i, y_s)                                        (eq. 2)
        L_adv = sum_i l_i loss(D_i(P_t,i), source)      gradient to G alone     (eq. 3)
        L_D,i = 1/2 loss(D_i(P_s,i), source) + 1/2 loss(D_i(P_t,i), target)     (eq. 1), P without gradient
        step on L_seg + L_adv for G and on L_D,i for each D_i

``loss`` is the binary cross entropy (vanilla) or the squared error (least squares).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from segadapt.data.loader import Part, Samples, Stream
from segadapt.errors import RequestError
from segadapt.labels import LabelSpace
from segadapt.methods.environment import Environment
from segadapt.methods.method import Method, Terms, Trained, labelled_part, paired_streams
from segadapt.methods.stage_config import OptimiserConfig, StageConfig
from segadapt.models.discriminator import Discriminator
from segadapt.models.segmenter import Output, Segmenter
from segadapt.pieces.adversarial import SOURCE, TARGET, Gan, domain_loss
from segadapt.pieces.losses import negative_log_likelihood
from segadapt.pieces.resizing import upsample
from segadapt.pieces.terms import Term

LEAST_SIDE = 32
"""Side of the smallest crop, in pixels, for which a discriminator still has one patch."""


class AdaptSegConfig(StageConfig):
    """Settings of AdaptSeg; defaults are the values of the GTA5 experiments.

    Attributes:
        gan: ``vanilla`` (eq. 1, 3) or ``ls`` (least squares; the authors then take an ``adversarial`` of 0.01).
        adversarial: l of the main level, weight of L_adv, at least 0 (code: 0.001).
        adversarial_aux: l of the auxiliary level, at least 0 (code: 0.0002).
        aux_weight: w of the auxiliary level in L_seg, at least 0 (code: 0.1); w of the main level is 1.
        discriminator: architecture, ``adaptsegnet`` or ``proda`` (the warm-up of ProDA).
        discriminator_weight: weight of each of the two terms of L_D, above 0 (code: 1/2; ProDA's warm-up: 1).
        discriminator_optimiser: Adam (paper and code: 1e-4, betas 0.9 and 0.99), with the schedule of the stage.
    """

    method: str = "adaptseg"
    gan: Gan = "vanilla"
    adversarial: float = Field(default=1e-3, ge=0)
    adversarial_aux: float = Field(default=2e-4, ge=0)
    aux_weight: float = Field(default=0.1, ge=0)
    discriminator: Literal["adaptsegnet", "proda"] = "adaptsegnet"
    discriminator_weight: float = Field(default=0.5, gt=0)
    discriminator_optimiser: OptimiserConfig = OptimiserConfig(
        name="adamw", lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0
    )


class AdaptSeg(Method):
    """Adversarial training in the output space.

    State: ``discriminators`` by level, ``main`` and, for a network with an auxiliary head, ``aux``.
    """

    Config = AdaptSegConfig
    config: AdaptSegConfig

    def __init__(self, config: AdaptSegConfig, model: Segmenter, space: LabelSpace):
        super().__init__(config, model, space)
        levels = ("main", "aux") if getattr(model, "auxiliary", False) else ("main",)
        self.discriminators = nn.ModuleDict({i: Discriminator(len(space), config.discriminator) for i in levels})
        self.segmentation = {"main": 1.0, "aux": config.aux_weight}
        self.adversarial = {"main": config.adversarial, "aux": config.adversarial_aux}

    def trained(self) -> dict[str, Trained]:
        """Return the segmentation network and one discriminator per level."""
        optimiser = self.config.discriminator_optimiser
        return {**super().trained(), **{f"discriminator/{i}": Trained(d, optimiser) for i, d in self._levels()}}

    def streams(self, round_index: int, environment: Environment) -> dict[str, Stream]:
        """Return labelled source images and target images, as many of each."""
        c = self.config
        if c.augmentation.crop is not None and min(c.augmentation.crop) < LEAST_SIDE:
            raise RequestError(
                f"stage '{c.name}': a crop of {c.augmentation.crop} is too small for the discriminator; "
                f"set augmentation.crop to at least [{LEAST_SIDE}, {LEAST_SIDE}]"
            )
        source = labelled_part(environment.source, 0, environment.source_size, c)
        return paired_streams(source, self.target_part(environment), c, round_index)

    def target_part(self, environment: Environment) -> Part:
        """Return the target crops of :meth:`streams`."""
        return Part(environment.target, 1, environment.target_size, self.config.augmentation)

    def step(self, batch: Mapping[str, Samples]) -> Iterator[Terms]:
        """Yield the lines of the box; the discriminators see outputs of before the step."""
        c, s, t = self.config, batch["source"], batch["target"]
        log_p = self._log_probabilities(self.model(s.images), s)
        yield {f"segmentation/{i}": negative_log_likelihood(log_p[i], s.labels) * self.segmentation[i] for i in log_p}
        source = {i: x.detach().exp() for i, x in log_p.items()}
        del log_p

        self.discriminators.requires_grad_(False)
        target = {i: x.exp() for i, x in self._log_probabilities(self.model(t.images), t).items()}
        fooled = {
            f"adversarial/{i}": domain_loss(d(target[i]), SOURCE, c.gan) * self.adversarial[i]
            for i, d in self._levels()
        }
        self.discriminators.requires_grad_(True)
        yield fooled

        judged: dict[str, Term] = {}
        for i, d in self._levels():
            for name, maps, domain in (("source", source, SOURCE), ("target", target, TARGET)):
                loss = domain_loss(d(maps[i].detach()), domain, c.gan)
                judged[f"discriminator/{i}/{name}"] = loss * c.discriminator_weight
        yield judged

    def _levels(self) -> Iterator[tuple[str, nn.Module]]:
        return iter(self.discriminators.items())

    def _log_probabilities(self, out: Output, x: Samples) -> dict[str, Tensor]:
        """Return log P_i of every level at the size of the images."""
        logits = {"main": out.logits, "aux": out.aux}
        size = x.images.shape[-2:]
        return {i: upsample(z, size, self.align_corners).log_softmax(1) for i, z in logits.items() if z is not None}
