"""One point: the fault, the command again, and the verdict."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from segadapt.bench.faults.damage import choose, damage
from segadapt.bench.faults.drawing import Point, moment_of
from segadapt.bench.faults.forked import Ended
from segadapt.bench.faults.hostile import TRICKS, Scene
from segadapt.bench.faults.planted import Act, disk_full, limited, signalled, waiting
from segadapt.bench.faults.reading import differences, litter, numbers, saved_steps
from segadapt.bench.faults.references import Reference, Workshop
from segadapt.bench.faults.world import recipe, write_recipe
from segadapt.core.files import write_bytes, write_text

VERDICTS: Mapping[str, str] = {
    "equal": "the same numbers, bit for bit",
    "refused": "one clear line and nothing lost: once it is mended the numbers are the same",
    "lost": "finished work was done again or is gone",
    "silent": "other numbers, or damage that nothing was said about",
    "traceback": "a traceback instead of a line",
    "hang": "no end within a minute, or a signal that was not answered",
}
FAILURES = ("lost", "silent", "traceback", "hang")
SLOW = 5.0
"""Seconds from a signal to the end after which it counts as not answered, on a machine that does other work too."""


@dataclass
class Outcome:
    """The outcome of a point.

    Attributes:
        verdict: see :data:`VERDICTS`.
        phase: of the moment of the fault.
        what: the fault in words.
        detail: why it is not equal; else "".
        late: seconds from a signal to the end of the process.
        left: files left behind that nothing needs.
    """

    verdict: str
    phase: str = ""
    what: str = ""
    detail: str = ""
    late: float | None = None
    left: list[str] = field(default_factory=list)


@dataclass
class Case:
    """A point at work.

    Attributes:
        point: the fault.
        shop: where it is done.
        place: folder of this point alone.
        reference: the undisturbed run.
        generator: random numbers of the point.
    """

    point: Point
    shop: Workshop
    place: Path
    reference: Reference
    generator: random.Random

    @property
    def out(self) -> Path:
        """Folder of the run."""
        return self.place / "run"

    @property
    def adapt(self) -> list[object]:
        """The command that begins the run, or goes on with it."""
        return ["adapt", self.reference.recipe, "--out", self.out, "-q"]

    def again(self) -> list[object]:
        """The command that goes on: the same, or ``resume`` where the run has begun."""
        resume = self.generator.random() < 0.5 and (self.out / "config.json").is_file()
        return ["resume", self.out, "-q"] if resume else self.adapt

    def judge_end(self, outcome: Outcome, ended: Ended, held: int, damaged: Path | None = None) -> Outcome:
        """Judge the command that went on after the fault.

        Args:
            outcome: gets the verdict.
            ended: the command.
            held: steps that need not be done again.
            damaged: the damaged file; None where nothing may be different.
        """
        wrong = failure_of(ended)
        if wrong:
            outcome.verdict, outcome.detail = wrong
            return outcome
        assert ended.code == 0, ended.line
        found = numbers(self.out)
        wanted = dict(self.reference.numbers)
        different = differences(wanted, found)
        if damaged is not None and different == [str(damaged.relative_to(self.out))] and "round" in different[0]:
            different = []  # a label of a finished stage, which nothing reads
        if different:
            outcome.verdict, outcome.detail = "silent", f"different: {', '.join(different[:4])}; {ended.line}"
        elif (
            ended.steps is not None
            and ended.steps > self._allowed(held)
            and not (damaged and "warning" in ended.complained)
        ):
            outcome.verdict = "lost"
            outcome.detail = f"{ended.steps} steps done again or anew, {self._allowed(held)} were missing; {ended.line}"
        else:
            outcome.verdict, outcome.left = "equal", litter(self.out)
        return outcome

    def _allowed(self, held: int) -> int:
        """Return how many steps of optimisers the stages still need; a stage may have several optimisers."""
        total = sum(steps * rounds for steps, rounds in self.reference.lengths.values())
        return round(self.reference.steps * (total - held) / total + 0.49) + (self.reference.steps > total) * (
            total - held
        )


def failure_of(ended: Ended) -> tuple[str, str] | None:
    """Return verdict and reason where a command ended as none may; None where it did not."""
    if ended.hung:
        return "hang", f"no end; {ended.line}"
    if ended.traceback:
        lines = [line for line in ended.complained.splitlines() if line.strip()]
        places = [line.strip() for line in lines if line.strip().startswith('File "') and "segadapt" in line]
        return "traceback", f"{ended.line}; {places[-1] if places else ''}"
    if ended.code > 0:
        lines = [line for line in ended.complained.splitlines() if line.strip()]
        if not lines:
            return "silent", f"exit status {ended.code} without a word"
        others = [line for line in lines if not line.startswith(("warning: ", "segadapt: "))]
        if others and (len(lines) > 1 or len(others) > 1):
            return "traceback", f"{len(others)} lines besides those for a person: {others[0]} ... {lines[-1]}"
    return None


def judge(point: Point, shop: Workshop) -> Outcome:
    """Do a point in a folder of its own, which is removed unless something is wrong."""
    place = shop.folder / "points" / f"{point.number:05d}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    processes = 2 if point.kind == "ranks" else 1
    case = Case(point, shop, place, shop.reference(point.method, processes), point.generator)
    outcome = JUDGES[point.kind](case)
    if outcome.verdict not in FAILURES:
        shutil.rmtree(place, ignore_errors=True)
    return outcome


# ---- faults while the command runs ----


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
    return _go_on(case, outcome)


def _go_on(case: Case, outcome: Outcome) -> Outcome:
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


def _kill(case: Case) -> Outcome:
    delay = case.generator.choice((0.0, case.generator.uniform(0, 0.04)))
    return _interrupted(case, f"SIGKILL {1000 * delay:.0f} ms after", None, delay)


def _stop(case: Case) -> Outcome:
    number = case.generator.choice((signal.SIGTERM, signal.SIGTERM, signal.SIGINT))
    return _interrupted(case, number.name, signalled(number))


def _power(case: Case) -> Outcome:
    return _interrupted(case, "power cut", None, power=True)


def _disk(case: Case) -> Outcome:
    if case.generator.random() < 0.6:
        return _interrupted(case, "disk full", disk_full)
    size = case.generator.choice((0, 500, 4000, 30_000, 100_000))
    return _interrupted(case, f"no file beyond {size} bytes", limited(size))


def _together(case: Case) -> Outcome:
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


# ---- faults between two commands ----


def _damage(case: Case) -> Outcome:
    """Damage a file of a finished run, or of one that was killed at a moment; then go on."""
    finished = case.generator.random() < 0.4
    moment = moment_of(case.generator, case.reference.moments)
    if finished:
        shutil.copytree(case.reference.out, case.out)
    else:
        command = case.shop.start(
            case.adapt, case.place, case.shop.planted(case.out, moment["number"], signalled(signal.SIGKILL))
        )
        command.wait()
    phase = "finished" if finished else moment["phase"]
    if not case.out.is_dir() or not any(case.out.rglob("*.json")):
        return _go_on(case, Outcome("equal", phase, f"nothing to damage at moment {moment['number']}"))
    if finished and case.generator.random() < 0.4:
        return _used(case, phase)
    path = choose(case.out, case.generator)
    kept = case.place / "kept"
    shutil.copytree(case.out, kept)
    others = sorted((case.shop.folder / "references").glob("*/run/**/*" + path.suffix))
    way = damage(path, case.generator, [p for p in others if p.is_file()])
    outcome = Outcome("equal", phase, f"{way} {path.relative_to(case.out)}")
    held = saved_steps(case.out, case.reference.lengths, path)
    ended = case.shop.run(case.again(), case.place / "again", case.shop.planted(case.out))
    if ended.code == 0 or failure_of(ended):
        return case.judge_end(outcome, ended, held, path)
    return _mended(case, outcome, ended, kept, path)


def _used(case: Case, phase: str) -> Outcome:
    """Damage a file of a finished run and use its model; what comes out must be the same, or refused."""
    images, labels = case.shop.world / "test" / "images", case.shop.world / "test" / "labels"
    truth = ["--images", images, "--labels", labels, "--classes", case.shop.world / "classes.txt"]
    name, *rest = case.generator.choice(
        (("predict", images), ("label", images), ("evaluate", *truth, "--json"), ("report",))
    )
    path = choose(case.out, case.generator)
    others = sorted((case.shop.folder / "references").glob("*/run/**/*" + path.suffix))
    results = []
    for run, place in ((case.reference.out, "wanted"), (case.out, "found")):
        made = case.place / place
        goal = [] if name == "evaluate" else ["--out", made / "page.html" if name == "report" else made]
        if place == "found":
            way = damage(path, case.generator, [p for p in others if p.is_file()])
        ended = case.shop.run([name, run, *rest, *goal], case.place / f"{place}-cwd", case.shop.planted(case.out))
        files = {str(p.relative_to(made)): p.read_bytes() for p in sorted(made.rglob("*.png"))}
        results.append((ended, files, ended.said if name == "evaluate" else ""))
    (_, *wanted), (ended, *found) = results
    outcome = Outcome("equal", phase, f"{way} {path.relative_to(case.out)}, then {name}")
    wrong = failure_of(ended)
    if wrong:
        outcome.verdict, outcome.detail = wrong
    elif ended.code:
        outcome.verdict, outcome.detail = "refused", ended.line
    elif wanted != found and "warning" not in ended.complained:
        outcome.verdict, outcome.detail = "silent", f"other results of '{name}'; {ended.line}"
    return outcome


def _mended(case: Case, outcome: Outcome, refused: Ended, kept: Path, damaged: Path) -> Outcome:
    """Bring back the whole file after a refusal: the run must go on as if nothing had been."""
    original = kept / damaged.relative_to(case.out)
    damaged.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(damaged, original.read_bytes())
    held = saved_steps(kept, case.reference.lengths)
    ended = case.shop.run(case.adapt, case.place / "mended", case.shop.planted(case.out))
    if ended.code and failure_of(ended) is None:
        outcome.verdict, outcome.detail = (
            "lost",
            f"refused ({refused.line}), and with the whole file again: {ended.line}",
        )
        return outcome
    outcome = case.judge_end(outcome, ended, held)
    if outcome.verdict == "equal":
        outcome.verdict, outcome.detail = "refused", refused.line
    return outcome


def _hostile(case: Case) -> Outcome:
    """Run with something that no honest data set has; then with the honest ones, in the same folder."""
    name = case.generator.choice(sorted(TRICKS))
    outcome = Outcome("equal", "start", name)
    scene = Scene(
        case.place / "world",
        case.out,
        case.place / "canary",
        recipe(case.place / "world", case.point.method),
        case.generator,
    )
    shutil.copytree(case.shop.world, scene.world)
    TRICKS[name](scene)
    file, before = case.place / "recipe.yaml", {*case.place.iterdir(), case.out}
    write_text(file, scene.text) if scene.text is not None else write_recipe(file, scene.settings)
    before |= {file, case.place / "first"}
    spoilt = [*(path for path in case.out.rglob("*") if not path.is_dir() or path.is_symlink()), *case.out.glob("*")]
    planted = case.shop.planted(case.out, world=scene.world)
    first = case.shop.run(["adapt", file, "--out", case.out, "-q"], case.place / "first", planted)
    wrong = failure_of(first)
    strays = {*case.place.iterdir()} - before
    if strays or scene.canary.exists():
        wrong = ("silent", f"made {', '.join(sorted(path.name for path in strays))}; {first.line}")
    if wrong:
        outcome.verdict, outcome.detail = wrong
        return outcome
    if first.code == 0:
        return _with_same_models(case, outcome, first)
    shutil.rmtree(scene.world)
    for path in spoilt:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
    ended = case.shop.run(case.adapt, case.place / "mended", case.shop.planted(case.out))
    if ended.code and failure_of(ended) is None:
        outcome.verdict, outcome.detail = "lost", f"refused ({first.line}), and without it: {ended.line}"
        return outcome
    outcome = case.judge_end(outcome, ended, 0)
    if outcome.verdict == "equal":
        outcome.verdict, outcome.detail = "refused", first.line
    return outcome


def _with_same_models(case: Case, outcome: Outcome, ended: Ended) -> Outcome:
    """Judge a run that took no harm: where it read the same images its models are the same."""
    found, wanted = numbers(case.out), case.reference.numbers
    if not any(name.endswith(".safetensors") for name in found):
        outcome.verdict, outcome.detail = "lost", f"ended well without a model; {ended.line}"
    elif outcome.what.startswith(("an image named", "an image with", "an image whose", "config.json", "results.json")):
        different = [n for n in differences(wanted, found) if n.endswith(".safetensors")]
        if different:
            outcome.verdict, outcome.detail = "silent", f"different: {', '.join(different)}; {ended.line}"
    return outcome


# ---- two processes ----


def _ranks(case: Case) -> Outcome:
    """End one of two processes, or both; the other must end by itself; then both again."""
    moment = moment_of(case.generator, case.reference.moments)
    number = case.generator.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM))
    victims = case.generator.choice(((0,), (1,), (0, 1)))
    outcome = Outcome(
        "equal", moment["phase"], f"{number.name} for rank {' and '.join(map(str, victims))} at {moment['number']}"
    )
    planted = [
        case.shop.planted(case.out, moment["number"] if rank in victims else -1, signalled(number)) for rank in (0, 1)
    ]
    ends = [command.wait() for command in case.shop.start_ranks(case.adapt, case.place, planted)]
    wrong = next((found for end in ends if (found := failure_of(end))), None)
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


JUDGES: Mapping[str, Callable[[Case], Outcome]] = {
    "kill": _kill,
    "stop": _stop,
    "power": _power,
    "disk": _disk,
    "together": _together,
    "damage": _damage,
    "hostile": _hostile,
    "ranks": _ranks,
}


def described(point: Point, outcome: Outcome) -> dict[str, Any]:
    """Return a point with its outcome as plain JSON values."""
    return {"number": point.number, "kind": point.kind, "method": point.method, **asdict(outcome)}
