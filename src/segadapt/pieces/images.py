"""Images as network input."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def for_device(values: npt.NDArray[Any], device: torch.device | str) -> Tensor:
    """Return an array as a tensor that ``to(device, non_blocking=True)`` sends to a device without waiting for it.

    For a GPU it is copied to memory that the GPU reads by itself; so call this in the thread that decodes.
    """
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    return tensor.pin_memory() if torch.device(device).type == "cuda" else tensor


def to_batch(image: npt.NDArray[np.uint8] | Tensor, device: torch.device | str) -> Tensor:
    """Turn an image [H, W, C], a uint8 array or tensor, into a batch [1, C, H, W] float32 in [0, 1] on ``device``.

    The bytes travel to the device, not the four times larger floats.

    Example:
        >>> to_batch(np.full((2, 4, 3), 255, np.uint8), "cpu").shape
        torch.Size([1, 3, 2, 4])
    """
    pixels = image if isinstance(image, Tensor) else torch.from_numpy(np.ascontiguousarray(image))
    return pixels.to(device, non_blocking=True).permute(2, 0, 1)[None].float() / 255
