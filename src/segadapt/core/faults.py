"""Exceptions of libraries that a person can mend, in one line: the one place that knows their words.

A library says that 38 GB could not be allocated, or that it expected more than 1 value per channel. The person who
reads it needs the sizes that led there and the settings that change them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from segadapt.errors import PeerGone, RequestError, RunError, first_line

_MEMORY = (
    "out of memory",
    "insufficient memory",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "unable to allocate",
    "std::bad_alloc",
    "alloc_failed",
    "storage size calculation overflowed",
)
_BYTES = re.compile(r"allocate (\d+\.?\d*) ?(bytes|[kmgtp]ib)")
"""The amount in the messages of torch, on a CPU and on a GPU, and of NumPy, in small letters."""
_ONE_VALUE = ("expected more than 1 value per channel", "expected more than 1 spatial element")
_TOO_SMALL = (
    "output size is too small",
    "kernel size can't be greater than actual input size",
    "padding size should be less than",
    "input and output sizes should be greater than 0",
    "input and output spatial sizes should be greater than 0",
)
_DISK = (
    "no space left",
    "quota exceeded",
    "file too large",
    "read-only file system",
    "input/output error",
    "i/o error",
    "file write failed",
    "pytorchstreamwriter failed",
)
_SILENT = ("timed out waiting", "wait timeout", "watchdog caught collective operation timeout", "socket timeout")
_GONE = ("closed by peer", "reset by peer", "remote process exited", "broken pipe", "distbackenderror")
_WORKER = ("dataloader worker", "unable to open shared memory", "bus error")


class Ways(NamedTuple):
    """Changes that help, in the words of the place where it failed.

    Attributes:
        memory: settings that lower the memory.
        norm: settings that give a layer of batch normalisation more than one value.
        size: settings that make images larger.
        workers: settings of decoding processes.
    """

    memory: str = "a smaller size of the images, or windows"
    norm: str = "larger images"
    size: str = "larger images"
    workers: str = "data.workers=0"


_ANYWHERE = Ways()


@contextmanager
def in_words(what: str, facts: Mapping[str, object], ways: Ways = _ANYWHERE) -> Iterator[None]:
    """Turn exceptions of libraries that the block raises into one line; all others go on as they are.

    Args:
        what: what the block does, e.g. ``stage 'adapt'``; opens the line.
        facts: sizes and settings that decide memory and shapes, by their names; those that are None are left out.
        ways: what a person can change.

    Raises:
        RunError: memory ran out, or a decoding process or another process of the run died or hangs.
        RequestError: the network cannot compute on images or batches as small as these.
    """
    try:
        yield
    except Exception as problem:
        told = told_fault(problem, what, facts, ways)
        if told is None:
            raise
        raise told from problem


def refusal(problem: BaseException) -> str | None:
    """Return the system's words where a file could not be written; None for any other exception.

    Libraries (torch, safetensors, rasterio, onnx) raise exceptions of their own over those of the system, or instead.
    """
    if isinstance(problem, (RequestError, RunError)):
        return None
    for raised in (problem, problem.__cause__, problem.__context__):
        if isinstance(raised, OSError):
            return raised.strerror or str(raised)
    said = str(problem)
    return first_line(problem) if any(words in said.lower() for words in _DISK) else None


def told_fault(
    problem: BaseException, what: str, facts: Mapping[str, object], ways: Ways = _ANYWHERE
) -> RequestError | RunError | None:
    """Return the exception that says it in one line, or None for one that is none of these; see :func:`in_words`."""
    if isinstance(problem, (RequestError, RunError)):
        return None
    said = f"{type(problem).__name__} {problem}".lower()
    shown = ", ".join(f"{name} {_shown(value)}" for name, value in facts.items() if value is not None)
    where = f"{what} ({shown})" if shown else what
    library = isinstance(problem, (RuntimeError, ValueError)) or type(problem).__module__.startswith(("cv2", "onnx"))
    if (
        isinstance(problem, MemoryError)
        or "OutOfMemoryError" in type(problem).__name__
        or (library and any(words in said for words in _MEMORY))
    ):
        return RunError(f"{where}: {_asked_for(said)}the memory is not enough; give {ways.memory}")
    if not library:
        return None
    if any(words in said for words in _SILENT):
        return RunError(
            f"{what}: another process did not answer in time; it hangs, or works longer than process_timeout (seconds) "
            "allows; the same command goes on from the last checkpoint"
        )
    if any(words in said for words in _GONE):
        return PeerGone(
            f"{what}: another process of the run has ended, its own output says why; the same command goes on from the "
            "last checkpoint"
        )
    if any(words in said for words in _WORKER):
        return RunError(
            f"{where}: a process that decodes images was ended by the system, mostly for want of memory; "
            f"set {ways.workers}"
        )
    if any(words in said for words in _ONE_VALUE):
        return RequestError(
            f"{where}: batch normalisation gets one value per channel, of which there are no statistics; {ways.norm}"
        )
    if any(words in said for words in _TOO_SMALL):
        return RequestError(f"{where}: these images are too small for the network; give {ways.size}")
    return None


def _asked_for(said: str) -> str:
    """Return how much memory a library asked for at once, where its message says so."""
    found = _BYTES.search(said)
    if found is None:
        return ""
    unit = {"p": 1 << 50, "t": 1 << 40, "g": 1 << 30, "m": 1 << 20, "k": 1 << 10, "b": 1}[found[2][0]]
    size = float(found[1]) * unit / 1e9
    return f"{size:,.1f} GB were asked for at once, and " if size >= 0.1 else ""


def _shown(value: object) -> str:
    """Return a size as HEIGHTxWIDTH, anything else as it is."""
    if isinstance(value, (tuple, list)) and len(value) == 2:
        return "x".join("?" if side is None else str(side) for side in value)
    return str(value)
