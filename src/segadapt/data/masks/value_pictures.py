"""One picture for each value or colour of masks, so that a person can say which class it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from segadapt.core.files import write_bytes
from segadapt.data.dataset import Picture
from segadapt.data.decode import read_picture
from segadapt.data.files.writing import encode_picture
from segadapt.data.folders.gathering import images_in
from segadapt.data.folders.listing import chosen
from segadapt.data.folders.pairing import masks_of
from segadapt.data.masks.mask_values import Sign, count_values, shown, sign_map

_WIDEST = 640
_DIMMED = 0.25
_OUTLINE = (255, 40, 40)
_JPEG_QUALITY = 90


class ShownSign(NamedTuple):
    """A value or colour of masks and the picture of it.

    Attributes:
        sign: the value, or the colour as ``#rrggbb``.
        share: of all pixels, in [0, 1].
        masks: number of masks with it.
        image: image that shows most of it.
        picture: the file that was written: that image, and beside it the same with all else dimmed.
    """

    sign: str
    share: float
    masks: int
    image: str
    picture: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return self._asdict()


def show_signs(
    images: Path,
    labels: Path,
    folder: Path,
    list_file: Path | None = None,
    most: int = 256,
    progress: Callable[[], None] = lambda: None,
) -> tuple[list[ShownSign], int]:
    """Write a picture of each value or colour that occurs in masks, the most frequent first.

    Args:
        images, labels: folders of images and of their masks; no classes are needed.
        folder: for the pictures ``value_7.jpg`` or ``color_804080.jpg``.
        list_file: file that names the images to use.
        most: at most so many pictures.
        progress: called after each of them.

    Returns:
        What was shown, and how many values and colours there are in all.

    Raises:
        RequestError: the folders do not fit each other.
    """
    found = images_in(images, labels, "folder").images
    if list_file is not None:
        found = chosen(list_file, images, found, "folder")
    masks = masks_of(images, found, labels, "folder")
    values = count_values(masks)
    order = sorted(values.counts, key=lambda sign: -values.counts[sign].pixels)
    signs = []
    for sign in order[:most]:
        count = values.counts[sign]
        file = folder / f"{'value_' if isinstance(sign, int) else 'color_'}{shown(sign).lstrip('#')}.jpg"
        picture = _picture(read_picture(found[count.place]), masks[count.place], sign)
        write_bytes(file, encode_picture(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]))
        signs.append(ShownSign(shown(sign), values.share(sign), count.masks, str(found[count.place]), str(file)))
        progress()
    return signs, len(order)


def _picture(image: Picture, mask: Path, sign: Sign) -> Picture:
    """Return the image, and beside it the same with all else dimmed and the outline of the sign drawn."""
    scale = min(1.0, _WIDEST / image.shape[1])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    covered = cv2.resize(sign_map(mask, sign).astype(np.uint8) * 255, size, interpolation=cv2.INTER_AREA)
    area = (covered > 0).astype(np.uint8)
    lit = np.where(area[..., None] > 0, small, small * _DIMMED).astype(np.uint8)
    lit[cv2.dilate(area, np.ones((3, 3), np.uint8)) > area] = _OUTLINE
    return np.concatenate([small, lit], axis=1)
