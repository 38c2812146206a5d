"""Curves for TensorBoard, written by the process itself: no thread that could fail or be waited for."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from segadapt.core.files import append_bytes
from segadapt.errors import RunError

_EVERY = 20.0
"""Seconds between two writes."""


class Curves:
    """Points of curves, written every 20 seconds; where they cannot be, it is said once, and the run goes on.

    Args:
        folder: folder of the event files; made where it is missing.
        warn: takes the line about a disk that refuses.
    """

    def __init__(self, folder: Path, warn: Callable[[str], None]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        made = f"{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self._file: Path | None = folder / f"events.out.tfevents.{made}"
        self._warn = warn
        self._waiting: list[bytes] = []
        self._written = time.monotonic()
        self._add(file_version="brain.Event:2")

    def add(self, tag: str, value: float, position: int) -> None:
        """Add the point (position, value) to the curve ``tag``."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        points = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
        self._add(step=position, summary=points)
        if time.monotonic() - self._written > _EVERY:
            self.write()

    def _add(self, **values: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event  # slow to import; commands without a run do without it
        from tensorboard.summary.writer.record_writer import RecordWriter

        RecordWriter(_Buffer(self._waiting)).write(Event(wall_time=time.time(), **values).SerializeToString())

    def write(self) -> None:
        """Write the points that wait."""
        waiting, self._waiting, self._written = b"".join(self._waiting), [], time.monotonic()
        if self._file is None:
            return
        try:
            append_bytes(self._file, waiting)
        except RunError as problem:
            self._file = None
            self._warn(f"no further curves for TensorBoard: {problem}")


class _Buffer:
    """Takes what TensorBoard's writer writes."""

    def __init__(self, parts: list[bytes]) -> None:
        self._parts = parts

    def write(self, part: bytes) -> None:
        self._parts.append(part)
