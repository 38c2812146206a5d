"""``segadapt bench faults``: many points, a table of verdicts, and a file that goes on where it stopped."""

from __future__ import annotations

import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from segadapt.bench.faults.drawing import KINDS, Point, draw
from segadapt.bench.faults.forked import Entry
from segadapt.bench.faults.judging import FAILURES, VERDICTS
from segadapt.bench.faults.pointing import described, judge
from segadapt.bench.faults.references import Workshop
from segadapt.bench.faults.world import methods
from segadapt.core.files import read_json, write_json
from segadapt.engine.runtime import machine
from segadapt.errors import RequestError, RunError

Job = tuple[str, Callable[[], dict[str, Any]]]
RESULT = "faults.json"
SUMMARY = "summary.json"


def bench_faults(
    entry: Entry,
    points: int,
    seed: int,
    out: Path,
    *,
    minutes: float | None = None,
    workers: int = 2,
    kinds: Sequence[str] = (),
    only: Sequence[str] = (),
    numbers: Sequence[int] = (),
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Do the points 0 to ``points`` - 1 of a seed, and return all that were done so far.

    Args:
        entry: the command that is judged.
        points: how many.
        seed: decides every point.
        out: folder of the bench; points in its ``faults.json`` are not done again.
        minutes: stop after so long.
        workers: points at a time.
        kinds, only: kinds of faults and methods to do; all if empty.
        numbers: do these points alone, also again.
        say: gets a line per point that fails.

    Raises:
        RequestError: the folder holds points of another seed, or there is no such kind or method.
    """
    _require_known(kinds, KINDS, "kind")
    _require_known(only, methods(), "method")
    if not hasattr(os, "fork"):
        raise RequestError(
            "the fault bench forks processes and sends them signals, which this system cannot; use Linux"
        )
    held = read_json(out / RESULT) or {"seed": seed, "points": []}
    if held["seed"] != seed:
        raise RequestError(f"'{out}' holds points of seed {held['seed']}; choose another --out")
    done = {entry["number"]: entry for entry in held["points"] if entry["number"] not in numbers}
    drawn = (draw(seed, number, methods()) for number in (numbers or range(points)))
    todo = [
        p for p in drawn if p.number not in done and (not kinds or p.kind in kinds) and (not only or p.method in only)
    ]
    shop = Workshop(entry, (out / "work").resolve())
    shop.prepare()
    warm_up()
    needed = sorted({(p.method, 2 if p.kind == "ranks" else 1) for p in todo})
    runs = [(f"{method}-{count}", partial(_referred, shop, method, count)) for method, count in needed]
    for name, made in _in_processes(runs, shop.folder / "results", workers):
        if made is None:
            raise RunError(f"the undisturbed run '{name}' failed; see above")
    until = math.inf if minutes is None else time.monotonic() + 60 * minutes
    jobs = ((str(point.number), partial(_judged, point, shop)) for point in todo)
    try:
        for name, found in _in_processes(jobs, shop.folder / "results", workers, until):
            if found is None:
                raise RunError(f"the bench itself failed at point {name}; see above")
            done[found["number"]] = found
            if found["verdict"] in FAILURES:
                say(line_of(found))
    finally:
        result = result_of(seed, done.values())
        write_json(out / RESULT, result)
        write_json(out / SUMMARY, summary_of(result))
    return result


def line_of(point: Mapping[str, Any]) -> str:
    """Return a point in one line."""
    shown = f"point {point['number']}: {point['verdict']}: {point['method']}, {point['kind']} in {point['phase']}"
    return f"{shown}: {point['what']}: {point['detail']}"


def _referred(shop: Workshop, method: str, processes: int) -> dict[str, Any]:
    """Make the undisturbed run of a method."""
    shop.reference(method, processes)
    return {}


def _judged(point: Point, shop: Workshop) -> dict[str, Any]:
    return described(point, judge(point, shop))


def warm_up() -> None:
    """Import what commands import, and keep this process to one thread, so that it can be forked."""
    import cv2
    import lightning_fabric  # noqa: F401
    import sklearn.manifold  # noqa: F401
    import timm  # noqa: F401
    import torch
    import torch.distributed
    import torch.utils.tensorboard

    import segadapt.api  # noqa: F401
    from segadapt.report.page import template

    template()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def _in_processes(
    jobs: Iterable[Job], folder: Path, workers: int, until: float = math.inf
) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """Yield name and result of every job, ``workers`` at a time, each in a process of its own.

    Args:
        jobs: names and functions that return plain JSON values; a result is None where the function failed.
        folder: where results lie for a moment.
        workers: jobs at a time.
        until: no job is started after this time of the monotonic clock.
    """
    waiting, running, going = iter(jobs), dict[int, str](), True
    while going or running:
        while going and len(running) < workers:
            name, job = next(waiting, ("", None))
            going = job is not None and time.monotonic() < until
            if job is not None and going:
                running[_forked(job, folder / f"{name}.json")] = name
        if running:
            pid, _ = os.waitpid(-1, 0)
            name = running.pop(pid)
            found = read_json(folder / f"{name}.json")
            (folder / f"{name}.json").unlink(missing_ok=True)
            yield name, found


def _forked(job: Callable[[], dict[str, Any]], result: Path) -> int:
    """Fork a process that leaves the result of a job in a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    try:
        write_json(result, job())
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def result_of(seed: int, points: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the result as written to ``faults.json``: counts by kind and method, the points, the machine."""
    done = sorted(points, key=lambda point: int(point["number"]))
    return {
        "seed": seed,
        "machine": machine(),
        "tried": len(done),
        "failed": sum(point["verdict"] in FAILURES for point in done),
        "by_kind": counted(done, "kind"),
        "by_method": counted(done, "method"),
        "by_phase": counted(done, "phase"),
        "points": done,
    }


def summary_of(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the result as written to ``summary.json``: counts, how long signals took, and points that ended badly."""
    late = sorted(point["late"] for point in result["points"] if point["late"] is not None)
    return {
        **{key: value for key, value in result.items() if key != "points"},
        "signals": {"count": len(late), "most": late[-1], "median": late[len(late) // 2]} if late else None,
        "left": sum(bool(point["left"]) for point in result["points"]),
        "failures": [point for point in result["points"] if point["verdict"] in FAILURES],
    }


def counted(points: Sequence[Mapping[str, Any]], by: str) -> dict[str, dict[str, int]]:
    """Count points by a value and by verdict."""
    names = sorted({str(point[by]) for point in points})
    table = {}
    for name in names:
        mine = [point["verdict"] for point in points if point[by] == name]
        table[name] = {"tried": len(mine), **{verdict: mine.count(verdict) for verdict in VERDICTS}}
    return table


def table_of(result: Mapping[str, Any]) -> str:
    """Return the counts by kind and by method as lines."""
    head = ["tried", *VERDICTS]
    lines = []
    for by in ("by_kind", "by_method"):
        lines.append(f"{by.removeprefix('by_'):<16}" + "".join(f"{name:>11}" for name in head))
        lines += [f"{name:<16}" + "".join(f"{row[column]:>11}" for column in head) for name, row in result[by].items()]
        lines.append("")
    lines.append(f"{result['tried']} faults, {result['failed']} ended badly")
    signals = summary_of(result)["signals"]
    if signals:
        lines.append(f"from a signal to the end: {signals['most']:.1f} s at most, {signals['median']:.1f} s median")
    return "\n".join(lines)


def _require_known(asked: Sequence[str], known: Iterable[str], what: str) -> None:
    unknown = [name for name in asked if name not in known]
    if unknown:
        raise RequestError(f"no {what} '{unknown[0]}'; there are: {', '.join(known)}")
