"""Working sizes: what size images and labels have before anything else happens to them."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from segadapt.labels import LabelMap

Size = tuple[int, int]
"""(height, width) in pixels."""
Resize = Size | int | None
"""A working size: (height, width), or one number for the longest side (images only shrink), or native."""


def working_size(height: int, width: int, resize: Resize) -> Size:
    """The (height, width) that an image gets under a working size."""
    if resize is None:
        return height, width
    if isinstance(resize, int):
        scale = min(1.0, resize / max(height, width))
        return max(1, round(height * scale)), max(1, round(width * scale))
    return resize


def resize_image(image: npt.NDArray[np.uint8], resize: Resize) -> npt.NDArray[np.uint8]:
    """Image [H, W] or [H, W, 3] at its working size; area averaging when it shrinks, cubic when it grows."""
    height, width = working_size(image.shape[0], image.shape[1], resize)
    if image.shape[:2] == (height, width):
        return image
    method = cv2.INTER_AREA if height < image.shape[0] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, (width, height), interpolation=method), np.uint8)


def resize_label(label: LabelMap, resize: Resize) -> LabelMap:
    """Label map [H, W] at its working size, nearest."""
    height, width = working_size(label.shape[0], label.shape[1], resize)
    if label.shape == (height, width):
        return label
    return np.asarray(cv2.resize(label, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)
