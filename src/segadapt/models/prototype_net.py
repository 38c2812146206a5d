"""A network that predicts by prototypes in the space of its projected features (MPCL, eq. 10)."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segadapt.models.segmenter import Output, Segmenter
from segadapt.pieces.multi_prototypes import Prototypes, class_similarity, similarity

Kind = Literal["centroid", "gaussian", "full"]


def embedded(projection: nn.Module, features: Tensor, unit: bool) -> Tensor:
    """Project features [B, C, h, w] to float32 rows [B h w, D], of length one if ``unit``."""
    rows = projection(features).movedim(1, 3).flatten(0, 2).float()
    return F.normalize(rows, dim=1) if unit else rows


class PrototypeNet(Segmenter):
    """Another network without its classifier: logits are similarities with the best prototype of each class.

    Args:
        base: the network whose features are projected.
        kind: of the prototypes: ``centroid``, ``gaussian`` (diagonal covariance) or ``full`` (full covariance).
        each: K, prototypes per class, at least 1.
        channels: channels D of the projection.
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
    ) -> None:
        wrapped = dict(base.architecture)
        own: dict[str, Any] = {"kind": kind, "each": each, "channels": channels, "temperature": temperature}
        own |= {"floor": floor, "unit": unit, "per_dimension": per_dimension}
        name = f"prototypes:{wrapped.pop('name', type(base).__name__)}"
        super().__init__(base.classes, base.preprocessing, {"name": name, **own, "base": wrapped})
        self.base, self.stride, self.feature_channels = base, base.stride, base.feature_channels
        self.kind, self.temperature, self.floor, self.unit, self.per_dimension = (
            kind,
            temperature,
            floor,
            unit,
            per_dimension,
        )
        self.projection = nn.Conv2d(base.feature_channels, channels, 1)
        shape = (base.classes, each, channels)
        self.register_buffer("means", torch.zeros(shape))
        self.register_buffer("variances", torch.ones((*shape, channels) if kind == "full" else shape))
        self.register_buffer("active", torch.zeros(base.classes, dtype=torch.bool))

    def load_prototypes(self, projection: nn.Conv2d, prototypes: Prototypes) -> None:
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
        best = class_similarity(self._similarity(output.features))
        return output._replace(logits=best.view(batch, height, width, -1).movedim(3, 1) / self.temperature)

    def responsibilities(self, images: Tensor) -> Tensor:
        """Compute how much of every pixel each prototype of a class explains.

        Args:
            images: [B, 3, H, W] RGB in [0, 1].

        Returns:
            [B, C, K, h, w] float32 in [0, 1], ``softmax_k(s_ck / tau)``: sums to one over K, and is 1 / K
            where a class has no prototypes. The caller decides which pixels belong to a class.
        """
        features = self.base(images).features
        batch, _, height, width = features.shape
        shares = (self._similarity(features) / self.temperature).softmax(2)
        return shares.view(batch, height, width, *shares.shape[1:]).permute(0, 3, 4, 1, 2)

    def _similarity(self, features: Tensor) -> Tensor:
        """Compute similarities s [B h w, C, K] of a map of features [B, C', h, w]."""
        known = Prototypes(self.means, None if self.kind == "centroid" else self.variances, self.active)
        rows = embedded(self.projection, features, self.unit)
        return similarity(rows, known, self.floor, self.per_dimension)

    @property
    def names_deep(self) -> bool:
        """Whether the wrapped network exposes its deepest feature map."""
        return self.base.names_deep

    def deep_features(self, images: Tensor) -> Tensor:
        return self.base.deep_features(images)

    def head_modules(self) -> list[nn.Module]:
        return [*self.base.head_modules(), self.projection]
