"""Running what a shell block calls: commands in this process on tiny data, and proofs of what is not run."""

from __future__ import annotations

import functools
import io
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import typer

from segadapt.bench.study import read_study
from segadapt.cli import app, main
from segadapt.runs.config import load_config
from tests.docs.blocks import ROOT
from tests.docs.shell import Call
from tests.docs.shrinking import fewer
from tests.docs.world import DATA_SETS
from tests.processes import commands, in_processes

PROCESSES = 2


def run_call(call: Call, world: Path) -> str:
    """Run a call, of make dry; return what it printed.

    Args:
        call: as bash understood the page.
        world: folder with the data sets.

    Raises:
        AssertionError: it failed, and the message has what was printed; or it is no program that can be run here.
    """
    program, *words = call.words
    if program == "torchrun":
        return run_together(words, call, world)
    if program == "segadapt" or words[:2] == ["-m", "segadapt"]:
        return run_here(placed(words[2:] if program != "segadapt" else words, world), call)
    if program.startswith("python") and words[0].endswith(".py"):
        return run_script(words, call)
    assert program == "make", f"'{shlex.join(call.words)}' is not run by the tests"  # whose dry run is a proof
    prove(call.words)
    return ""


def run_here(words: Sequence[str], call: Call) -> str:
    """Run a command in this process."""
    said = io.StringIO()
    with as_called(["segadapt", *words], call.folder, call.given), redirect_stdout(said), redirect_stderr(said):
        try:
            main()
            code: Any = 0
        except SystemExit as end:
            code = end.code
    assert not code, f"'{shlex.join(call.words)}' ends with {code}: {said.getvalue().strip()}"
    return said.getvalue()


def run_script(words: Sequence[str], call: Call) -> str:
    """Run a script of the page, or one of the repository, in this process."""
    file = next(folder / words[0] for folder in (call.folder, ROOT) if (folder / words[0]).exists())
    said = io.StringIO()
    with as_called(words, call.folder), redirect_stdout(said):
        runpy.run_path(str(file), run_name="__main__")
    return said.getvalue()


@contextmanager
def as_called(argv: Sequence[str], folder: Path, given: str = "") -> Iterator[None]:
    """Set words, folder and standard input of a program, and put back what was there."""
    before, words, keyboard = Path.cwd(), sys.argv, sys.stdin
    sys.argv, sys.stdin = list(argv), io.TextIOWrapper(io.BytesIO(Path(given).read_bytes() if given else b""))
    os.chdir(folder)
    try:
        yield
    finally:
        sys.argv, sys.stdin = words, keyboard
        os.chdir(before)


def run_together(words: Sequence[str], call: Call, world: Path) -> str:
    """Run a command of ``torchrun`` in two processes, its own words checked by torch."""
    from torch.distributed.run import get_args_parser

    asked = get_args_parser().parse_args(list(words))
    assert (asked.module, asked.training_script) == (True, "segadapt"), f"torchrun runs {asked.training_script}"
    line = placed(asked.training_script_args, world)
    before = Path.cwd()
    os.chdir(call.folder)
    try:
        ended = in_processes(PROCESSES, commands(line), call.folder / ".processes", agent=True)
    finally:
        os.chdir(before)
    for one in ended:
        assert one.status == 0, f"'{shlex.join(call.words)}' ends with {one.status}: {one.out}{one.err}"
    return ended[0].out


def placed(words: Sequence[str], world: Path) -> list[str]:
    """Return a command with the tiny data in the place of a user's, and with fewer repetitions."""
    made: list[str] = []
    for word in words:
        before = made[-1] if made else ""
        name, _, place = word.removeprefix("--root=").partition("=")
        if (
            (before == "--root" or word.startswith("--root="))
            and name in DATA_SETS
            and (place.startswith("/") or place in ("...", "FOLDER", ""))
        ):
            word = f"{'--root=' * word.startswith('--root=')}{name}={world / 'data' / name}"
        elif re.match(r"(--\w+=)?/(data|runs)/", word):
            word = word.replace("/data/", f"{world}/data/").replace("/runs/", "runs/")
        made.append(word)
    return [*made, *fewer(made)]


# ---- what is not run is checked ----


def prove(words: Sequence[str]) -> None:
    """Require that a call could run: its program, commands, options, files and recipes exist.

    Raises:
        AssertionError: with what is wrong with it.
    """
    program, *rest = words
    name = Path(program).name
    if "segadapt" in words and name in ("segadapt", "torchrun", "python"):
        inner = list(words[words.index("segadapt") + 1 :])
        problem = problem_of(inner) or problem_of_request(inner)
        assert not problem, problem
    elif name == "make":
        prove_target(rest)
    elif name.startswith("python") and rest[:1] == ["-m"]:
        prove_module(rest[1], rest[2:])
    elif name == "pip":
        prove_extras(rest)
    elif name == "git":
        assert rest[0] == "clone"
    elif name == "mkdocs":
        assert (ROOT / "mkdocs.yml").exists()
    else:
        assert (name, rest) == ("pre-commit", ["install"]), f"no rule says how '{shlex.join(words)}' is tested"
        assert (ROOT / ".pre-commit-config.yaml").exists()


@functools.cache
def program() -> Any:
    """Return the command with all of its sub-commands."""
    return typer.main.get_command(app)


def problem_of(words: Sequence[str]) -> str:
    """Return why words behind ``segadapt`` name no command with options that it has; empty where they do."""
    command = program()
    words, line = list(words), shlex.join(["segadapt", *words])
    while hasattr(command, "commands"):
        if not words or words[0].startswith("-"):
            break
        if words[0] not in command.commands:
            return f"{line}: no command '{words[0]}'"
        command, words = command.commands[words[0]], words[1:]
    options = {name for p in command.params for name in [*p.opts, *p.secondary_opts]} | {"--help"}
    for word in words:
        if re.match(r"--?[a-zA-Z]", word) and word.partition("=")[0].rstrip("]") not in options:
            return f"{line}: '{command.name}' has no option '{word}'"
    return ""


def problem_of_request(words: Sequence[str]) -> str:
    """Return why the recipe, its overrides or the study file of a command cannot be read; empty where it can."""
    try:
        if words[:2] == ["bench", "study"]:
            read_study(ROOT / words[2])
        elif words[0] in ("adapt", "plan") and words[1:] and not words[1].startswith("-"):
            load_config(words[1], [word for word in words[2:] if re.match(r"[a-z][\w.]*=", word)])
    except Exception as problem:
        return f"{shlex.join(['segadapt', *words])}: {problem}"
    return ""


def prove_target(words: Sequence[str]) -> None:
    """Require that make knows a target, and that its commands of segadapt exist."""
    made = subprocess.run(["make", "-n", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert made.returncode == 0, f"make {shlex.join(words)}: {made.stderr}"
    for line in re.findall(r"/segadapt (.*)", made.stdout):
        assert not problem_of(shlex.split(line)), problem_of(shlex.split(line))
    for module in re.findall(r"-m (benchmarks\.\w+)", made.stdout):
        assert (ROOT / f"{module.replace('.', '/')}.py").exists(), module


def prove_module(module: str, words: Sequence[str]) -> None:
    """Require that a module of the repository has a program with these options, or that pytest finds these tests."""
    options = [word.partition("=")[0] for word in words if word.startswith("-")]
    if module == "pytest":
        (file, *selected) = [word for word in words if not word.startswith("-")]
        assert set(options) <= {"-k", "-x", "-q", "-n"}
        assert all(word in (ROOT / file).read_text() for word in selected), words
        return
    if module == "venv":
        return
    assert module.startswith("benchmarks."), f"no rule says how 'python -m {module}' is tested"
    said = io.StringIO()
    with as_called([module, "--help"], ROOT), redirect_stdout(said), suppress(SystemExit):
        runpy.run_module(module, run_name="__main__")
    missing = [option for option in options if not re.search(rf"(?<!\S){option}\b", said.getvalue())]
    assert not missing, f"python -m {module} has no option {missing}"


def prove_extras(words: Sequence[str]) -> None:
    """Require that the extras that ``pip install`` names are those of the package."""
    declared = (ROOT / "pyproject.toml").read_text()
    for word in words:
        for extra in re.findall(r"segadapt\[([\w,]+)\]", word):
            for name in extra.split(","):
                assert re.search(rf"^{name} = \[", declared, re.MULTILINE), f"segadapt has no extra '{name}'"
