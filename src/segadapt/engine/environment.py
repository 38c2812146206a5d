"""The environment of one round: the data, passes and stores that the engine lends to a method."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from segadapt.core.files import short_hash
from segadapt.core.types import Size
from segadapt.data.dataset import Dataset
from segadapt.data.sharing import shared_among
from segadapt.data.statistics import class_statistics, spatial_frequencies
from segadapt.data.streaming import Behind
from segadapt.engine.bundle import DataBundle
from segadapt.engine.damaged import DamagedFiles
from segadapt.engine.label_store import LabelStore
from segadapt.engine.passes import Passes, TargetPass
from segadapt.engine.record import Record
from segadapt.engine.round_files import require_files, seal_files
from segadapt.engine.runtime import Runtime
from segadapt.engine.stored import KeptScores, SoftLabels
from segadapt.errors import RequestError
from segadapt.labels import LabelSpace
from segadapt.models.digest import state_digest
from segadapt.models.inference import InferenceConfig
from segadapt.models.segmenter import Segmenter
from segadapt.pieces.pseudo_labels import fitting_scores


class RoundEnvironment:
    """The environment of one round; implements :class:`segadapt.methods.method.Environment`.

    Args:
        data: opened data of the run.
        space: label space of the run.
        seed: seed of the run.
        runtime, record: runtime and record of this process.
        folder: folder of the round; holds the labels and scores that the method stores.
        look: called between two images of a pass; raises where the pass is to end.
        key: hash of everything that decides the stage's numbers; scores of an interrupted pass of the same key and
            weights are used. Empty begins every pass anew.
    """

    def __init__(
        self,
        data: DataBundle,
        space: LabelSpace,
        *,
        seed: int,
        runtime: Runtime,
        record: Record,
        folder: Path,
        look: Callable[[], None] = lambda: None,
        key: str = "",
    ):
        self.space = space
        self.seed = seed
        self.has_source, self.target = data.source is not None, data.target
        self.source_size, self.target_size = data.source_size, data.target_size
        self.kept_scores, self._soft_labels = KeptScores(folder / "scores"), SoftLabels(folder / "soft")
        self._data, self._runtime, self._folder, self._key = data, runtime, folder, key
        self._damaged, self._behind = DamagedFiles(record, data.skip_damaged), Behind()
        self._passes = Passes(data, runtime, record, self._damaged, look)
        self._labels = LabelStore(
            folder,
            data.target,
            space,
            truth=data.truth,
            runtime=runtime,
            damaged=self._damaged,
            behind=self._behind,
        )

    # ---- the data and its statistics ----

    @property
    def source(self) -> Dataset:
        """The labelled source images; RequestError in a run without."""
        return self._data.labelled_source()

    def labelled_target(self) -> Dataset:
        """Open the target training set with labels, for an oracle.

        Raises:
            RequestError: the recipe names no such data.
        """
        if self._data.oracle is None:
            raise RequestError("an oracle needs target labels, and the recipe names none (data.oracle)")
        return self._data.oracle()

    def target_shape(self) -> Size:
        """Return (height, width) of the target images at working size."""
        return self._passes.target_shape()

    def source_frequencies(self, size: Size) -> Tensor:
        """Return the source label frequency [K, H, W] by position, cached by content."""
        folder, damaged = self._data.cache_folder, self._damaged.handler
        with shared_among(self._runtime):
            return torch.from_numpy(spatial_frequencies(self.source, *size, cache=folder, damaged=damaged))

    def source_shares(self) -> Tensor:
        """Return the share [N, K] of each class in every source image, cached by content."""
        with shared_among(self._runtime):
            statistics = class_statistics(self.source, self._data.cache_folder, damaged=self._damaged.handler)
        return torch.from_numpy(statistics.fractions).float()

    # ---- passes over the images ----

    def target_images(self) -> Iterator[tuple[int, Tensor]]:
        """Yield index and image of this process's target images; see :meth:`Passes.target_images`."""
        return self._passes.target_images()

    def source_images(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield image and label of this process's source images; see :meth:`Passes.source_images`."""
        return self._passes.source_images()

    def predict_target(self, model: Segmenter, inference: InferenceConfig, keep: bool = False) -> TargetPass:
        """Run the network once over this process's target images; ``keep`` leaves the scores for training."""
        key = short_hash([self._key, state_digest(model), inference.model_dump(mode="json")]) if self._key else ""
        if self._runtime.main:
            self.kept_scores.open(keep, key)
        self._runtime.barrier()
        return self._passes.predict_target(model, inference, self.kept_scores)

    # ---- labels of the round ----

    def keep_label(self, index: int, label: Tensor, confidence: Tensor | None = None) -> None:
        """Store the pseudo label of a target image; see :meth:`LabelStore.keep`."""
        self._labels.keep(index, label, confidence)

    def pseudo_labelled(self) -> Dataset:
        """Return the target data set with the labels of this round."""
        return self._labels.dataset()

    def keep_soft_label(self, index: int, log_p: Tensor) -> None:
        """Store the log-probabilities [K, h, w] of a target image, behind the caller; see :meth:`SoftLabels.keep`."""
        fitted = fitting_scores(log_p.detach()).clone()
        self._behind.add(partial(self._soft_labels.keep, index, fitted), holds=fitted.nbytes)

    @property
    def soft_label(self) -> SoftLabels:
        """The soft labels of the target images, by their index; can be sent to decoding processes."""
        self._behind.finish()
        return self._soft_labels

    def report(self, values: Mapping[str, Any]) -> None:
        """Add numbers about this round's labels to their summary; see :meth:`LabelStore.report`."""
        self._labels.report(values)

    # ---- other processes ----

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Add tensors over all processes, in place."""
        self._runtime.sum(tensors)

    def gather(self, tensor: Tensor, samples: int) -> Tensor:
        """Collect a batch that was dealt out to the processes; see :meth:`Runtime.gather_batch`."""
        return self._runtime.gather_batch(tensor, samples)

    # ---- called by the engine, around a method's preparation ----

    def discard_preparation(self) -> None:
        """Remove the files of an interrupted preparation of this round, but for scores, which may be used again."""
        for path in self._folder.glob("*") if self._runtime.main else ():
            if path.is_dir() and path != self.kept_scores.folder:
                shutil.rmtree(path)
            elif not path.is_dir():
                path.unlink()
        self._runtime.barrier()

    def require_stored(self) -> None:
        """Refuse to go on in this round where its files changed; see :func:`segadapt.engine.round_files.require_files`.

        Every process must call this.
        """
        require_files(self._folder, self._runtime)

    def storing(self) -> Behind:
        """Return a context for the preparation: what it stores is written when the block ends well."""
        return self._behind

    def finish_preparation(self, stage: str, round_index: int) -> dict[str, Any] | None:
        """Wait for what is stored, remove scores that training does not need, summarise the labels, flush all of it.

        Every process must call this.

        Args:
            stage: name of the stage, for the summary.
            round_index: number of the round, from 0, for the summary.

        Returns:
            The summary, see :func:`segadapt.engine.label_store.summarise`; None if no label was stored.
        """
        self._behind.finish()
        self._runtime.barrier()
        self._passes.warn_of_missing()
        if self._runtime.main:
            self.kept_scores.close()
        summary = self._labels.finish(stage, round_index)
        seal_files(self._folder, self._runtime)
        return summary
