"""What pages name exists: links and their anchors, commands within a line, settings that can be changed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from segadapt.errors import RequestError
from segadapt.recipes import recipe_names
from segadapt.runs.config import load_config
from tests.docs.blocks import PAGES, ROOT, SHELL, blocks, name_of
from tests.docs.commands import problem_of

BENCHMARKS = sorted((ROOT / "benchmarks").glob("*.md"))
FENCED = re.compile(r"^( *)```.*?^\1``` *$", re.MULTILINE | re.DOTALL)


def prose_of(page: Path) -> str:
    """Return the words of a page without its blocks."""
    return FENCED.sub("", page.read_text(encoding="utf-8"))


# ---- links ----


def anchors(page: Path) -> set[str]:
    """Return the anchors that a page's headings get on GitHub."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", prose_of(page), re.MULTILINE):
        plain_text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", plain_text).replace(" ", "-")
        number = 0
        while (unique := anchor if number == 0 else f"{anchor}-{number}") in found:
            number += 1
        found.add(unique)
    return found


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    wrong = []
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`(?!\])", "", prose_of(page))):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            wrong.append(target)
    assert wrong == []


def test_anchors_are_those_of_headings(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One `two`, three\n\n## Twice\n\n## Twice\n\n```\n# no heading\n```\n")
    assert anchors(page) == {"one-two-three", "twice", "twice-1"}


# ---- commands within a line, and those of pages of results, which are not run ----


def mentioned(page: Path) -> list[list[str]]:
    """Return the words behind ``segadapt`` of each command that stands within a line of a page."""
    return [words_of(code) for code in re.findall(r"`([^`]+)`", prose_of(page)) if is_command(code)]


def is_command(text: str) -> bool:
    return re.match(r"\s*(torchrun (.* )?-m )?segadapt \S", text) is not None


def words_of(line: str) -> list[str]:
    return shlex.split(line.partition("-m segadapt ")[2] or line.partition("segadapt ")[2], comments=True)


@pytest.mark.parametrize("page", [*PAGES, *BENCHMARKS], ids=name_of)
def test_commands_within_a_line_exist(page: Path) -> None:
    lines = [line for block in blocks(page, *SHELL) for line in block.lines()] if page in BENCHMARKS else []
    named = [*mentioned(page), *(words_of(line) for line in lines if is_command(line))]
    assert [problem for words in named if (problem := problem_of(words))] == []


def test_commands_within_a_line_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("see `segadapt methods --plugin x` and `torchrun -m segadapt predict`\n```\nsegadapt demo\n```\n")
    assert mentioned(page) == [["methods", "--plugin", "x"], ["predict"]]
    assert sum(len(mentioned(page)) for page in PAGES) > 60


# ---- settings that pages name ----

OVERRIDE = re.compile(r"`((?:[a-z]\w*(?:\.\w+)*=(?:'[^'`]*'|[^\s`]+) ?)+)`")
OVERRIDES = [
    (page, text)
    for page in [*PAGES, *BENCHMARKS]
    for text in OVERRIDE.findall(page.read_text())
    if re.match(r"(?:source|warmup|adapt|stage\d|model|data)\.|seed=", text)
]
RECIPES = [name for name in recipe_names() if name.startswith(("toy/", "gta5_cityscapes/", "cityscapes_acdc/"))]


@pytest.mark.parametrize(("page", "text"), OVERRIDES, ids=[text for _, text in OVERRIDES])
def test_overrides_that_a_page_names_can_be_given(page: Path, text: str) -> None:
    """Each builds a configuration of a recipe, of one named like the page where there is one."""
    mine = [name for name in RECIPES if page.stem in name.partition("/")[2]] or RECIPES
    problems = []
    for recipe in [*mine, *RECIPES]:
        try:
            load_config(recipe, shlex.split(text))
        except RequestError as problem:
            problems.append(f"{recipe}: {problem}")
        else:
            return
    raise AssertionError(f"{page.name} names '{text}', which no recipe takes; {problems[0]}")


def test_there_are_overrides_to_test() -> None:
    assert len(OVERRIDES) > 60
