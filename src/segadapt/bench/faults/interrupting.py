"""Faults while the command runs: it is killed, stopped, starved of space or met by another; then it goes on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segadapt.bench.faults.drawing import moment_of
from segadapt.bench.faults.forked import Ended
from segadapt.bench.faults.judging import Case, Outcome, failure_of
from segadapt.bench.faults.planted import Act, disk_full, limited, signalled, waiting
from segadapt.bench.faults.reading import saved_steps
from segadapt.core.files import write_bytes

SLOW = 5.0
"""Seconds from a signal to the end after which it counts as not answered, on a machine that does other work too."""


def _interrupted(case: Case, what: str, act: Act | None, delayed: float = 0.0, power: bool = False) -> Outcome:
    """Let a fault happen at a drawn moment, then go on."""
    moment = moment_of(case.generator, case.reference.moments)
    outcome = Outcome("equal", moment["phase"], f"{what} at moment {moment['number']} ({moment['what']})")
    command = case.shop.start(case.adapt, case.place, case.shop.planted(case.out, moment["number"], act))
    if act is None and command.wait_for_fault():
        time.sleep(delayed)
        if not command.look():
            os.kill(command.pid, signal.SIGKILL)
    ended = command.wait()
    outcome.late = ended.late if case.point.kind == "stop" else None
    wrong = failure_of(ended)
    if wrong is None and outcome.late is not None and outcome.late > SLOW:
        wrong = ("hang", f"ended {outcome.late:.1f} s after the signal; {ended.line}")
    if wrong:
        outcome.verdict, outcome.detail = wrong
        return outcome
    if power:
        outcome.what += f", {_lose_unflushed(case, ended)} files cut"
    return go_on(case, outcome)


def go_on(case: Case, outcome: Outcome) -> Outcome:
    """Run the command again after an interruption; it must end well."""
    held = saved_steps(case.out, case.reference.lengths)
    ended = case.shop.run(case.again(), case.place / "again", case.shop.planted(case.out))
    if ended.code and failure_of(ended) is None:
        outcome.verdict, outcome.detail = "lost", f"cannot go on: {ended.line}"
        return outcome
    return case.judge_end(outcome, ended, held)


def _lose_unflushed(case: Case, ended: Ended) -> int:
    """Leave of the files that were not flushed only a beginning; return how many there were."""
    lost = [path for path in map(Path, ended.unflushed) if path.is_file() and case.out in path.parents]
    for path in lost:
        content = path.read_bytes()
        write_bytes(path, content[: case.generator.choice((0, len(content) // 2))])
    return len(lost)


def kill(case: Case) -> Outcome:
    delay = case.generator.choice((0.0, case.generator.uniform(0, 0.04)))
    return _interrupted(case, f"SIGKILL {1000 * delay:.0f} ms after", None, delay)


def stop(case: Case) -> Outcome:
    number = case.generator.choice((signal.SIGTERM, signal.SIGTERM, signal.SIGINT))
    return _interrupted(case, number.name, signalled(number))


def power(case: Case) -> Outcome:
    return _interrupted(case, "power cut", None, power=True)


def disk(case: Case) -> Outcome:
    if case.generator.random() < 0.6:
        return _interrupted(case, "disk full", disk_full)
    size = case.generator.choice((0, 500, 4000, 30_000, 100_000))
    return _interrupted(case, f"no file beyond {size} bytes", limited(size))


def together(case: Case) -> Outcome:
    """Start a second command in the same folder while the first one stands still at a moment."""
    moment = moment_of(case.generator, case.reference.moments)
    outcome = Outcome("equal", moment["phase"], f"second command at moment {moment['number']} ({moment['what']})")
    first = case.shop.start(case.adapt, case.place, case.shop.planted(case.out, moment["number"], waiting))
    if not first.wait_for_fault():
        outcome.verdict, outcome.detail = failure_of(first.wait()) or ("equal", "")
        return outcome
    other = [*case.adapt, "--seed", "2"]
    asked = case.generator.choice((case.adapt, other))
    outcome.what += ", of another seed" if asked is other else ""
    second = case.shop.run(asked, case.place / "again", case.shop.planted(case.out))
    os.kill(first.pid, signal.SIGCONT)
    ended = first.wait()
    wrong = failure_of(second) or failure_of(ended)
    if wrong:
        outcome.verdict, outcome.detail = wrong
    elif ended.code and second.code:
        outcome.verdict, outcome.detail = "lost", f"both were refused: {ended.line}; {second.line}"
    elif ended.code and asked is other:
        outcome.verdict, outcome.detail = "refused", ended.line  # the second came first, with numbers of its own
    else:
        outcome = case.judge_end(outcome, ended if ended.code == 0 else second, 0)
        if outcome.verdict == "equal" and (second.code or ended.code):
            outcome.verdict, outcome.detail = "refused", second.line or ended.line
    return outcome


def ranks(case: Case) -> Outcome:
    """End one of two processes, or both, or let one hang and stop the other; the other must end; then both again."""
    moment = moment_of(case.generator, case.reference.moments)
    number = case.generator.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM))
    victims = case.generator.choice(((0,), (1,), (0, 1)))
    outcome = Outcome("equal", moment["phase"], "")
    if len(victims) == 1 and case.generator.random() < 0.4:
        ends = _one_hangs(case, moment, victims[0], outcome)
    else:
        outcome.what = f"{number.name} for rank {' and '.join(map(str, victims))} at {moment['number']}"
        planted = [
            case.shop.planted(case.out, moment["number"] if rank in victims else -1, signalled(number))
            for rank in (0, 1)
        ]
        ends = [command.wait() for command in case.shop.start_ranks(case.adapt, case.place, planted)]
    wrong = next((found for end in ends if (found := failure_of(end))), None)
    if wrong is None and outcome.late is not None and outcome.late > SLOW:
        wrong = ("hang", f"ended {outcome.late:.1f} s after the signal, beside a process that hung")
    if wrong:
        outcome.verdict, outcome.detail = wrong
        return outcome
    held = saved_steps(case.out, case.reference.lengths)
    again = case.again()
    planted = [case.shop.planted(case.out) for _ in (0, 1)]
    first, second = [command.wait() for command in case.shop.start_ranks(again, case.place / "again", planted)]
    wrong = failure_of(first) or failure_of(second)
    if wrong:
        outcome.verdict, outcome.detail = wrong
    elif first.code or second.code:
        outcome.verdict, outcome.detail = "lost", f"cannot go on: {first.line}; {second.line}"
    else:
        outcome = case.judge_end(outcome, first, held)
    return outcome


def _one_hangs(case: Case, moment: Mapping[str, Any], still: int, outcome: Outcome) -> list[Ended]:
    """Let one of two processes stand still from a moment on, and stop the other one; then the first goes on."""
    signals = case.generator.choice(((signal.SIGTERM,), (signal.SIGINT, signal.SIGINT)))
    outcome.what = f"rank {still} hangs at {moment['number']}, {' and '.join(s.name for s in signals)} for the other"
    planted = [case.shop.planted(case.out, moment["number"] if rank == still else -1, waiting) for rank in (0, 1)]
    commands = case.shop.start_ranks(case.adapt, case.place, planted)
    other = commands[1 - still]
    if commands[still].wait_for_fault():
        began, busy = time.monotonic(), not other.look()
        for number in signals:
            if not other.look():
                os.kill(other.pid, number)
                time.sleep(0.05)
        while not other.look() and time.monotonic() < began + 2 * SLOW:
            time.sleep(0.004)
        outcome.late = time.monotonic() - began if busy else None
        os.kill(commands[still].pid, signal.SIGCONT)
    return [command.wait() for command in commands]
