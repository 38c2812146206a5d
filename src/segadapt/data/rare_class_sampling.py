"""Rare class sampling: a class is drawn first, then an image that has it, then a crop that shows it.

Hoyer, Dai, Van Gool: *DAFormer*, CVPR 2022, section 3.3. The authors' code counts pixels: more than
3000 of an image of GTA5 (1914 x 1052), more than 1500 of a crop of 512 x 512, and 6000 of a crop of
1024 x 1024 in HRDA. As shares of the image and of the crop these are the same two numbers at every
size, so the settings here are shares.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from segadapt.errors import RequestError
from segadapt.pieces.sampling import rare_class_probabilities

MIN_SHARE = 3000 / (1914 * 1052)
"""Share of an image that its class must exceed for the image to be drawn for it: 0.15 %."""

CROP_SHARE = 1500 / (512 * 512)
"""Share of a crop that the drawn class should exceed: 0.57 %."""


@dataclass(frozen=True)
class RareClasses:
    """The images of a data set from which each class is drawn, and how much of it a crop should show.

    Args:
        probabilities: [K] with which a class is asked for, summing to 1.
        images: for each class the indices of the images drawn for it; empty where it never occurs.
        crop_share: share of the crop's pixels that the class asked for should exceed.
    """

    probabilities: npt.NDArray[np.float64]
    images: tuple[npt.NDArray[np.int64], ...]
    crop_share: float = CROP_SHARE

    def draw(self, rng: np.random.Generator) -> tuple[int, int]:
        """Draw a class and the index of an image that has it; takes two numbers of the generator."""
        bounds = np.cumsum(self.probabilities)
        drawn = int(np.searchsorted(bounds / bounds[-1], rng.random(), side="right"))
        return drawn, int(self.images[drawn][int(rng.integers(len(self.images[drawn])))])


def rare_class_sampling(
    shares: Tensor, temperature: float = 0.01, min_share: float = MIN_SHARE, crop_share: float = CROP_SHARE
) -> RareClasses:
    """Set up rare class sampling for a labelled data set, from the class shares of its images.

    A class c is asked for with ``P(c) = softmax_c((1 - f_c) / T)`` over the classes that occur; f_c
    is its share of all labelled pixels, images of several sizes counting alike. Its images are
    all of which it covers more than ``min_share``; where there is none, all that show any of it.

    Args:
        shares: [N, K] share of each class in the pixels of each image (``Environment.source_shares``).
        temperature: T; small values ask for the rarest classes, large ones for all alike.
        min_share: in 0 .. 1, of the image.
        crop_share: in 0 .. 1, of the crop.

    Raises:
        RequestError: no class occurs.
    """
    table = shares.double().cpu().numpy()
    total = table.sum(0)
    if not total.any():
        raise RequestError("rare classes are to be sampled, but no image has a labelled pixel; check the labels")
    images = []
    for column in table.T:
        much = np.flatnonzero(column > min_share)
        images.append(much if len(much) else np.flatnonzero(column > 0))
    return RareClasses(rare_class_probabilities(total / total.sum(), temperature), tuple(images), crop_share)
