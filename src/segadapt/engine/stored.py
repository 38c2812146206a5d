"""Class scores and soft labels of the target images in one round, one file per image.

Both are plain values that read the file of an image when they are called, so they can be sent to decoding processes.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor

from segadapt.core.files import with_checksum, without_checksum, write_bytes, write_text
from segadapt.data.dataset import DamagedFile
from segadapt.pieces.soft_store import decode, encode


@dataclass(frozen=True)
class KeptScores:
    """Compact log scores of a pass over the target set, in ``folder``.

    ``scores(index)`` returns the scores [K, h, w] float16 of one image, bit for bit those that were kept; DamagedFile
    when there are none. A file is the three sizes as uint32 and the scores, both little-endian: threads read it, and
    the header of an ``.npy`` file is Python that CPython before 3.11.8 cannot always read in several threads.
    """

    folder: Path

    def open(self, needed: bool, key: str = "") -> None:
        """Make the folder, and remove scores of other weights from it; by one process.

        Args:
            needed: whether training reads the scores, so that :meth:`close` must not remove them.
            key: hash of the weights and of all else that decides the scores; empty uses none that are there.
        """
        of = self.folder / "of"
        if not key or not of.is_file() or of.read_text(encoding="utf-8", errors="replace") != key:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(of, key)
        if needed:
            self._needed.touch()

    def has(self, index: int) -> bool:
        """Return whether the scores of an image are there, whole."""
        try:
            self(index)
        except DamagedFile:
            return False
        return True

    def keep(self, index: int, scores: Tensor) -> None:
        """Store the scores [K, h, w] float16 of one image; may be called in a thread."""
        values = scores.cpu().numpy().astype("<f2", copy=False)
        content = np.array(values.shape, "<u4").tobytes() + values.tobytes()
        write_bytes(self._file(index), with_checksum(content), flush=False)

    def close(self) -> None:
        """Remove the folder unless training needs it."""
        if self.folder.exists() and not self._needed.exists():
            shutil.rmtree(self.folder)

    def __call__(self, index: int) -> npt.NDArray[np.float16]:
        content = _content(self._file(index))
        head = 3 * np.dtype("<u4").itemsize
        shape = np.frombuffer(content[:head], "<u4").tolist()
        return np.asarray(np.frombuffer(content, "<f2", offset=head).reshape(shape).astype(np.float16), np.float16)

    @property
    def _needed(self) -> Path:
        return self.folder / "keep"

    def _file(self, index: int) -> Path:
        return self.folder / f"{index:06d}.scores"


@dataclass(frozen=True)
class SoftLabels:
    """Soft labels of the target set, in ``folder``.

    ``soft(index)`` returns the log-probabilities [K, h, w] float16 of one image; DamagedFile when there are none.
    """

    folder: Path

    def keep(self, index: int, log_p: Tensor) -> None:
        """Store the log-probabilities [K, h, w] of one image, see :func:`fitting_scores`; may be called in a thread."""
        write_bytes(self._file(index), with_checksum(encode(log_p)), flush=False)

    def __call__(self, index: int) -> npt.NDArray[np.float16]:
        return decode(_content(self._file(index)))

    def _file(self, index: int) -> Path:
        return self.folder / f"{index:06d}"


def _content(path: Path) -> bytes:
    """Read a file; there is none for a damaged image, which a run may skip.

    Raises:
        DamagedFile: the file cannot be read, or is not what was written.
    """
    fix = "remove the stage's folder and resume"
    try:
        content = without_checksum(path.read_bytes())
    except OSError as problem:
        raise DamagedFile(f"{path} cannot be read: {problem.strerror or problem}; {fix}") from None
    if content is None:
        raise DamagedFile(f"{path} is damaged: its checksum does not match; {fix}")
    return content
