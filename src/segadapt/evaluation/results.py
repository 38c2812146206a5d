"""The content of result files: the one place where predictions become pictures."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from segadapt.data.dataset import Picture
from segadapt.data.files.writing import encode_index_png, encode_picture
from segadapt.data.masks.mask_format import MaskFormat
from segadapt.data.overlay import blend
from segadapt.labels import IGNORE, LabelMap

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
        masks: values, colours and stamp of masks; the classes.
        unpainted: train ids of the classes that overlays show without colour.
    """

    masks: MaskFormat
    unpainted: Collection[int] = ()

    def encoded(self, kind: str, image: Picture, prediction: Prediction) -> bytes:
        """Return the content of the file of a kind, see :data:`segadapt.evaluation.placing.ENDINGS`."""
        labels, confidence = prediction
        if kind == "index":
            return self.masks.encode(labels)
        if kind == "confidence":
            return encode_index_png(np.rint(np.clip(confidence, 0, 1) * IGNORE).astype(np.uint8))
        if kind == "color":
            return self.masks.encode_colors(labels)
        return encode_picture(".jpg", self.overlay(image, labels), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])

    def overlay(self, image: Picture, labels: LabelMap) -> Picture:
        """Return the image [H, W, 3] with the colours of the classes over it."""
        return blend(image, labels, self.masks.space, unpainted=self.unpainted)
