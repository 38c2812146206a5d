"""The feature distance of DAFormer: encoder features are kept near the features of the ImageNet weights."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from segadapt.core.settings import Settings
from segadapt.data.loader import Samples
from segadapt.errors import RequestError
from segadapt.labels import IGNORE, THINGS, LabelSpace
from segadapt.models.segmenter import Segmenter
from segadapt.pieces.features import cell_labels, feature_distance
from segadapt.pieces.teacher import frozen_copy
from segadapt.pieces.terms import Term


class ImageNetFeaturesConfig(Settings):
    """Settings of the feature distance; defaults are the values of DAFormer's GTA5 experiments.

    Attributes:
        feature_distance: lambda, weight of L_fd (paper and code: 0.005); 0 leaves it out. Features are kept
            near the features of the network's initial (ImageNet) weights, wherever the network itself starts from.
        feature_share: a cell belongs to a class that fills at least this share of it, in [0, 1] (paper and code: 0.75).
        feature_classes: classes of the cells that count: ``things`` (the paper), ``all``, or a list of names.
    """

    feature_distance: float = Field(default=0.005, ge=0)
    feature_share: float = Field(default=0.75, ge=0, le=1)
    feature_classes: Literal["things", "all"] | tuple[str, ...] = "things"


class ImageNetFeatures(nn.Module):
    """F_I, the encoder with its ImageNet weights, and the classes on which features are kept near it.

    State: ``network``, in evaluation mode and without gradients.

    Args:
        config: see :class:`ImageNetFeaturesConfig`.
        stage: name of the stage, for messages.
        model: the network that is trained.
        reference: the same network with its initial weights; None takes ``model`` as it begins.
        space: label space of the run.

    Raises:
        RequestError: the network names no encoder features, ``reference`` is another network, or none of the
            classes is known.
    """

    kept_near: Tensor

    def __init__(
        self,
        config: ImageNetFeaturesConfig,
        stage: str,
        model: Segmenter,
        reference: Segmenter | None,
        space: LabelSpace,
    ) -> None:
        super().__init__()
        if not model.names_deep:
            raise RequestError(
                f"stage '{stage}': feature_distance compares encoder features, which the network "
                f"'{model.architecture.get('name')}' does not name; set {stage}.feature_distance=0, or take "
                "another network"
            )
        if reference is not None and reference.architecture != model.architecture:
            raise RequestError(
                f"stage '{stage}': feature_distance needs the initial weights of the network that it starts "
                f"from, {model.architecture}, but those given are of {reference.architecture}; give 'model' (or the "
                "stage's 'network') the same name and arguments, or set feature_distance=0"
            )
        self.config = config
        self.network = frozen_copy(reference or model)
        self.register_buffer("kept_near", kept_near(space, config.feature_classes), persistent=False)

    def train(self, mode: bool = True) -> ImageNetFeatures:
        """Stay in evaluation mode."""
        return super().train(False)

    def distance(self, features: Tensor, s: Samples) -> Term:
        """Return lambda L_fd of the encoder's features of source crops (DAFormer eq. 6 to 9).

        Args:
            features: F(x_s) [B, D, h, w], the deepest features of the encoder.
            s: the source crops and their labels.
        """
        with torch.no_grad():
            reference = self.network.deep_features(s.images)
        cells = cell_labels(s.labels, features.shape[-2:], len(self.kept_near), self.config.feature_share)
        wanted = (cells != IGNORE) & self.kept_near[torch.where(cells == IGNORE, 0, cells)]
        return feature_distance(features, reference, wanted) * self.config.feature_distance


def kept_near(space: LabelSpace, classes: Literal["things", "all"] | tuple[str, ...]) -> Tensor:
    """Return [K] bool, the classes on which features are kept near the features of ImageNet.

    Args:
        space: label space of the run.
        classes: ``things``, ``all``, or names of classes.

    Raises:
        RequestError: a name is unknown, or no class is left.
    """
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
