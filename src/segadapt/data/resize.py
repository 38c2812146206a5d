"""Working sizes: the size to which images and labels are brought before anything else."""

from __future__ import annotations

from typing import Annotated

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, BeforeValidator

from segadapt.core.settings import Shown
from segadapt.core.types import Size
from segadapt.labels import LabelMap


def _checked(size: object) -> object:
    pair = tuple(size) if isinstance(size, list | tuple) else None
    whole = all(side is None or (type(side) is int and side >= 1) for side in pair or (size,))
    if not whole or (pair and (len(pair) != 2 or pair == (None, None))):
        raise ValueError("must be [height, width], one of them null to keep the proportions, or the longest side")
    return size


def _range(scales: tuple[float, float]) -> tuple[float, float]:
    if not 0 < scales[0] <= scales[1]:
        raise ValueError("must be [smallest, largest], both above 0")
    return scales


Scales = Annotated[tuple[float, float], AfterValidator(_range), Shown("[smallest, largest], each a number > 0")]
"""A range of factors by which images are enlarged."""

Resize = Annotated[
    tuple[int, int] | tuple[None, int] | tuple[int, None] | int | None,
    BeforeValidator(_checked),
    Shown("[height, width] | [null, width] | [height, null] | integer >= 1 | null"),
]
"""A working size: (height, width), one of them None to keep the proportions; or one number for the longest side,
to which images only shrink; or None for the size of the file."""


def working_size(height: int, width: int, resize: Resize) -> Size:
    """Return the (height, width) of an image under a working size."""
    if resize is None:
        return height, width
    if isinstance(resize, int):
        scale = min(1.0, resize / max(height, width))
        return max(1, round(height * scale)), max(1, round(width * scale))
    high, wide = resize
    if high is None:
        assert wide is not None
        return max(1, round(height * wide / width)), wide
    return high, max(1, round(width * high / height)) if wide is None else wide


def resize_image(image: npt.NDArray[np.uint8], resize: Resize) -> npt.NDArray[np.uint8]:
    """Bring an image [H, W] or [H, W, C] to its working size; area averaging when it shrinks, cubic when it grows."""
    height, width = working_size(image.shape[0], image.shape[1], resize)
    if image.shape[:2] == (height, width):
        return image
    method = cv2.INTER_AREA if height < image.shape[0] else cv2.INTER_CUBIC
    if image.ndim == 2 or image.shape[2] == 3:
        return np.asarray(cv2.resize(image, (width, height), interpolation=method), np.uint8)
    few = [image[..., start : start + 4] for start in range(0, image.shape[2], 4)]  # OpenCV averages up to four bands
    resized = [cv2.resize(part, (width, height), interpolation=method).reshape(height, width, -1) for part in few]
    return np.asarray(np.concatenate(resized, axis=2), np.uint8)


def resize_label(label: LabelMap, resize: Resize) -> LabelMap:
    """Bring a label map [H, W] to its working size, nearest."""
    height, width = working_size(label.shape[0], label.shape[1], resize)
    if label.shape == (height, width):
        return label
    return np.asarray(cv2.resize(label, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)
