"""Pictures as bytes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from segadapt.labels import LabelMap


def encode_picture(suffix: str, picture: npt.NDArray[np.unsignedinteger[Any]], settings: Sequence[int] = ()) -> bytes:
    """Return the content of an image file.

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


def encode_index_png(label: LabelMap, palette: npt.NDArray[np.uint8] | None = None) -> bytes:
    """Return the content of an 8-bit PNG file whose pixel values are the labels.

    Args:
        label: [H, W] uint8, not empty.
        palette: [256, 3] RGB. The file then is a palette PNG (Pillow's mode P): the stored index is the label, and a
            viewer shows the colour. None writes grey values.

    Raises:
        ValueError: ``label`` has another shape or type.
    """
    if label.ndim != 2 or label.dtype != np.uint8 or not label.size:
        raise ValueError(f"a label map is [H, W] uint8 and not empty, not {label.shape} {label.dtype}")
    image = Image.fromarray(np.ascontiguousarray(label))
    if palette is not None:
        image.putpalette(np.ascontiguousarray(palette, np.uint8).tobytes())
    content = io.BytesIO()
    image.save(content, "PNG", bits=8)
    return content.getvalue()
