"""Pictures as bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt


def encode_picture(suffix: str, picture: npt.NDArray[np.unsignedinteger[Any]], settings: Sequence[int] = ()) -> bytes:
    """The content of an image file.

    Args:
        suffix: the format, ``.png`` or ``.jpg``.
        picture: grey [H, W] or RGB [H, W, 3]; uint8, or uint16 for ``.png``.
        settings: OpenCV's, in pairs of name and value.
    """
    stored = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR) if picture.ndim == 3 else picture
    done, content = cv2.imencode(suffix, stored, list(settings))
    if not done:
        raise RuntimeError(f"a {picture.shape} picture could not be encoded as {suffix}")
    return bytes(content.tobytes())
