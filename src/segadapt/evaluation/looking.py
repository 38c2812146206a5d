"""Look at a model on a sample of images: what it predicts there, and what of that stays when an image changes.

The sample is fixed: evenly spaced images, and of each the same grid of places, so that models of any stride can be
compared pixel by pixel. Labels of the target are never opened; those of the source may be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from segadapt.core.settings import checked
from segadapt.core.spacing import evenly_spaced
from segadapt.data.colour_transfer import lab_statistics, transfer_colours
from segadapt.data.dataset import DamagedFile, Dataset, Picture
from segadapt.evaluation.scoring import working_image
from segadapt.labels import LabelMap
from segadapt.models.inference import InferenceConfig, scores
from segadapt.models.store import LoadedModel
from segadapt.pieces.confusion import confusion_counts
from segadapt.pieces.images import to_batch
from segadapt.pieces.resizing import upsample

IMAGES = 12
"""Most images of a domain that are looked at."""
GRID = (48, 64)
"""Places of an image that are looked at, down and across."""
GAMMAS = (0.6, 1.6)
"""Exponents of the brighter and the darker view."""

VIEWS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "mirrored": lambda image: image.flip(-1),
    "brighter": lambda image: image ** GAMMAS[0],
    "darker": lambda image: image ** GAMMAS[1],
}
"""Changes of an image [1, C, H, W] in [0, 1] that do not change what is in it."""


@dataclass(frozen=True)
class Look:
    """A model on a sample of the target and of the source; N places of all target images, one after the other.

    Attributes:
        probabilities: [N, K] float32 of the target as it is.
        views: [N] labels at the same places, by name of :data:`VIEWS`.
        source: [K + 1, K + 1] pixels of the source by true and predicted class, see
            :func:`segadapt.pieces.confusion.confusion_counts`; None where no source is at hand.
        recoloured: the same of the source in the colours of the target.
    """

    probabilities: Tensor
    views: Mapping[str, Tensor]
    source: Tensor | None
    recoloured: Tensor | None

    @property
    def labels(self) -> Tensor:
        """[N] most probable classes of the target as it is."""
        return self.probabilities.argmax(1)


@torch.no_grad()
def look_at_model(loaded: LoadedModel, target: Dataset, source: Dataset | None, images: int = IMAGES) -> Look:
    """Predict the sample: every target image in four views, every source image in two.

    Args:
        loaded: the model; it computes where it is.
        target: target images; their labels are not needed, and not opened.
        source: labelled images in the model's classes, or None.
        images: most images of each.

    Raises:
        RequestError: no target image can be read, or the images do not fit the network.
    """
    inference = checked(InferenceConfig, loaded.inference, "inference of the model file")
    device = next(loaded.model.parameters()).device

    def seen(image: Tensor) -> Tensor:
        compact = scores(loaded.model, image, inference)
        return upsample(compact, GRID, inference.align_corners).softmax(1)

    def batch(image: Picture) -> Tensor:
        return to_batch(working_image(image, loaded.working_size, inference), device)

    plain, views, colours = [], {name: [] for name in VIEWS}, []  # type: ignore[var-annotated]
    for image, _ in _readable(target, images, labelled=False):
        shown = batch(image)
        plain.append(_places(seen(shown)).cpu())
        for name, change in VIEWS.items():
            there = seen(change(shown))
            views[name].append(_places(there.flip(-1) if name == "mirrored" else there).argmax(1).cpu())
        colours.append(lab_statistics(image))
    if not plain:
        raise DamagedFile(f"{target.name}: none of the {min(images, len(target))} images looked at can be read")
    counts = [torch.zeros(len(loaded.space) + 1, len(loaded.space) + 1, dtype=torch.int64) for _ in range(2)]
    for place, (image, label) in enumerate(_readable(source, images, labelled=True) if source is not None else ()):
        shown, own = batch(image), torch.from_numpy(lab_statistics(image))[None].to(device)
        wanted = torch.from_numpy(colours[place % len(colours)])[None].to(device)
        for total, view in zip(counts, (shown, transfer_colours(shown, own, wanted)), strict=True):
            total += confusion_counts(_places(seen(view)).argmax(1).cpu(), label, len(loaded.space))
    known = source is not None and bool(counts[0].any())
    return Look(
        probabilities=torch.cat(plain).float(),
        views={name: torch.cat(found) for name, found in views.items()},
        source=counts[0] if known else None,
        recoloured=counts[1] if known else None,
    )


def _readable(dataset: Dataset, images: int, labelled: bool) -> Iterator[tuple[Picture, Tensor]]:
    """Yield the images of the sample that can be read, each with its labels [N] at the places, which may be empty."""
    for index in evenly_spaced(len(dataset), images):
        try:
            image = dataset.image(index)
            yield image, _labels_at_places(dataset.label(index)) if labelled else torch.empty(0)
        except DamagedFile:  # training has named it
            continue


def _labels_at_places(label: LabelMap) -> Tensor:
    """Return the labels [N] in the middle of each cell of the grid."""
    rows, columns = (((np.arange(n) + 0.5) * size / n).astype(int) for n, size in zip(GRID, label.shape, strict=True))
    return torch.from_numpy(label[np.ix_(rows, columns)].astype(np.int64)).flatten()


def _places(maps: Tensor) -> Tensor:
    """Turn maps [1, K, h, w] into [h w, K]."""
    return maps[0].flatten(1).T
