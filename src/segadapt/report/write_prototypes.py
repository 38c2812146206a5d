"""Write how the pixels of a class divide between its prototypes, as pictures and numbers for the report.

    pictures/prototypes/STAGE_IMAGE_which.jpg       every pixel in the colour of the best prototype of its class
    pictures/prototypes/STAGE_IMAGE_CLASS_K.jpg     activation of one prototype

MPCL shows such activation maps in its Figure 7, one row per class and one column per prototype: each
prototype covers other parts of its class, and together they cover it. The paper does not say which values
the figure plots. Here they are the share ``softmax_k(s_ck / tau)`` of prototype k among the K of class c, at
the pixels that the kept network predicts as c; the shares of a pixel sum to one.
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
from segadapt.data.bands import as_rgb
from segadapt.data.dataset import Dataset, Picture
from segadapt.data.resize import Resize, resize_image
from segadapt.labels import IGNORE, LabelMap, LabelSpace, distinct_colors
from segadapt.models.inference import InferenceConfig, evaluation_mode, predict_labels, resize_images
from segadapt.models.prototype_net import PrototypeNet
from segadapt.models.segmenter import Segmenter
from segadapt.pieces.images import to_batch
from segadapt.report.maps import activation_map, index_map
from segadapt.report.pictures import INDEX, SHEET_WIDTH, fitting, picture_index
from segadapt.report.write_pictures import evenly_spaced, shown_images, write_picture

IMAGES = 2
"""Number of images whose maps are drawn; shares count all images that predictions are shown for."""
CLASSES = 4
"""Number of classes per image whose maps are drawn, at most."""
LEAST = 0.004
"""Least share of an image that a class must fill to have its maps drawn."""
MAP_WIDTH = 400
"""Largest width in pixels of a picture of one prototype."""

Shares = npt.NDArray[np.float32]


class Divided(NamedTuple):
    """The pixels of one image, divided between prototypes.

    Attributes:
        label: [H, W] predicted train ids.
        shares: [K, H, W] in [0, 1], of the prototypes of each pixel's class; zero if the class has none.
        counts: [C, K] number of pixels of every class by the prototype with the largest share.
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
    """Write activation maps of a few classes in a few images, and how evenly all prototypes are used.

    Nothing is written if no class has prototypes, or if every class has a single one.

    Args:
        folder: folder for pictures of the run.
        stage: name of the stage.
        model: the network that is kept; its predictions decide the class of a pixel.
        view: the same network with prototypes.
        dataset: target images.
        inference: how the run predicts.
        size: working size of the images.
        space: names of the classes.

    Raises:
        RunError: a file cannot be written.
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
        divided = divide(model, view, image, fitting(image.shape[0], image.shape[1], SHEET_WIDTH), inference)
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
    write_json(folder / INDEX, index)


def divide(
    model: Segmenter, view: PrototypeNet, image: Picture, shown: tuple[int, int], inference: InferenceConfig
) -> Divided:
    """Predict an image [h, w, 3] at size (H, W) and divide its pixels, by shares of the whole image at scale 1."""
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
    """Select the shares [K, H, W] of the prototypes of each pixel's class.

    Args:
        maps: [C, K, h, w] shares that sum to one over K; they are enlarged bilinearly.
        label: [H, W] train ids.
        active: [C] bool; pixels of other classes and ignored pixels get zeros.
    """
    size = (label.shape[-2], label.shape[-1])
    shares = maps.new_zeros(maps.shape[1], *size)
    for c in (
        active.nonzero().flatten().tolist()
    ):  # one by one, because all classes at full size may not fit into memory
        mine = label == c
        large = F.interpolate(maps[c][None], size, mode="bilinear", align_corners=False)[0]
        shares = torch.where(mine, large, shares)
    return shares


def worth_showing(pixels: npt.NDArray[np.int64], total: int, shown: set[int]) -> list[int]:
    """Choose up to :data:`CLASSES` classes that fill enough of an image: new ones first, then larger ones.

    Args:
        pixels: [C] number of pixels per class; 0 for a class without prototypes.
        total: number of pixels of the image.
        shown: classes already shown in earlier images.
    """
    enough = [c for c, count in enumerate(pixels.tolist()) if count >= max(1, LEAST * total)]
    return sorted(enough, key=lambda c: (c in shown, -pixels[c]))[:CLASSES]


def _draw(
    folder: Path, name: str, item: str, image: Picture, divided: Divided, chosen: Sequence[int], space: LabelSpace
) -> dict[str, Any]:
    """Write the pictures of one image and return its entry in the index."""
    label, shares, counts = divided
    which = np.where(shares.any(0), shares.argmax(0), IGNORE).astype(np.uint8)
    photo = as_rgb(resize_image(image, (label.shape[0], label.shape[1])))
    write_picture(folder / f"{name}_which.jpg", index_map(photo, which, label, distinct_colors(len(shares))))
    tile = fitting(label.shape[0], label.shape[1], MAP_WIDTH)
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
