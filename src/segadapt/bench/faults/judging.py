"""Verdicts on a command that went on after a fault."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from segadapt.bench.faults.drawing import Point
from segadapt.bench.faults.forked import Ended
from segadapt.bench.faults.reading import differences, litter, numbers
from segadapt.bench.faults.references import Reference, Workshop

VERDICTS: Mapping[str, str] = {
    "equal": "the same numbers, bit for bit",
    "refused": "one clear line and nothing lost: once it is mended the numbers are the same",
    "lost": "finished work was done again or is gone",
    "silent": "other numbers, or damage that nothing was said about",
    "traceback": "a traceback instead of a line",
    "hang": "no end within a minute, or a signal that was not answered",
}
FAILURES = ("lost", "silent", "traceback", "hang")


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
        """Return the command that goes on: the same, or ``resume`` where the run has begun."""
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
