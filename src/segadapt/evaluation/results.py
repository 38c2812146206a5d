"""The content of result files: the one place where predictions become pictures."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from segadapt.data.dataset import Picture
from segadapt.data.overlay import blend
from segadapt.data.writing import encode_index_png, encode_picture
from segadapt.labels import IGNORE, LabelMap, LabelSpace

JPEG_QUALITY = 90


class Prediction(NamedTuple):
    """The prediction of one image.

    Attributes:
        labels: [H, W] uint8, train ids.
        confidence: [H, W] float32, the probability of the predicted class, in (0, 1].
    """

    labels: LabelMap
    confidence: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Look:
    """How predictions are written.

    Attributes:
        space: classes and their colours.
        table: look-up table [256] from train ids to the ids to write; None leaves them as they are.
        unpainted: train ids of the classes that overlays show without colour.
    """

    space: LabelSpace
    table: LabelMap | None = None
    unpainted: Collection[int] = ()

    def encoded(self, kind: str, image: Picture, prediction: Prediction) -> bytes:
        """Return the content of the file of a kind, see :data:`segadapt.evaluation.placing.ENDINGS`."""
        labels, confidence = prediction
        if kind == "index":
            if self.table is None:
                return encode_index_png(labels, self.space.palette())
            return encode_index_png(self.table[labels])
        if kind == "confidence":
            return encode_index_png(np.rint(np.clip(confidence, 0, 1) * IGNORE).astype(np.uint8))
        if kind == "color":
            return encode_picture(".png", self.space.colorize(labels))
        return encode_picture(".jpg", self.overlay(image, labels), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])

    def overlay(self, image: Picture, labels: LabelMap) -> Picture:
        """Return the image [H, W, 3] with the colours of the classes over it."""
        return blend(image, labels, self.space, unpainted=self.unpainted)
