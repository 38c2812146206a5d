"""Faults before a command or between two: a file of the run is damaged, or the data hold what nobody expects."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

from segadapt.bench.faults.damage import choose
from segadapt.bench.faults.damage import damage as damaged_in_a_way
from segadapt.bench.faults.drawing import moment_of
from segadapt.bench.faults.forked import Ended
from segadapt.bench.faults.hostile import TRICKS, Scene
from segadapt.bench.faults.interrupting import go_on
from segadapt.bench.faults.judging import Case, Outcome, failure_of
from segadapt.bench.faults.planted import signalled
from segadapt.bench.faults.reading import differences, numbers, saved_steps
from segadapt.bench.faults.world import recipe, write_recipe
from segadapt.core.files import write_bytes, write_text


def damage(case: Case) -> Outcome:
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
        return go_on(case, Outcome("equal", phase, f"nothing to damage at moment {moment['number']}"))
    if finished and case.generator.random() < 0.4:
        return _used(case, phase)
    path = choose(case.out, case.generator)
    kept = case.place / "kept"
    shutil.copytree(case.out, kept)
    others = sorted((case.shop.folder / "references").glob("*/run/**/*" + path.suffix))
    way = damaged_in_a_way(path, case.generator, [p for p in others if p.is_file()])
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
            way = damaged_in_a_way(path, case.generator, [p for p in others if p.is_file()])
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


def hostile(case: Case) -> Outcome:
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
