"""What a round keeps of its target images beside hard labels: class scores and soft labels, a file an image.

Both are plain values that read an image's file when they are called, so they can be sent to decoding processes.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor

from segadapt.core.files import write_bytes
from segadapt.data.dataset import DamagedFile
from segadapt.pieces.pseudo_labels import fitting_scores
from segadapt.pieces.soft_store import decode, encode


@dataclass(frozen=True)
class KeptScores:
    """Compact log scores of a pass over the target set, in ``folder``."""

    folder: Path

    def keep(self, index: int, scores: npt.NDArray[np.float16]) -> None:
        """Store those of one image."""
        content = io.BytesIO()
        np.save(content, scores)
        write_bytes(self._file(index), content.getvalue())

    def __call__(self, index: int) -> npt.NDArray[np.float16]:
        """Scores [K, h, w] of one image; DamagedFile when there are none."""
        return np.asarray(np.load(io.BytesIO(_content(self._file(index))), allow_pickle=False), np.float16)

    def _file(self, index: int) -> Path:
        return self.folder / f"{index:06d}.npy"


@dataclass(frozen=True)
class SoftLabels:
    """Soft labels of the target set, in ``folder``."""

    folder: Path

    def keep(self, index: int, log_p: Tensor) -> None:
        """Store that of one image, at the network's stride or, for large maps of fine strides, coarser."""
        write_bytes(self._file(index), encode(fitting_scores(log_p)))

    def __call__(self, index: int) -> npt.NDArray[np.float16]:
        """Log-probabilities [K, h, w] of one image; DamagedFile when there are none."""
        return decode(_content(self._file(index)))

    def _file(self, index: int) -> Path:
        return self.folder / f"{index:06d}"


def _content(path: Path) -> bytes:
    """A damaged image, which a run may skip, has no file."""
    try:
        return path.read_bytes()
    except OSError as problem:
        raise DamagedFile(
            f"{path} cannot be read: {problem.strerror or problem}; remove the stage's folder and resume"
        ) from None
