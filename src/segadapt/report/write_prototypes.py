"""How the pixels of a class divide between its prototypes, kept as pictures and numbers for the report.

    pictures/prototypes/STAGE_IMAGE_which.jpg       every pixel in the colour of the best prototype of its class
    pictures/prototypes/STAGE_IMAGE_CLASS_K.jpg     activation of one prototype

MPCL shows such activation maps in its Figure 7, a row a class and a column a prototype: each prototype
stands for other parts of its class, and together they cover it. What the figure plots is not said. Here it
is the share ``softmax_k(s_ck / tau)`` of prototype k among the K of class c, at the pixels that the kept
network predicts as c; shares of a pixel sum to one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from segadapt.core.files import write_json
from segadapt.data.dataset import Dataset, Picture
from segadapt.data.resize import Resize, resize_image
from segadapt.evaluate.pictures import activation_map, index_map
from segadapt.labels import IGNORE, LabelMap, LabelSpace, distinct_colors
from segadapt.models.inference import InferenceConfig, evaluation_mode, predict_labels, resize_images
from segadapt.models.prototype_net import PrototypeNet
from segadapt.models.segmenter import Segmenter
from segadapt.pieces.images import to_batch
from segadapt.report.write_pictures import evenly_spaced, fitting, picture_index, shown_images, write_picture

IMAGES = 2
"""Images whose maps are drawn; the shares are of all that predictions are shown for."""
CLASSES = 4
"""Classes whose maps are drawn of each image."""
LEAST = 0.004
"""Share of an image that a class must fill for its maps to be worth a look."""
WIDEST_MAP, WIDEST_WHICH = 400, 640

Shares = npt.NDArray[np.float32]


class Divided(NamedTuple):
    """One image, its pixels divided between prototypes.

    Attributes:
        label: [H, W] predicted train ids.
        shares: [K, H, W] of the prototypes of each pixel's class; zero where the class has none.
        counts: [C, K] pixels of every class by the prototype with the largest share.
    """

    label: LabelMap
    shares: Shares
    counts: npt.NDArray[np.int64]


def show_prototypes(
    folder: Path,
    stage: str,
    model: Segmenter,
    view: PrototypeNet,
    dataset: Dataset,
    inference: InferenceConfig,
    size: Resize,
    space: LabelSpace,
) -> None:
    """Write activation maps of a few classes in a few images, and how evenly the prototypes of all are used.

    Nothing is written while no class has prototypes, nor where each has one, which all of its pixels belong to.

    Args:
        folder: for pictures of the run.
        stage: its name.
        model: the network that is kept, whose predictions say which class a pixel belongs to.
        view: the same network with prototypes.
        dataset: target images.
        inference: how the run predicts.
        size: working size of the images.
        space: names of the classes.
    """
    active = view.active.cpu().numpy()
    if not active.any() or view.means.shape[1] == 1:
        return
    numbers = evenly_spaced(dataset)
    drawn = {numbers[place] for place in np.linspace(0, len(numbers) - 1, min(IMAGES, len(numbers))).astype(int)}
    counts = np.zeros(view.means.shape[:2], np.int64)
    pictures: list[dict[str, Any]] = []
    shown: set[int] = set()
    for number, image in shown_images(dataset, size):
        divided = divide(model, view, image, fitting(image.shape[0], image.shape[1], WIDEST_WHICH), inference)
        counts += divided.counts
        if number in drawn:
            chosen = worth_showing(divided.counts.sum(1), divided.label.size, shown)
            shown.update(chosen)
            name = f"prototypes/{stage}_{number:06d}"
            pictures.append(_draw(folder, name, dataset.items[number].id, image, divided, chosen, space))
    index = picture_index(folder)
    index["prototypes"] = [e for e in index.get("prototypes", []) if e["stage"] != stage]
    index["prototypes"].append(
        {
            "stage": stage,
            "colors": [list(color) for color in distinct_colors(counts.shape[1])],
            "pictured": len(numbers),
            "classes": [{"name": space.names[c], "counts": counts[c].tolist()} for c in np.flatnonzero(active)],
            "images": pictures,
        }
    )
    write_json(folder / "index.json", index)


def divide(
    model: Segmenter, view: PrototypeNet, image: Picture, shown: tuple[int, int], inference: InferenceConfig
) -> Divided:
    """Predictions and shares of an image [h, w, 3] at a size (H, W); shares are of the whole image at scale 1."""
    tensor = to_batch(image, view.means.device)
    label = predict_labels(model, tensor, shown, inference)[0][0].cpu()
    if inference.size is not None:
        tensor = resize_images(tensor, inference.size)
    with evaluation_mode(view), torch.inference_mode():
        maps = view.responsibilities(tensor)[0]
        shares = own_shares(maps, label.to(maps.device), view.active).cpu()
    classes, each = view.means.shape[:2]
    own = shares.sum(0) > 0
    places = label[own].long() * each + shares.argmax(0)[own]
    counts = torch.bincount(places, minlength=classes * each).view(classes, each)
    return Divided(label.numpy(), shares.numpy(), counts.numpy())


def own_shares(maps: Tensor, label: Tensor, active: Tensor) -> Tensor:
    """Shares [K, H, W] of the prototypes of each pixel's class.

    Args:
        maps: [C, K, h, w] that sum to one over K, enlarged bilinearly.
        label: [H, W] train ids.
        active: [C] bool; pixels of other classes, and ignored ones, get zeros.
    """
    size = (label.shape[-2], label.shape[-1])
    shares = maps.new_zeros(maps.shape[1], *size)
    for c in active.nonzero().flatten().tolist():  # one by one, as all classes at full size may not fit
        mine = label == c
        large = F.interpolate(maps[c][None], size, mode="bilinear", align_corners=False)[0]
        shares = torch.where(mine, large, shares)
    return shares


def worth_showing(pixels: npt.NDArray[np.int64], total: int, shown: set[int]) -> list[int]:
    """Up to :data:`CLASSES` classes that fill enough of an image, those not ``shown`` yet first, by size.

    Args:
        pixels: [C] of each class with prototypes, in an image of ``total`` pixels.
        total: see there.
        shown: classes of earlier images.
    """
    enough = [c for c, count in enumerate(pixels.tolist()) if count >= max(1, LEAST * total)]
    return sorted(enough, key=lambda c: (c in shown, -pixels[c]))[:CLASSES]


def _draw(
    folder: Path, name: str, item: str, image: Picture, divided: Divided, chosen: Sequence[int], space: LabelSpace
) -> dict[str, Any]:
    """Write the pictures of one image; what the index says of them."""
    label, shares, counts = divided
    which = np.where(shares.any(0), shares.argmax(0), IGNORE).astype(np.uint8)
    photo = resize_image(image, (label.shape[0], label.shape[1]))
    write_picture(folder / f"{name}_which.jpg", index_map(photo, which, label, distinct_colors(len(shares))))
    tile = fitting(label.shape[0], label.shape[1], WIDEST_MAP)
    small = resize_image(photo, tile)
    entries = []
    for c in chosen:
        paths = [f"{name}_{c}_{k}.jpg" for k in range(len(shares))]
        for path, share in zip(paths, shares, strict=True):
            write_picture(folder / path, resize_image(activation_map(photo, share, label == c), tile))
        entries.append({"name": space.names[c], "counts": counts[c].tolist(), "maps": paths})
    write_picture(folder / f"{name}_image.jpg", small)
    return {
        "id": item,
        "image": f"{name}_image.jpg",
        "which": f"{name}_which.jpg",
        "pixels": int(label.size),
        "classes": entries,
    }
