"""Maps of predictions as pictures: confidence, prototypes. All are RGB [H, W, 3] uint8."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from segadapt.data.dataset import Picture
from segadapt.labels import Color, LabelMap


def confidence_map(confidence: npt.NDArray[np.floating]) -> Picture:
    """Show confidence [H, W] in [0, 1] in the viridis colours: dark blue is 0, yellow is 1, even in between."""
    grey = np.rint(np.clip(np.nan_to_num(confidence), 0.0, 1.0) * 255).astype(np.uint8)
    return np.asarray(cv2.cvtColor(cv2.applyColorMap(grey, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB), np.uint8)


def activation_map(image: Picture, share: npt.NDArray[np.floating], inside: npt.NDArray[np.bool_]) -> Picture:
    """Show shares [H, W] in [0, 1] in the viridis colours over the grey image ``inside`` [H, W]; pale elsewhere."""
    grey = _grey(image)
    heat = cv2.addWeighted(confidence_map(share), 0.75, grey, 0.25, 0.0)
    return np.where(inside[..., None], heat, _pale(grey)).astype(np.uint8)


def index_map(image: Picture, index: LabelMap, label: LabelMap, colors: Sequence[Color]) -> Picture:
    """Show every pixel in the colour of its ``index`` [H, W], with white lines between the classes of ``label`` [H, W].

    Where an index has no colour (IGNORE) the image is pale.
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
