"""Passes over the source and the target images, each process over its share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from segadapt.core.types import Size
from segadapt.data.cache import Key
from segadapt.data.resize import resize_image, resize_label
from segadapt.engine.bundle import DataBundle
from segadapt.engine.damaged import DamagedFiles
from segadapt.engine.record import Record, Steps
from segadapt.engine.runtime import Runtime
from segadapt.engine.stored import KeptScores
from segadapt.errors import RequestError
from segadapt.labels import LabelMap
from segadapt.methods.environment import Prediction
from segadapt.models.inference import InferenceConfig, scores
from segadapt.models.segmenter import Segmenter
from segadapt.pieces.images import to_batch
from segadapt.pieces.pseudo_labels import encode_scores, probabilities_from_scores


class Passes:
    """Passes of one process over its share of the images, damaged files left out where the run allows that.

    Args:
        data: opened data of the run.
        runtime, record: runtime and record of this process.
        damaged: decides about files that cannot be read.
    """

    def __init__(self, data: DataBundle, runtime: Runtime, record: Record, damaged: DamagedFiles):
        self._data, self._runtime, self._record, self._damaged = data, runtime, record, damaged
        self._left_out: set[int] = set()

    def target_images(self) -> Iterator[tuple[int, Tensor]]:
        """Yield the index and the image [1, 3, H, W] in [0, 1] of this process's target images."""
        share = self._share(len(self._data.target))
        with Steps("target images", len(share), quiet=self._record.quiet) as steps:
            for index in share:
                image = self._damaged.if_readable(partial(self._target_image, index))
                if image is None:
                    self._left_out.add(index)
                else:
                    yield index, to_batch(image, self._runtime.device)
                steps.advance()

    def source_images(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the image [1, 3, H, W] in [0, 1] and the label [1, H, W] of this process's source images."""
        share = self._share(len(self._data.labelled_source()))
        with Steps("source images", len(share), quiet=self._record.quiet) as steps:
            for index in share:
                pair = self._damaged.if_readable(partial(self._source_pair, index))
                if pair is not None:
                    image, label = pair
                    labels = torch.from_numpy(label)[None].to(self._runtime.device).long()
                    yield to_batch(image, self._runtime.device), labels
                steps.advance()

    def predict_target(self, model: Segmenter, inference: InferenceConfig, kept: KeptScores) -> TargetPass:
        """Run the network once over this process's target images; its scores go to ``kept``."""
        sizes: dict[int, Size] = {}
        for index, image in self.target_images():
            if not kept.has(index):  # an interrupted pass with the same weights may have stored it
                with self._runtime.autocast():
                    compact = scores(model, image, inference)[0]
                kept.keep(index, encode_scores(compact))
            sizes[index] = (image.shape[-2], image.shape[-1])
        return TargetPass(kept, sizes, self._runtime.device, inference.align_corners)

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

    def _share(self, images: int) -> range:
        """Return the indices of the images that this process looks at."""
        return range(self._runtime.rank, images, self._runtime.processes)

    def _target_image(self, index: int) -> npt.NDArray[np.uint8]:
        """Read a target image at working size."""
        target, size = self._data.target, self._data.target_size
        key: Key = ("image", target.items[index].image, size)
        return self._data.cache.get(key, lambda: resize_image(target.image(index), size))

    def _source_pair(self, index: int) -> tuple[npt.NDArray[np.uint8], LabelMap]:
        """Read a source image and its label at working size."""
        source, size = self._data.labelled_source(), self._data.source_size
        return resize_image(source.image(index), size), resize_label(source.label(index), size)


class TargetPass:
    """The stored scores of a pass; iterating yields probabilities at image size, one image at a time."""

    def __init__(self, kept: KeptScores, sizes: Mapping[int, Size], device: torch.device, align_corners: bool):
        self._kept, self._sizes, self._device, self._align_corners = kept, sizes, device, align_corners

    def __iter__(self) -> Iterator[Prediction]:
        for index, size in self._sizes.items():
            compact = torch.from_numpy(self._kept(index))[None].to(self._device)
            yield Prediction(index, probabilities_from_scores(compact, size, align_corners=self._align_corners)[0])
