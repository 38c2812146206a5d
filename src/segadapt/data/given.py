"""Images that a program hands over: PIL images, arrays and tensors as RGB pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps
from torch import Tensor

from segadapt.data.dataset import Picture
from segadapt.errors import RequestError

IMAGE = (
    "an image: a PIL image, or a NumPy array or torch tensor of grey, RGB or RGBA values, [H, W], [H, W, C] or "
    "[C, H, W], as uint8, uint16 or floats in [0, 1]"
)
"""The kinds that :func:`as_picture` takes, for messages."""
_CHANNELS = (3, 1, 4)
"""Numbers of channels that an image may have, the likeliest first."""


def as_picture(value: Any, who: object, bands: int = 3) -> Picture:
    """Return an image as a viewer shows it: RGB [H, W, 3] uint8, in memory of its own order.

    Grey is repeated, transparency dropped; 16 bits and floats become 8 bits. The orientation tag of a PIL image is
    obeyed. Where a shape may be read in two ways, three channels are likelier than one or four,
    and channels last.

    Args:
        value: see :data:`IMAGE`.
        who: what the image is called in messages.
        bands: number C of bands where the image is not RGB: then only arrays and tensors of C bands are images.

    Raises:
        RequestError: anything else.
    """
    if isinstance(value, Image.Image):
        value = _shown(value, who)
    array = _channels_last(as_array(value, who, IMAGE), who, _CHANNELS if bands == 3 else (bands,))
    if array.dtype.kind == "f":
        array = _bytes_of_floats(array, who)
    elif array.dtype == np.uint16:
        array = (array >> 8).astype(np.uint8)
    elif array.dtype == bool:
        array = array.astype(np.uint8) * 255
    if array.dtype != np.uint8:
        raise RequestError(f"{who} is an image of {array.dtype}; expected {IMAGE}")
    if bands == 3:
        array = array[..., :3] if array.shape[2] != 1 else np.repeat(array, 3, axis=2)
    return np.require(array, requirements=["C", "W"])


def as_array(value: Any, who: object, expected: str) -> npt.NDArray[Any]:
    """Return an array or tensor as an array, floats of a tensor in 32 bits; RequestError for what is neither."""
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        return np.asarray((value.float() if value.is_floating_point() else value).numpy())
    if isinstance(value, np.ndarray):
        return value
    raise RequestError(f"{who} is a {type(value).__name__}; expected {expected}")


def _shown(image: Image.Image, who: object) -> npt.NDArray[Any]:
    """Return the pixels of a PIL image, upright: [H, W] uint16 or float, or [H, W, 3] uint8."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)
    if image.mode == "F":
        return np.asarray(image)
    if image.mode == "I":
        raise RequestError(
            f"{who} is a PIL image of mode I (32 bits); expected 8 or 16 bits per channel: bring its values to "
            "0 .. 255, as uint8"
        )
    return np.asarray(image.convert("RGB"))


def _channels_last(array: npt.NDArray[Any], who: object, permitted: Sequence[int]) -> npt.NDArray[Any]:
    """Return [H, W, C] of an image with one of the permitted numbers C of channels, the likeliest first."""
    if array.ndim == 2 and array.size and 1 in permitted:
        return array[..., None]
    if array.ndim == 3 and array.size:
        first, last, likely = array.shape[0], array.shape[2], permitted[0]
        if last == likely or (first != likely and last in permitted):
            return array
        if first in permitted:
            return np.moveaxis(array, 0, 2)
    wanted = IMAGE if len(permitted) > 1 else f"an array or tensor of {permitted[0]} bands, [H, W, C] or [C, H, W]"
    batch = "; images of a batch are given as a list" if array.ndim == 4 else ""
    raise RequestError(f"{who} is an image of shape {list(array.shape)}; expected {wanted}{batch}")


def _bytes_of_floats(array: npt.NDArray[Any], who: object) -> npt.NDArray[np.uint8]:
    if not (array.min() >= 0 and array.max() <= 1):  # also false for NaN
        raise RequestError(
            f"{who} is an image with values from {array.min():g} to {array.max():g}; expected floats in [0, 1], "
            "or uint8 from 0 to 255"
        )
    return np.asarray(np.rint(array * 255), np.uint8)
