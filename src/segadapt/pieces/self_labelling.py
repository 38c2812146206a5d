"""Self-labelling of sampled pixels by one vector per class (CPSL, CVPR 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segadapt.pieces.directions import unit_vectors
from segadapt.pieces.losses import soft_negative_log_likelihood
from segadapt.pieces.precision import exact_products
from segadapt.pieces.terms import Term


class CosineHead(nn.Module):
    """C: one vector per class, compared with features by cosine. State: ``weight`` [K, D], at first at random.

    Args:
        classes: K.
        channels: D.

    Example:
        >>> head = CosineHead(classes=3, channels=2)
        >>> tuple(head(torch.nn.functional.normalize(torch.rand(5, 2), dim=1)).shape)
        (5, 3)
    """

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(F.normalize(torch.randn(classes, channels), dim=1))

    def forward(self, z: Tensor) -> Tensor:
        """Return scores [..., K] in -1 .. 1 of features [..., D] of length one."""
        with exact_products(z.device):
            return z.float() @ F.normalize(self.weight, dim=1).T


class Sampled(NamedTuple):
    """The sampled pixels of a step.

    Attributes:
        features: z [B, M, D], of length one.
        outputs: [B, M, K], class scores of the teacher, of length one.
        shares: [B, K] of the classes in each image's labels.
    """

    features: Tensor
    outputs: Tensor
    shares: Tensor


def unit_rows(maps: Tensor, chosen: Tensor) -> Tensor:
    """Read vectors at chosen pixels and scale them to length one.

    Args:
        maps: [B, C, h, w].
        chosen: [B, M] indices of pixels in raster order.

    Returns:
        [B, M, C] float32.

    Example:
        >>> unit_rows(torch.tensor([[[[3.0, 0.0]], [[4.0, 2.0]]]]), torch.tensor([[1, 0]]))
        tensor([[[0.0000, 1.0000],
                 [0.6000, 0.8000]]])
    """
    flat = maps.float().flatten(2)
    picked = flat.gather(2, chosen[:, None].expand(-1, flat.shape[1], -1))
    return unit_vectors(picked.transpose(1, 2), dim=2)


def self_labelling(scores: Tensor, targets: Sequence[Tensor], temperature: float) -> Term:
    """Return L_SL: the cross entropy of the head's classes with their assignments (CPSL eq. 5), summed over targets.

    Args:
        scores: [B, M, K] of the head, with gradient.
        targets: assignments Q [B, M, K].
        temperature: tau, divides the scores.

    Returns:
        Sum over the pixels of all images, and their number.

    Example:
        >>> self_labelling(torch.zeros(1, 3, 4), [torch.eye(4)[None, :3]], 0.1).mean()  # log 4
        tensor(1.3863)
    """
    log_p = (scores / temperature).log_softmax(2).transpose(1, 2)
    terms = [soft_negative_log_likelihood(log_p, q.transpose(1, 2)) for q in targets]
    return Term(torch.stack([term.total for term in terms]).sum(), terms[0].count)
