"""Networks for images of more or fewer bands than three: the stem of a built network is widened in place.

With n bands, the kernels of a convolution that reads the images become

    w'_i = 3/n w_i  (i = 1, 2, 3),    w'_i = 3/n mean(w_1, w_2, w_3)  (i > 3),    and w'_i = 3/n mean(...) for n < 3,

so the pretrained kernels of red, green and blue stay what they are to each other, and an image that shows the same in
all bands gives the same activations as it did: the sum over the bands is that of the three. All that follows the stem,
the statistics of batch normalisation included, therefore still fits. timm adapts its first convolutions to other bands
with the same factor.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from segadapt.errors import RequestError
from segadapt.models.segmenter import Preprocessing, Segmenter

RGB = 3


def widen(model: Segmenter, bands: int) -> None:
    """Make a network read images of so many bands; its weights and its preprocessing follow those of RGB.

    Args:
        model: a network that reads three bands, changed in place; one that reads ``bands`` stays as it is.
        bands: of the images, at least 1; where they are three or more, the first three are red, green, blue.

    Raises:
        RequestError: the network does not name the convolutions that read the images, see
            :attr:`~segadapt.models.segmenter.Segmenter.stems`.

    Example:
        >>> model = build_segmenter("lite", classes=5)
        >>> widen(model, 4)
        >>> model(torch.rand(1, 4, 64, 64)).logits.shape
        torch.Size([1, 5, 16, 16])
    """
    if bands == model.bands:
        return
    if bands < 1:
        raise RequestError(f"images have {bands} bands; a network needs at least 1")
    for stem in _stems(model, bands):
        stem.weight = nn.Parameter(widened_kernel(stem.weight.detach(), bands))
        stem.in_channels = bands
    for part in model.modules():
        if isinstance(part, Segmenter):
            part.set_preprocessing(widened_preprocessing(part.preprocessing, bands))
            part.take_bands(bands)


def narrow(model: Segmenter) -> None:
    """Make the stem of a widened network read three bands again, with weights zero, for weights of RGB to be loaded."""
    for stem in _stems(model, RGB):
        shape = (stem.weight.shape[0], RGB, *stem.weight.shape[2:])
        stem.weight, stem.in_channels = nn.Parameter(stem.weight.detach().new_zeros(shape)), RGB
    for part in model.modules():
        if isinstance(part, Segmenter):
            part.take_bands(RGB)


def widened_kernel(weight: Tensor, bands: int) -> Tensor:
    """Turn the kernels [D, 3, h, w] of RGB into those of so many bands [D, n, h, w]; see the module."""
    if bands == weight.shape[1]:
        return weight
    mean = weight.mean(1, keepdim=True)
    own = [weight] if bands > RGB else []
    further = mean.expand(-1, bands - RGB * len(own), -1, -1)
    return torch.cat([*own, further], 1) * (RGB / bands)


def widened_preprocessing(preprocessing: Preprocessing, bands: int) -> Preprocessing:
    """Return the statistics of RGB for so many bands: further bands, and fewer than three, get the mean of RGB's.

    Bands reach the network as 8 bits over their measured range, like RGB, so this fits them about as well as RGB.
    """
    if bands == len(preprocessing.mean):
        return preprocessing

    def widened(values: tuple[float, ...]) -> tuple[float, ...]:
        mean = sum(values) / len(values)
        return (*values, *[mean] * (bands - RGB)) if bands > RGB else (mean,) * bands

    return replace(preprocessing, mean=widened(preprocessing.mean), std=widened(preprocessing.std))


def _stems(model: Segmenter, bands: int) -> list[nn.Conv2d]:
    stems = [model.get_submodule(name) for name in model.stems]
    if not stems or not all(isinstance(stem, nn.Conv2d) for stem in stems):
        raise RequestError(
            f"the network '{model.architecture.get('name', type(model).__name__)}' reads {model.bands} bands and "
            f"cannot be widened to {bands}; build it with {bands} input bands, or take another network"
        )
    return [stem for stem in stems if isinstance(stem, nn.Conv2d)]
