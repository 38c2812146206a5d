"""Damaged files: they stop the run, or are skipped and named once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from segadapt.data.dataset import DamagedFile
from segadapt.engine.record import Record

T = TypeVar("T")


class DamagedFiles:
    """Decides about damaged files and warns of each skipped file once.

    Args:
        record: takes the warnings.
        skip: whether damaged files are skipped; otherwise they stop the run.
    """

    def __init__(self, record: Record, skip: bool):
        self._record, self._skip = record, skip
        self._named: set[str] = set()

    @property
    def handler(self) -> Callable[[DamagedFile], None] | None:
        """A function to call with a damaged file; None where such a file stops the run."""
        return self._name if self._skip else None

    def if_readable(self, read: Callable[[], T]) -> T | None:
        """Return ``read()``; None for a damaged file that is skipped.

        Raises:
            DamagedFile: the file is damaged and stops the run.
        """
        try:
            return read()
        except DamagedFile as problem:
            return self.readable(problem)

    def readable(self, found: T | DamagedFile) -> T | None:
        """Return what a thread found, see :func:`segadapt.data.streaming.or_damage`; None for a skipped file.

        Raises:
            DamagedFile: the file is damaged and stops the run.
        """
        if not isinstance(found, DamagedFile):
            return found
        if not self._skip:
            raise found
        self._name(found)
        return None

    def _name(self, problem: DamagedFile) -> None:
        if str(problem) not in self._named:
            self._named.add(str(problem))
            self._record.warn(f"skipped: {problem}")
