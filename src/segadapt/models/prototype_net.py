"""A network that predicts by prototypes in the space of its projected features (MPCL, eq. 10)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segadapt.errors import RequestError
from segadapt.models.fusion_head import FusionHead, SeparablePyramid
from segadapt.models.segmenter import Detail, Output, Segmenter
from segadapt.pieces.directions import unit_vectors
from segadapt.pieces.multi_prototypes import Prototypes, class_similarity, similarity

Kind = Literal["centroid", "gaussian", "full"]
Branch = Literal["projection", "fusion"]


class FusionBranch(FusionHead):
    """The context-aware fusion of DAFormer's decoder as a branch of its own: the encoder's maps to [B, D, h, w].

    It is normalised by groups, which depend neither on the batch nor on the mode, and has no dropout: pixels are
    compared with prototypes, not classified.

    Args:
        maps: channels C_i of the maps.
        channels: D.
        width: channels of the fused map that is projected to D.
    """

    def __init__(self, maps: Sequence[int], channels: int, width: int) -> None:
        super().__init__(maps, channels, SeparablePyramid(len(maps) * width, width, "group"), width, dropout=0.0)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        return self.classified(self.fused(maps))


class PixelProjection(nn.Conv2d):
    """A 1x1 convolution as a matrix product of pixels: on a processor it takes half the time, and rows need no copy."""

    def forward(self, x: Tensor) -> Tensor:
        pixels = F.linear(x.movedim(1, 3), self.weight.flatten(1), self.bias)
        return pixels.movedim(3, 1)


def prototype_branch(network: Segmenter, channels: int, branch: Branch) -> nn.Module:
    """Make the untrained module that leads to the space of the prototypes.

    Args:
        network: the network that it stands beside.
        channels: D of that space.
        branch: a 1x1 ``projection`` of the features of the decoder, or a ``fusion`` of the maps of the encoder.

    Raises:
        RequestError: ``fusion`` for a network that does not name its encoder's maps.
    """
    if branch == "projection":
        return PixelProjection(network.feature_channels, channels, 1)
    if not network.map_channels:
        raise RequestError(
            f"the network '{network.architecture.get('name', type(network).__name__)}' does not name the maps of its "
            "encoder, which mpcl.branch=fusion reads; take a 'daformer' network, 'lite' or 'timm:NAME', or "
            "mpcl.branch=projection"
        )
    return FusionBranch(network.map_channels, channels, network.feature_channels)


def embedded(branch: nn.Module, seen: Output | Detail, unit: bool) -> Tensor:
    """Lead what a network saw to float32 rows [B h w, D] beside the prototypes, of length one if ``unit``."""
    found = branch(seen.maps if isinstance(branch, FusionBranch) else seen.features)
    rows = found.movedim(1, 3).flatten(0, 2).float()
    return unit_vectors(rows, dim=1) if unit else rows


class PrototypeNet(Segmenter):
    """Another network without its classifier: logits are similarities with the best prototype of each class.

    Args:
        base: the network whose features are projected.
        kind: of the prototypes: ``centroid``, ``gaussian`` (diagonal covariance) or ``full`` (full covariance).
        each: K, prototypes per class, at least 1.
        channels: channels D of the projection.
        branch: see :func:`prototype_branch`.
        temperature: tau, above 0; logits are similarities divided by it.
        floor, unit, per_dimension: see :func:`segadapt.pieces.multi_prototypes.similarity` and :func:`embedded`.

    Attributes:
        means: [C, K, D] means of the prototypes.
        variances: [C, K, D] variances, or [C, K, D, D] covariances of kind ``full``.
        active: [C] bool, whether a class has prototypes.

    Example:
        >>> view = PrototypeNet(model, each=5)
        >>> view.load_prototypes(projection, prototypes)
        >>> labels, confidence = predict_labels(view, images, (1024, 2048), InferenceConfig())
    """

    means: Tensor
    variances: Tensor
    active: Tensor

    def __init__(
        self,
        base: Segmenter,
        kind: Kind = "gaussian",
        each: int = 5,
        channels: int = 256,
        temperature: float = 0.1,
        floor: float = 0.25,
        unit: bool = True,
        per_dimension: bool = True,
        branch: Branch = "projection",
    ) -> None:
        wrapped = dict(base.architecture)
        own: dict[str, Any] = {"kind": kind, "each": each, "channels": channels, "temperature": temperature}
        own |= {"floor": floor, "unit": unit, "per_dimension": per_dimension, "branch": branch}
        name = f"prototypes:{wrapped.pop('name', type(base).__name__)}"
        wrapped.pop("bands", None)
        super().__init__(base.classes, base.preprocessing, {"name": name, **own, "base": wrapped})
        self.take_bands(base.bands)
        self.base, self.stride, self.feature_channels = base, base.stride, base.feature_channels
        self.kind, self.temperature, self.floor, self.unit, self.per_dimension = (
            kind,
            temperature,
            floor,
            unit,
            per_dimension,
        )
        self.projection = prototype_branch(base, channels, branch)
        shape = (base.classes, each, channels)
        self.register_buffer("means", torch.zeros(shape))
        self.register_buffer("variances", torch.ones((*shape, channels) if kind == "full" else shape))
        self.register_buffer("active", torch.zeros(base.classes, dtype=torch.bool))

    def load_prototypes(self, projection: nn.Module, prototypes: Prototypes) -> None:
        """Copy a learnt projection and learnt prototypes into this network."""
        self.projection.load_state_dict(projection.state_dict())
        self.means.copy_(prototypes.means)
        self.active.copy_(prototypes.active)
        if prototypes.variances is not None:
            self.variances.copy_(prototypes.variances)

    def network(self, x: Tensor) -> Output:
        """Compute logits g(c) / tau [B, C, h, w] on the grid of the features, of preprocessed images [B, 3, H, W]."""
        output = self.base.network(x)
        batch, _, height, width = output.features.shape
        best = class_similarity(self._similarity(output))
        return output._replace(logits=best.view(batch, height, width, -1).movedim(3, 1) / self.temperature)

    def responsibilities(self, images: Tensor) -> Tensor:
        """Compute how much of every pixel each prototype of a class explains.

        Args:
            images: [B, C, H, W] in [0, 1].

        Returns:
            [B, C, K, h, w] float32 in [0, 1], ``softmax_k(s_ck / tau)``: sums to one over K, and is 1 / K
            where a class has no prototypes. The caller decides which pixels belong to a class.
        """
        output = self.base(images)
        batch, _, height, width = output.features.shape
        shares = (self._similarity(output) / self.temperature).softmax(2)
        return shares.view(batch, height, width, *shares.shape[1:]).permute(0, 3, 4, 1, 2)

    def _similarity(self, seen: Output) -> Tensor:
        """Compute similarities s [B h w, C, K] on the grid of the wrapped network's features."""
        known = Prototypes(self.means, None if self.kind == "centroid" else self.variances, self.active)
        rows = embedded(self.projection, seen, self.unit)
        return similarity(rows, known, self.floor, self.per_dimension)

    @property
    def names_deep(self) -> bool:
        """Whether the wrapped network exposes its deepest feature map."""
        return self.base.names_deep

    def deep_features(self, images: Tensor) -> Tensor:
        return self.base.deep_features(images)

    def head_modules(self) -> list[nn.Module]:
        return [*self.base.head_modules(), self.projection]
