"""The prediction of one image after another, in the three parts that a pass overlaps: prepare, predict, fetch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from segadapt.core.types import Size
from segadapt.data.dataset import DamagedFile, Picture
from segadapt.data.resize import Resize
from segadapt.data.streaming import HELD, Behind, or_damage, ordered_map, size_of
from segadapt.errors import RequestError
from segadapt.evaluation.results import Prediction
from segadapt.evaluation.scoring import working_image
from segadapt.models.inference import InferenceConfig, predict_labels
from segadapt.models.segmenter import Segmenter
from segadapt.pieces.images import for_device, to_batch


class Predicted(NamedTuple):
    """A prediction that is still on its device; :meth:`fetched` waits for it.

    Attributes:
        labels: [H, W] uint8, train ids.
        confidence: [H, W] float32, in (0, 1].
    """

    labels: Tensor
    confidence: Tensor

    def fetched(self) -> Prediction:
        """Return the prediction as arrays; may be called in a thread."""
        return Prediction(self.labels.cpu().numpy(), self.confidence.cpu().numpy())


@dataclass(frozen=True)
class Predictor:
    """A network and how it predicts.

    Attributes:
        model: the network, on ``device``.
        config: how to predict.
        device: where to compute.
        size: working size to which images are brought first.
    """

    model: Segmenter
    config: InferenceConfig
    device: torch.device
    size: Resize = None

    @classmethod
    def of(
        cls, model: Segmenter, config: InferenceConfig | None, device: torch.device | str | None, size: Resize = None
    ) -> Predictor:
        """Make one that moves the model to ``device``, or computes where it is; the whole image once if no config."""
        place = torch.device(device) if device is not None else next(model.parameters()).device
        model.to(place)
        return cls(model, config or InferenceConfig(), place, size)

    def prepared(self, image: Picture) -> Tensor:
        """Return the image [H, W, C] at working size, ready for the device; may be called in a thread.

        Raises:
            RequestError: it is not an image of the network's bands.
        """
        bands = self.model.bands
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != bands or not image.size:
            what = "an RGB" if bands == 3 else "an"
            raise RequestError(
                f"an image must be {what} array [height, width, {bands}] of uint8, not {list(image.shape)} of "
                f"{image.dtype}"
            )
        return for_device(working_image(image, self.size, self.config), self.device)

    def predicted(self, pixels: Tensor, size: Size) -> Predicted:
        """Predict a prepared image at (height, width) ``size``; on a GPU, nothing waits for the result."""
        labels, confidence = predict_labels(self.model, to_batch(pixels, self.device), size, self.config)
        return Predicted(labels[0], confidence[0])


def predict_each(
    predictor: Predictor,
    paths: Sequence[Path],
    read: Callable[[Path], Picture],
    write: Callable[[Path, Picture, Predicted], None],
    damaged: Callable[[Path, DamagedFile], None],
    progress: Callable[[], None],
) -> None:
    """Predict image files one after another, while threads read those to come and write those that are done.

    Args:
        predictor: predicts.
        paths: the files.
        read: decodes a file, in a thread.
        write: writes what was made of a file, in a thread.
        damaged: called in order for each file that cannot be read.
        progress: called after every file.

    Raises:
        RunError: a result cannot be written.
    """

    def prepared(path: Path) -> tuple[Picture, Tensor]:
        image = read(path)
        return image, predictor.prepared(image)

    with Behind() as behind:
        for path, found in zip(paths, ordered_map(or_damage(prepared), paths, memory=HELD), strict=True):
            if isinstance(found, DamagedFile):
                damaged(path, found)
            else:
                image, pixels = found
                made = predictor.predicted(pixels, (image.shape[0], image.shape[1]))
                behind.add(partial(write, path, image, made), holds=size_of((image, *made)))
            progress()
