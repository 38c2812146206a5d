"""Passes over the source and the target images, each process over its share.

Threads decode the images to come and write what was made of the last ones, see :mod:`segadapt.data.streaming`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from segadapt.core.types import Size
from segadapt.data.cache import Key
from segadapt.data.resize import resize_image, resize_label
from segadapt.data.streaming import HELD, Behind, or_damage, ordered_map
from segadapt.engine.bundle import DataBundle
from segadapt.engine.damaged import DamagedFiles
from segadapt.engine.record import Record, Steps
from segadapt.engine.runtime import Runtime
from segadapt.engine.stored import KeptScores
from segadapt.errors import RequestError
from segadapt.methods.environment import Prediction
from segadapt.models.inference import InferenceConfig, scores
from segadapt.models.segmenter import Segmenter
from segadapt.pieces.images import for_device, to_batch
from segadapt.pieces.pseudo_labels import encode_scores, probabilities_from_scores

T = TypeVar("T")


class Passes:
    """Passes of one process over its share of the images, damaged files left out where the run allows that.

    Args:
        data: opened data of the run.
        runtime, record: runtime and record of this process.
        damaged: decides about files that cannot be read.
        look: called between two images; raises where the pass is to end.
    """

    def __init__(
        self, data: DataBundle, runtime: Runtime, record: Record, damaged: DamagedFiles, look: Callable[[], None]
    ):
        self._data, self._runtime, self._record, self._damaged, self._look = data, runtime, record, damaged, look
        self._left_out: set[int] = set()

    def target_images(self) -> Iterator[tuple[int, Tensor]]:
        """Yield the index and the image [1, 3, H, W] in [0, 1] of this process's target images."""
        for index, image in self._read("target images", len(self._data.target), self._target_tensor):
            if image is None:
                self._left_out.add(index)
            else:
                yield index, to_batch(image, self._runtime.device)

    def source_images(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the image [1, 3, H, W] in [0, 1] and the label [1, H, W] of this process's source images."""
        for _, pair in self._read("source images", len(self._data.labelled_source()), self._source_pair):
            if pair is not None:
                image, label = pair
                labels = label.to(self._runtime.device, non_blocking=True)[None].long()
                yield to_batch(image, self._runtime.device), labels

    def predict_target(self, model: Segmenter, inference: InferenceConfig, kept: KeptScores) -> TargetPass:
        """Run the network once over this process's target images; its scores go to ``kept``."""
        sizes: dict[int, Size] = {}
        with Behind() as behind:
            for index, image in self.target_images():
                sizes[index] = (image.shape[-2], image.shape[-1])
                if kept.has(index):  # an interrupted pass with the same weights stored it
                    continue
                with self._runtime.autocast():
                    compact = encode_scores(scores(model, image, inference)[0])
                behind.add(partial(kept.keep, index, compact), holds=compact.nbytes)
        return TargetPass(kept, sizes, self._runtime.device, inference.align_corners, self._look)

    def target_shape(self) -> Size:
        """Return (height, width) of the first readable target image at working size.

        Raises:
            RequestError: no target image can be read.
        """
        target = self._data.target
        for index in range(len(target)):
            image = self._damaged.if_readable(partial(self._target_image, index))
            if image is not None:
                return image.shape[0], image.shape[1]
        raise RequestError(f"{target.name}: no image can be read; check the folders of the recipe")

    def warn_of_missing(self) -> None:
        """Warn of the target images that any process had to leave out; every process must call this."""
        left_out = torch.tensor(len(self._left_out), device=self._runtime.device)
        self._runtime.sum([left_out])
        if int(left_out):
            total = len(self._data.target)
            self._record.warn(f"{int(left_out)} of {total} target images cannot be read and got no label")

    def _read(self, title: str, images: int, read: Callable[[int], T]) -> Iterator[tuple[int, T | None]]:
        """Yield what is read of this process's share of the images, by their numbers; None for a skipped one."""
        share = self._runtime.share(images)
        with Steps(title, len(share), quiet=self._record.quiet) as steps:
            for index, found in zip(share, ordered_map(or_damage(read), share, memory=HELD), strict=True):
                self._look()
                yield index, self._damaged.readable(found)
                steps.advance()

    def _target_image(self, index: int) -> npt.NDArray[np.uint8]:
        """Read a target image at working size."""
        target, size = self._data.target, self._data.target_size
        key: Key = ("image", target.items[index].image, size)
        return self._data.cache.get(key, lambda: resize_image(target.image(index), size))

    def _target_tensor(self, index: int) -> Tensor:
        """Read a target image at working size, for the device."""
        return for_device(self._target_image(index), self._runtime.device)

    def _source_pair(self, index: int) -> tuple[Tensor, Tensor]:
        """Read a source image and its label at working size, for the device."""
        source, size, device = self._data.labelled_source(), self._data.source_size, self._runtime.device
        image, label = resize_image(source.image(index), size), resize_label(source.label(index), size)
        return for_device(image, device), for_device(label, device)


class TargetPass:
    """The stored scores of a pass; iterating yields probabilities at image size, one image at a time."""

    def __init__(
        self,
        kept: KeptScores,
        sizes: Mapping[int, Size],
        device: torch.device,
        align_corners: bool,
        look: Callable[[], None],
    ):
        self._kept, self._sizes, self._device, self._align_corners, self._look = (
            kept,
            sizes,
            device,
            align_corners,
            look,
        )

    def __iter__(self) -> Iterator[Prediction]:
        found = ordered_map(lambda index: for_device(self._kept(index), self._device), self._sizes, memory=HELD)
        for (index, size), compact in zip(self._sizes.items(), found, strict=True):
            self._look()
            scores = compact.to(self._device, non_blocking=True)[None]
            yield Prediction(index, probabilities_from_scores(scores, size, align_corners=self._align_corners)[0])
