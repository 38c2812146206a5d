"""Pictures of predictions, for people: overlays, confidence, legends. All are RGB [H, W, 3] uint8."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from segadapt.data.dataset import Picture
from segadapt.labels import Color, LabelMap, LabelSpace

_FONT = cv2.FONT_HERSHEY_SIMPLEX


def overlay(image: Picture, label: LabelMap, space: LabelSpace, alpha: float = 0.55) -> Picture:
    """The image with every class in its colour, ``alpha`` (0 to 1) strong; ignored pixels show the image alone."""
    if image.shape[:2] != label.shape:
        raise ValueError(f"image {image.shape[:2]} and label {label.shape} differ in size")
    mixed = cv2.addWeighted(space.colorize(label), alpha, image, 1.0 - alpha, 0.0)
    return np.where((label < len(space))[..., None], mixed, image).astype(np.uint8)


def confidence_map(confidence: npt.NDArray[np.floating]) -> Picture:
    """Confidence [H, W] in [0, 1] in the viridis colours: dark blue is 0, yellow is 1, even in between."""
    grey = np.rint(np.clip(np.nan_to_num(confidence), 0.0, 1.0) * 255).astype(np.uint8)
    return np.asarray(cv2.cvtColor(cv2.applyColorMap(grey, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB), np.uint8)


def activation_map(image: Picture, share: npt.NDArray[np.floating], inside: npt.NDArray[np.bool_]) -> Picture:
    """Shares [H, W] in [0, 1] in the viridis colours over the grey image where ``inside`` [H, W]; pale elsewhere."""
    grey = _grey(image)
    heat = cv2.addWeighted(confidence_map(share), 0.75, grey, 0.25, 0.0)
    return np.where(inside[..., None], heat, _pale(grey)).astype(np.uint8)


def index_map(image: Picture, index: LabelMap, label: LabelMap, colors: Sequence[Color]) -> Picture:
    """Every pixel in the colour of its ``index`` [H, W], with white lines between the classes of ``label`` [H, W].

    Where there is no such colour (IGNORE) the image is pale.
    """
    table = np.zeros((256, 3), np.uint8)
    table[: len(colors)] = colors
    grey = _grey(image)
    mixed = cv2.addWeighted(table[index], 0.7, grey, 0.3, 0.0)
    picture = np.where((index < len(colors))[..., None], mixed, _pale(grey)).astype(np.uint8)
    border = np.zeros(label.shape, bool)
    border[:, 1:] |= label[:, 1:] != label[:, :-1]
    border[1:] |= label[1:] != label[:-1]
    picture[border] = 255
    return picture


def _grey(image: Picture) -> Picture:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return np.repeat(np.asarray(grey, np.uint8)[..., None], 3, axis=2)


def _pale(grey: Picture) -> Picture:
    return (grey // 4 + 184).astype(np.uint8)


def legend(space: LabelSpace, present: Iterable[int] | None = None, row: int = 22) -> Picture:
    """Colour and name of every class, one below the other; of all, or of the train ids in ``present``."""
    ids = range(len(space)) if present is None else sorted({int(i) for i in present if 0 <= int(i) < len(space)})
    names = [space.names[i] for i in ids]
    scale = row / 44
    widths = [cv2.getTextSize(name, _FONT, scale, 1)[0][0] for name in names]
    picture = np.full((max(1, len(names)) * row, 2 * row + max(widths, default=0) + row // 2, 3), 255, np.uint8)
    for place, (train_id, name) in enumerate(zip(ids, names, strict=True)):
        top = place * row
        picture[top + 3 : top + row - 3, 4 : 4 + row + row // 4] = space.colors[train_id]
        cv2.putText(
            picture, name, (2 * row - row // 4, top + row - row // 3), _FONT, scale, (20, 20, 20), 1, cv2.LINE_AA
        )
    return picture


def side_by_side(pictures: Sequence[Picture], gap: int = 6, height: int | None = None) -> Picture:
    """Pictures next to each other at equal height (that of the first unless given), with a white gap."""
    if not pictures:
        raise ValueError("no pictures to put side by side")
    height = height or pictures[0].shape[0]
    columns: list[Picture] = []
    for picture in pictures:
        if columns:
            columns.append(np.full((height, gap, 3), 255, np.uint8))
        columns.append(_with_height(picture, height))
    return np.concatenate(columns, axis=1)


def _with_height(picture: Picture, height: int) -> Picture:
    if picture.shape[0] == height:
        return picture
    width = max(1, round(picture.shape[1] * height / picture.shape[0]))
    method = cv2.INTER_AREA if height < picture.shape[0] else cv2.INTER_NEAREST
    return np.asarray(cv2.resize(picture, (width, height), interpolation=method), np.uint8)
