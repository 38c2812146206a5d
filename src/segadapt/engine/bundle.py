"""The opened data of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from segadapt.data.cache import DecodedCache
from segadapt.data.dataset import Dataset
from segadapt.data.resize import Resize
from segadapt.errors import RequestError


@dataclass(kw_only=True)
class DataBundle:
    """The opened data of a run.

    Attributes:
        source: labelled source images; None where the run starts from a model file alone.
        target: target images; has no label paths.
        cache_folder: folder for statistics of the data, cached by content; None keeps none.
        oracle: opens the target training set with labels; only called when an oracle is trained.
        labelled: target images with labels that stages may learn (``data.labelled``), or None.
        truth: the target training set with labels, to measure pseudo labels for the report; never given to a method.
        source_size, target_size: working sizes; None keeps the images.
        cache: decoded images.
        workers: decoding processes per stream, or ``auto``; see :mod:`segadapt.data.workers`.
        skip_damaged: whether a damaged file is skipped with a warning; otherwise it stops the run.
    """

    source: Dataset | None
    target: Dataset
    cache_folder: Path | None
    oracle: Callable[[], Dataset] | None = None
    labelled: Dataset | None = None
    truth: Dataset | None = None
    source_size: Resize = None
    target_size: Resize = None
    cache: DecodedCache = field(default_factory=lambda: DecodedCache(0))
    workers: int | Literal["auto"] = 0
    skip_damaged: bool = False

    def labelled_source(self) -> Dataset:
        """Return the source images; RequestError where there are none."""
        if self.source is None:
            raise RequestError("this run has no source images (data.source); docs/no_source.md says what it can do")
        return self.source
