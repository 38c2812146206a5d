"""The environment that the engine lends to a method for a round.

A method knows nothing of devices, processes, files or pictures. Data sets, passes over them, sums over
processes and a place for pseudo labels reach it through this protocol; tests pass small stand-ins.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from segadapt.core.types import Size
from segadapt.data.dataset import Dataset
from segadapt.data.resize import Resize
from segadapt.labels import LabelSpace
from segadapt.models.inference import InferenceConfig
from segadapt.models.segmenter import Segmenter


@dataclass(frozen=True)
class Prediction:
    """The current model's prediction of one target image.

    Attributes:
        index: position in the target data set.
        probabilities: [K, H, W] at working size.
    """

    index: int
    probabilities: Tensor


class Predictions(Protocol):
    """Predictions of one pass over the target set, kept compactly: iterating again is cheap."""

    def __iter__(self) -> Iterator[Prediction]: ...


class Environment(Protocol):
    """Data sets, passes over them, and a place for labels.

    Attributes:
        space: the label space of the run.
        has_source: whether the run has source images. Without, ``source`` and what is known of it are errors.
        target: target images; it holds no label path.
        source_size, target_size: working sizes.
        seed: seed of the run.
    """

    space: LabelSpace
    has_source: bool
    target: Dataset
    source_size: Resize
    target_size: Resize
    seed: int

    @property
    def source(self) -> Dataset:
        """Labelled source data; RequestError in a run without."""
        ...

    def labelled_target(self) -> Dataset:
        """Return the target training set with labels; only for an oracle. RequestError if the recipe has none."""
        ...

    def target_images(self) -> Iterator[tuple[int, Tensor]]:
        """Yield this process's share of the target set: index and image [1, 3, H, W] in [0, 1] at working size."""
        ...

    def source_images(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield this process's share of the source set: image [1, 3, H, W] in [0, 1], label [1, H, W], working size."""
        ...

    def predict_target(self, model: Segmenter, inference: InferenceConfig, keep: bool = False) -> Predictions:
        """Predict this process's share of the target set; ``keep`` leaves the scores for training."""
        ...

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Add the tensors of all processes, in place."""
        ...

    def gather(self, tensor: Tensor, samples: int) -> Tensor:
        """Return a batch [samples, ...] that was dealt out to the processes, in its original order."""
        ...

    def keep_label(self, index: int, label: Tensor, confidence: Tensor | None = None) -> None:
        """Store the pseudo label [H, W] uint8 of target image ``index`` for this round."""
        ...

    def pseudo_labelled(self) -> Dataset:
        """Return the target set with this round's stored pseudo labels."""
        ...

    def kept_scores(self, index: int) -> Any:
        """Return compact log scores [K, h, w] float16 of target image ``index`` kept this round."""
        ...

    def keep_soft_label(self, index: int, log_p: Tensor) -> None:
        """Store log-probabilities [K, h, w] of target image ``index`` in at most 0.4 MB."""
        ...

    def soft_label(self, index: int) -> Any:
        """Return the log-probabilities [K, h, w] float16 of target image ``index`` stored this round."""
        ...

    def source_frequencies(self, size: Size) -> Tensor:
        """Return the source label frequency [K, H, W] by position, for spatial priors; cached by content."""
        ...

    def source_shares(self) -> Tensor:
        """Return the share [N, K] of every class in each source image; cached by content."""
        ...

    def target_shape(self) -> Size:
        """Return (height, width) of the target images at working size, for spatial priors."""
        ...

    def report(self, values: Mapping[str, Any]) -> None:
        """Add numbers about this round's pseudo labels to the run's record."""
        ...
