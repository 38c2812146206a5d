"""What pages show as output is what commands print, as far as it depends on no machine."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from segadapt.runs.config import load_config
from tests.docs.blocks import ROOT, blocks
from tests.docs.commands import run_here
from tests.docs.shell import Call
from tests.docs.world import write_toy


def shown(page: str, beginning: str) -> list[str]:
    """Return the lines of the block of text of a page that begins so."""
    (block,) = (block for block in blocks(ROOT / page, "text") if block.text.startswith(beginning))
    return block.text.splitlines()


def words(lines: Iterable[str]) -> list[str]:
    return [" ".join(line.split()) for line in lines if line.strip()]


def test_the_plan_of_the_page_on_short_runs(tmp_path: Path) -> None:
    write_toy(tmp_path / "toy")
    command = ["plan", "toy/proda", "--steps", "3000", "--no-measure", "--root", "toy=toy"]
    printed = words(run_here(command, Call(("segadapt", *command), tmp_path)).splitlines())
    lines = words(shown("docs/short_runs.md", "toy/proda"))
    rows = [re.sub(r"\d+\.\d+$", "-", line) for line in lines if line.startswith(("source", "stage1"))][:2]
    changes = [line for line in lines if line.startswith("stage1")][1:-1]
    assert [line for line in printed if line.startswith(("source", "stage1"))] == [*rows, *changes]
    assert {line for line in lines if not re.match(r"source|stage1|data|\d|matched|stage network", line)} < set(printed)


def test_the_choice_of_the_page_on_budgets() -> None:
    """The recipe that the lines name has the steps that they name."""
    (length,) = (
        line for line in shown("docs/budget.md", "chosen for these data, this machine and") if "recipe" in line
    )
    said = re.search(r"\(the recipe: (\d+), (\d+)\)", length)
    assert said is not None
    assert list(map(int, said.groups())) == [stage.steps for stage in load_config("folders/best").stages]
