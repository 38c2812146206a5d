"""Several prototypes a class beside what a method learns anyway: how MPCL joins it.

A method that learns labels of pixels joins by deriving from :class:`Prototyped`, its settings from
:class:`PrototypedConfig`, and by adding :meth:`Prototyped.prototype_terms` to the terms of each pass that has
labels. All passes of a step share the prototypes.
"""

from __future__ import annotations

from typing import Any

import torch
from pydantic import SerializerFunctionWrapHandler, model_serializer
from torch import Tensor

from segadapt.core.settings import Settings
from segadapt.data.loader import Samples
from segadapt.labels import IGNORE, LabelSpace
from segadapt.methods.environment import Environment
from segadapt.methods.method import Method, Terms, Trained
from segadapt.methods.mpcl import MPCL, Mixed, MPCLConfig
from segadapt.methods.stage_config import StageConfig
from segadapt.models.multires import MultiRes
from segadapt.models.prototype_net import PrototypeNet
from segadapt.models.segmenter import Output, Segmenter
from segadapt.pieces.losses import nearest_labels


class PrototypedConfig(Settings):
    """Settings of a method that MPCL can join.

    Attributes:
        mpcl: several prototypes a class (:mod:`segadapt.methods.mpcl`); None for none.
    """

    mpcl: MPCLConfig | None = None

    @model_serializer(mode="wrap")
    def _without_unused_prototypes(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """What a stage without prototypes was made with reads as it did before there were any."""
        return {k: v for k, v in plain(self).items() if k != "mpcl" or v is not None}


class Prototyped(Method):
    """A method that MPCL joins where its settings say so. State: ``mpcl``, where there are prototypes."""

    def __init__(self, config: StageConfig, model: Segmenter, space: LabelSpace):
        super().__init__(config, model, space)
        assert isinstance(config, PrototypedConfig)
        scales = 2 if isinstance(model, MultiRes) else 1
        self.mpcl = MPCL(config.mpcl, len(space), model.feature_channels, scales) if config.mpcl is not None else None

    def prototype_terms(self, output: Output, pixels: Mixed | Samples, of: str = "") -> Terms:
        """lambda1 L_con and lambda2 L_pce of a pass; none without prototypes.

        Args:
            output: of the network, for the whole batch of a stream.
            pixels: of mixed images, or crops with labels that count alike.
            of: name of the pass in a step that has several.
        """
        if self.mpcl is None:
            return {}
        return self.mpcl.terms(output, labelled(pixels) if isinstance(pixels, Samples) else pixels, of)

    def trained(self) -> dict[str, Trained]:
        """The networks of the method, and the projection of prototypes at the rate of a head."""
        if self.mpcl is None:
            return super().trained()
        rate = self.config.optimiser.lr * self.config.optimiser.head_factor
        optimiser = self.config.optimiser.model_copy(update={"lr": rate})
        return {**super().trained(), "mpcl": Trained(self.mpcl.projection, optimiser)}

    def result(self) -> Segmenter:
        """The network; with prototypes as its classifier, if these are to predict."""
        return self.model if self.mpcl is None else self.mpcl.result(self.model)

    def prototype_view(self) -> PrototypeNet | None:
        """The network with its prototypes as classifier, whichever of the two is kept."""
        return None if self.mpcl is None else self.mpcl.around(self.model)

    def after_step(self, environment: Environment) -> None:
        """Prototypes follow the features of the step."""
        if self.mpcl is not None:
            self.mpcl.follow(environment, self.config.batch_size)


def labelled(x: Samples, labels: Tensor | None = None) -> Mixed:
    """The pixels of crops, each from one domain, with labels that count alike: their own, or those made in a step.

    Args:
        x: the crops [B, 3, H, W].
        labels: [B, h, w] train ids, or [B, K, h, w] distributions (zeros are ignored), of the same places.
    """
    if labels is None:
        labels = x.labels
    elif labels.ndim == 4:
        share, best = labels.max(1)
        labels = best.masked_fill(share == 0, IGNORE)
    labels = nearest_labels(labels, x.images.shape[-2:])
    source = (x.domain == 0)[:, None, None].expand_as(labels)
    return Mixed(labels, torch.ones_like(labels, dtype=torch.float32), source, torch.ones_like(source))
