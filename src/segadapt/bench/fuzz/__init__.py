"""Fuzzing: damaged files for every reader; each must give a result or one line, in bounded time and memory.

The input of a reader is a pure function of seed and number, see :func:`fuzzed_input`, so a finding can be made again. A
long run goes on where it stopped, and an input that ended the process counts as one.
"""

from __future__ import annotations

import contextlib
import resource
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from segadapt.bench.fuzz.readers import READERS
from segadapt.core.files import read_json, write_bytes, write_json
from segadapt.core.limits import limit_pixels
from segadapt.errors import RequestError, RunError, Stopped

SLOW = 5.0
"""Seconds from which on an input counts as slow."""
HANG = 30.0
"""Seconds after which a reader is stopped."""
PIXELS = 1 << 22
"""Limit of the size of images, so that a header that promises more than the file has is no finding while it is kept."""
_MEMORY = 1 << 30
"""Bytes that one input may add to the largest memory of the process."""
_SAVED_EVERY = 100
KINDS = ("tried", "accepted", "refused", "traceback", "slow", "memory", "ended")
"""The counts of a reader: ``slow`` and ``memory`` are among the others, ``ended`` where the process ended with it."""

Outcome = dict[str, Any]


class _Hang(BaseException):
    """Stops a reader that takes too long; not an Exception, which a reader may take for damage."""


def fuzzed_input(reader: str, number: int, seed: int = 0) -> tuple[str, bytes]:
    """Return name and content of an input: a valid file of the reader, damaged.

    Args:
        reader: a key of :data:`~segadapt.bench.fuzz.readers.READERS`.
        number: from 0.
        seed: of the whole run.
    """
    random = Random(f"{seed} {reader} {number}")
    made = READERS[reader]
    files = made.files()
    name = random.choice(sorted(files))
    damage = made.damage.get(Path(name).suffix, made.damage[""])
    return name, damage(random, files[name])


def require_valid(reader: str, most: int = 1 << 30) -> None:
    """Let a reader read its valid files, or some of them; RunError where it does not take one."""
    for name, content in list(READERS[reader].files().items())[:most]:
        found = outcome(reader, name, content)
        if found["kind"] != "accepted":
            raise RunError(f"{reader}: the valid file {name} is not read: {found['said']}")


def outcome(reader: str, name: str, content: bytes) -> Outcome:
    """Let a reader read a file and say what came of it.

    Returns:
        ``kind``: accepted, refused or traceback; ``said``: the line, or type, message and place of the exception;
        ``seconds``; ``bytes`` by which the largest memory of the process grew.
    """
    before, started = _peak(), time.perf_counter()
    with TemporaryDirectory(prefix="segadapt-fuzz-") as folder:
        path = Path(folder, "own", name)
        write_bytes(path, content, flush=False)
        try:
            with _limited(HANG):
                limit_pixels(PIXELS)
                READERS[reader].read(path)
            kind, said = "accepted", ""
        except (RequestError, RunError) as line:
            said = str(line)
            kind = "refused" if said and "\n" not in said else "traceback"
        except _Hang:
            kind, said = "traceback", f"no end after {HANG:.0f} s"
        except BaseException as problem:
            if isinstance(problem, (KeyboardInterrupt, SystemExit, Stopped)):
                raise
            at = traceback.extract_tb(problem.__traceback__)[-1]
            said = f"{type(problem).__name__}: {problem} ({Path(at.filename).name}:{at.lineno})"
            kind = "traceback"
        finally:
            limit_pixels(None)
    seconds = time.perf_counter() - started
    return {"kind": kind, "said": said[:500], "seconds": round(seconds, 3), "bytes": _peak() - before}


def fuzz(inputs: int, seed: int, out: Path, progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """Try damaged files with all readers, and write what came of them.

    Args:
        inputs: in all; readers get them by their share.
        seed: decides all inputs.
        out: the JSON file; one of an earlier call with the same ``inputs`` and ``seed`` is gone on with.
        progress: called with (done, total).

    Returns:
        ``readers``, counts of :data:`KINDS` by reader; ``findings``, a list of inputs that gave a traceback, were slow
        or took much memory; ``inputs``, ``seed`` and ``seconds``.
    """
    held = read_json(out)
    if not isinstance(held, dict) or (held.get("inputs"), held.get("seed")) != (inputs, seed):
        readers = {name: dict.fromkeys(KINDS, 0) for name in READERS}
        held = {"inputs": inputs, "seed": seed, "seconds": 0.0, "readers": readers, "findings": [], "running": None}
    if held["running"] is not None:  # the process ended in it
        name, number = held["running"]
        held["readers"][name]["tried"] = number + 1
        held["readers"][name]["ended"] += 1
        held["findings"].append({"reader": name, "number": number, "kind": "ended"})
    for name, count in shares(inputs).items():
        require_valid(name, count)
    plan = [(name, number) for name, count in shares(inputs).items() for number in range(count)]
    for done, (name, number) in enumerate(plan):
        counts = held["readers"][name]
        if number < counts["tried"]:
            continue
        if _native(name) or done % _SAVED_EVERY == 0:
            write_json(out, {**held, "running": [name, number] if _native(name) else None})
        found = outcome(name, *fuzzed_input(name, number, seed))
        _count(held, name, number, found)
        if progress is not None:
            progress(done + 1, len(plan))
    held["running"] = None
    held["seconds"] = round(held["seconds"], 1)
    write_json(out, held)
    return held


def shares(inputs: int) -> dict[str, int]:
    """Divide inputs among the readers that have files here, by their shares; every reader gets one at least."""
    there = {name: reader.share for name, reader in READERS.items() if reader.files()}
    total = sum(there.values())
    return {name: max(1, round(inputs * share / total)) for name, share in there.items()}


def _native(reader: str) -> bool:
    """Return whether a reader hands files to libraries in C that might end the process; then each input is noted."""
    return reader == "videos"


def _count(held: dict[str, Any], name: str, number: int, found: Outcome) -> None:
    counts = held["readers"][name]
    counts["tried"] += 1
    counts[found["kind"]] += 1
    slow, large = found["seconds"] > SLOW, found["bytes"] > _MEMORY
    counts["slow"] += slow
    counts["memory"] += large
    held["seconds"] += found["seconds"]
    if found["kind"] == "traceback" or slow or large:
        held["findings"].append({"reader": name, "number": number, **found})


@contextlib.contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Stop what the block does after so many seconds; where there is no alarm (Windows, threads) it runs on."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def stop(*_: object) -> None:
        raise _Hang

    try:
        before = signal.signal(signal.SIGALRM, stop)
    except ValueError:  # not in the main thread
        yield
        return
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _peak() -> int:
    """Return the largest memory that the process has had, in bytes (Linux counts it in kilobytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
