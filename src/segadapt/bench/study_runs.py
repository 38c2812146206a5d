"""Run a study: one process per run, several at a time, resumable; see :mod:`segadapt.bench.study`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

from segadapt.bench.study import Job, Study, changed_settings, config_of, finished, jobs_of
from segadapt.bench.study_tables import write_tables
from segadapt.core.signals import answering, unhurried
from segadapt.engine.run_files import read_results
from segadapt.errors import RequestError, RunError, one_line

_PATIENCE = 60
"""Seconds that runs have to save their states before they are killed."""

_PRELOAD = ("segadapt.runs.run", "segadapt.bench.study")
"""Modules that are imported once for all runs; none that looks for a GPU, which a process must do after it was forked.
"""

_LOOK = 3600.0
"""Seconds after which the study looks at its runs even if none has ended; what the system can wait is limited."""

_LONGEST = 2000
"""Characters of a complaint; a longer one could fill the pipe, and its sender would wait for a reader."""


class _Running(NamedTuple):
    """The process of a job, where its complaint comes from, and when it was started."""

    process: BaseProcess
    complaints: Connection
    since: float

    def problem(self) -> str:
        """Return why the ended process left no result."""
        try:
            return str(self.complaints.recv())
        except (EOFError, OSError):
            return f"its process ended with status {self.process.exitcode}, perhaps for lack of memory"


def run_study(
    study: Study,
    out: Path,
    roots: Mapping[str, str],
    *,
    workers: int = 1,
    minutes: float | None = None,
    seeds: Sequence[int] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Run what is missing of a study and write ``out/TASK/table.json`` and ``table.md`` for every task.

    The tables are written too when the study is stopped (Ctrl-C, SIGTERM); the state of unfinished runs is saved. A
    script that calls this needs ``if __name__ == "__main__":``, because the processes import it.

    Args:
        study: see :func:`segadapt.bench.study.read_study`.
        out: folder of the results; a study that was stopped goes on there.
        roots: folder of each data set by name.
        workers: runs at a time, one process each.
        minutes: stop after about as many, with the state of unfinished runs saved; 0 only writes the tables, None is
            no limit.
        seeds: run only these of the study's seeds; tables hold all that are there.
        say: takes a line about every run that ends.

    Returns:
        The tables by task, see :func:`segadapt.bench.study_tables.write_tables`.

    Raises:
        RequestError: a setting of any row is wrong, or the study has no such seed; found before anything runs.
    """
    if other := sorted(set(seeds or ()) - set(study.seeds)):
        raise RequestError(f"the study has no seed {other[0]}; its seeds: {', '.join(map(str, study.seeds))}")
    chosen = [job for job in jobs_of(study) if seeds is None or job.seed in seeds]
    for job in chosen:
        config_of(study, job, out)
    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    waiting = [job for job in chosen if not finished(job, out)]
    say(f"{len(chosen)} runs, {len(chosen) - len(waiting)} done before")
    for job in chosen:
        if job not in waiting and (names := changed_settings(study, job, out)):
            say(f"{job}: done with other settings ({', '.join(names)}); remove {job.folder(out)} to run it again")
    problems: dict[Job, str] = {}
    running: dict[Job, _Running] = {}
    with unhurried():
        try:
            with answering():
                while deadline is None or time.monotonic() < deadline:
                    for job in _ready(waiting, out, study, workers - len(running)):
                        waiting.remove(job)
                        running[job] = _started(study, job, out, roots)
                    if not running:
                        break  # all is done, or what waits needs a run that failed
                    left = _LOOK if deadline is None else min(_LOOK, max(0.0, deadline - time.monotonic()))
                    wait([run.process.sentinel for run in running.values()], left)
                    for job in [job for job, run in running.items() if not run.process.is_alive()]:
                        ended = running.pop(job)
                        if not finished(job, out):
                            problems[job] = ended.problem()
                        ended.complaints.close()
                        score = problems.get(job) or _score(job, out)
                        say(f"{job}: {score} ({(time.monotonic() - ended.since) / 60:.1f} min, {len(waiting)} waiting)")
        finally:
            _stop(running.values())
            tables = write_tables(study, out, _reasons(study, out, problems))
    return tables


def _ready(waiting: Iterable[Job], out: Path, study: Study, free: int) -> list[Job]:
    """Return the first waiting jobs that can start: their source model, and the row they are an ablation of, exist."""
    found: list[Job] = []
    for job in waiting:
        if len(found) >= free:
            break
        if all(finished(needed, out) for needed in job.needed(study)):
            found.append(job)
    return found


def _reasons(study: Study, out: Path, problems: Mapping[Job, str]) -> dict[Job, str]:
    """Return why each run that is missing is missing."""
    reasons: dict[Job, str] = {}
    for job in jobs_of(study):
        if not finished(job, out):
            failed = [needed.row for needed in job.needed(study) if needed in problems]
            begun = (job.folder(out) / "config.json").exists()
            open_one = "stopped before its end" if begun else "not run yet"
            reasons[job] = problems.get(job) or (f"needs '{failed[0]}', which failed" if failed else open_one)
    return reasons


# ---- processes ----


def _started(study: Study, job: Job, out: Path, roots: Mapping[str, str]) -> _Running:
    """Start the process of a job; the modules that it needs are imported once for all of them."""
    context: Any = get_context("forkserver" if "forkserver" in get_all_start_methods() else "spawn")
    if context.get_start_method() == "forkserver":
        context.set_forkserver_preload(list(_PRELOAD))
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(study, job, out, dict(roots), there), name=str(job))
    process.start()
    there.close()
    return _Running(process, here, time.monotonic())


def _run(study: Study, job: Job, out: Path, roots: Mapping[str, str], complaints: Connection) -> None:
    """Run a job in a process of its own; send why it failed."""
    from segadapt.runs.run import Run

    of = study.rows[job.row].of
    reuse = [Job(job.task, of, job.seed).folder(out)] if of else []
    try:
        run = Run.open(config_of(study, job, out), job.folder(out), roots, quiet=True, reuse=reuse)
        run.execute(pictures=False)
    except KeyboardInterrupt:
        return  # the study got the same Ctrl-C
    except (RequestError, RunError) as error:
        _send(complaints, str(error))
    except Exception as error:  # one run must not take the study with it
        _send(complaints, one_line(error))


def _send(complaints: Connection, text: str) -> None:
    with contextlib.suppress(OSError):  # nobody listens when the study itself was killed
        complaints.send(text[:_LONGEST])


def _stop(running: Iterable[_Running]) -> None:
    """Ask all runs to save their states and stop; kill those that do not in time."""
    runs = list(running)
    for run in runs:
        run.process.terminate()
    end = time.monotonic() + _PATIENCE
    for run in runs:
        run.process.join(max(0.0, end - time.monotonic()))
        run.process.kill()
        run.process.join()
        run.complaints.close()


def _score(job: Job, out: Path) -> str:
    results = read_results(job.folder(out)) or {"rows": []}
    scores = [row["scores"]["miou"] for row in results["rows"] if row["scores"] is not None]
    return "mIoU " + ", ".join(f"{score:.1f}" for score in scores)
