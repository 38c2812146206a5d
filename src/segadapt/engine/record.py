"""The record of a run (JSON lines, TensorBoard), and a progress line with rate and time left."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from segadapt.core.files import append_text
from segadapt.core.text import TextConsole, printable

if TYPE_CHECKING:
    from segadapt.engine.curves import Curves

console = TextConsole(stderr=True)


class Record:
    """Writes the events of a run to ``log.jsonl`` and its curves to TensorBoard, and speaks to the person who watches.

    Args:
        folder: folder of the run; made where it is missing.
        active: whether to write at all; in a run of several processes, only the main one does.
        quiet: whether to keep progress from the terminal.
        wait: whether to leave the folder as it is, and keep events in memory, until :meth:`begin`.
    """

    def __init__(self, folder: Path, active: bool, quiet: bool = False, wait: bool = False):
        self.active = active
        self.quiet = quiet or not active
        self._folder = folder
        self._curves: Curves | None = None
        self._waiting: list[str] | None = []
        self._warned: set[str] = set()
        if not wait:
            self.begin()

    def begin(self) -> None:
        """Make the folder and write what happened so far."""
        if self.active and self._waiting is not None:
            from segadapt.engine.curves import Curves

            self._folder.mkdir(parents=True, exist_ok=True)
            lines, self._waiting = self._waiting, None
            self._curves = Curves(self._folder / "tensorboard", self.warn)
            if lines:
                self._append(lines)

    def event(self, kind: str, **values: Any) -> None:
        """Append one JSON line with the kind of the event, the time and ``values``."""
        if not self.active:
            return
        line = json.dumps({"event": kind, "time": round(time.time(), 3), **values}) + "\n"
        if self._waiting is None:
            self._append([line])
        else:
            self._waiting.append(line)

    def _append(self, lines: Sequence[str]) -> None:
        append_text(self._folder / "log.jsonl", "".join(lines))

    def scalars(self, tag: str, values: Mapping[str, float], position: int) -> None:
        """Add one point at ``position`` to each of the curves ``tag/name``."""
        if self._curves is not None:
            for name, value in values.items():
                self._curves.add(printable(f"{tag}/{name}"), value, position)

    def say(self, text: str) -> None:
        """Print a line, unless output is off."""
        if not self.quiet:
            console.print(text, soft_wrap=True)

    def warn(self, text: str, once: str = "") -> None:
        """Print a warning even when output is off, and record it; of several about the same ``once`` the first."""
        if self.active and (not once or once not in self._warned):
            self._warned.add(once)
            console.print(f"warning: {text}", style="yellow", soft_wrap=True)
            self.event("warning", text=text)

    def close(self) -> None:
        """Write everything that is still in memory."""
        if self._curves is not None:
            self._curves.write()


class Steps(AbstractContextManager["Steps"]):
    """A progress line: done of total, rate, time left, latest numbers.

    A bar on a terminal; elsewhere a plain line every 30 seconds.

    Args:
        title: name of the work.
        total: number of steps.
        done: steps that are already done.
        quiet: whether to show nothing.
    """

    def __init__(self, title: str, total: int, done: int = 0, quiet: bool = False):
        self._hidden = quiet or not sys.stderr.isatty()
        self._plain = not quiet and self._hidden
        self._title, self._total, self._first = title, total, done
        self._done, self._start, self._said = done, time.monotonic(), time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}", markup=False),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=console,
            disable=self._hidden,
            transient=True,
        )
        self._task: TaskID = self._bar.add_task(printable(title), total=total, completed=done, rate="", note="")

    def __enter__(self) -> Steps:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def advance(self, note: str = "", total: int | None = None) -> None:
        """Count one more step.

        Args:
            note: the latest numbers, kept until the next note.
            total: number of steps, where it is known better now.
        """
        self._done += 1
        if total is not None and total != self._total:
            self._total = total
            self._bar.update(self._task, total=total)
        now = time.monotonic()
        rate = (self._done - self._first) / max(now - self._start, 1e-9)
        shown = f"{rate:.1f}/s" if rate >= 1 else f"{1 / rate:.1f} s each"
        if note:
            self._bar.update(self._task, note=printable(note))
        self._bar.update(self._task, advance=1, rate=shown)
        if self._plain and now - self._said > 30:
            self._said = now
            left = (self._total - self._done) / max(rate, 1e-9)
            said = f"{self._title}: {self._done}/{self._total}, {shown}, {left:.0f} s left {note}"
            console.print(said, soft_wrap=True)
