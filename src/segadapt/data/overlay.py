"""Pictures that show a label on top of its image, with a legend."""

from __future__ import annotations

from collections.abc import Collection

import cv2
import numpy as np
import numpy.typing as npt

from segadapt.data.bands import as_rgb
from segadapt.data.dataset import Picture
from segadapt.labels import LabelMap, LabelSpace

_WIDEST = 960
_LINE, _COLUMN, _MARGIN = 22, 190, 8
_INK, _PAPER = (30, 30, 30), 245


def blend(
    image: Picture, label: LabelMap, space: LabelSpace, opacity: float = 0.55, unpainted: Collection[int] = ()
) -> Picture:
    """Lay the label's colours, ``opacity`` (0 to 1) strong, over the image [H, W, C].

    Ignored pixels, and those of the train ids ``unpainted``, show the image alone.
    """
    painted = np.zeros(256, bool)
    painted[: len(space)] = True
    painted[list(unpainted)] = False
    image = as_rgb(image)
    mixed = cv2.addWeighted(space.colorize(label), opacity, image, 1.0 - opacity, 0.0)
    return np.where(painted[label][..., None], mixed, image).astype(np.uint8)


def legend(shares: npt.NDArray[np.float64], space: LabelSpace, width: int) -> Picture:
    """Draw a strip ``width`` pixels wide with colour, name and percentage of the classes that occur."""
    present = [c for c in np.argsort(-shares, kind="stable").tolist() if shares[c] > 0]
    columns = max(1, width // _COLUMN)
    rows = max(1, -(-len(present) // columns))
    strip = np.full((rows * _LINE + 2 * _MARGIN, width, 3), _PAPER, np.uint8)
    for place, train_id in enumerate(present):
        row, column = divmod(place, columns)
        x, y = _MARGIN + column * _COLUMN, _MARGIN + row * _LINE
        cv2.rectangle(strip, (x, y + 3), (x + 16, y + _LINE - 4), space.colors[train_id], -1)
        name = space.names[train_id].encode("ascii", "replace").decode()
        text = f"{name} {100 * shares[train_id]:.1f}%"
        cv2.putText(strip, text, (x + 22, y + 16), cv2.FONT_HERSHEY_SIMPLEX, 0.42, _INK, 1, cv2.LINE_AA)
    return strip


def contact_picture(image: Picture, label: LabelMap | None, space: LabelSpace) -> Picture:
    """Show image and image with label side by side, legend below; the image alone without a label.

    Large images are shown at 960 pixels width.
    """
    image = as_rgb(image)
    scale = min(1.0, _WIDEST / image.shape[1])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    if label is None:
        return small
    shares = np.bincount(label.ravel(), minlength=len(space))[: len(space)] / max(label.size, 1)
    small_label = np.asarray(cv2.resize(label, size, interpolation=cv2.INTER_NEAREST), np.uint8)
    pair = np.concatenate([small, blend(small, small_label, space)], axis=1)
    return np.concatenate([pair, legend(shares, space, pair.shape[1])], axis=0)
