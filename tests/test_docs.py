"""The pages are true: examples run, links lead somewhere, commands and options exist.

A block of Python runs as it stands, in a folder of its own per page. A comment before it says what it needs:

- ``<!-- example: folders -->``: ``A`` and ``B/test`` have images and masks, ``B`` images, and runs are short.
- ``<!-- example: file NAME.py -->``: the block is written to that file, which is then imported.
- ``<!-- example: continues -->``: the block goes on where the last block stopped.
"""

from __future__ import annotations

import importlib
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image

from segadapt.cli import app
from segadapt.data.augmentations import AUGMENTATIONS
from segadapt.data.readers import READERS
from segadapt.errors import RequestError
from segadapt.labels import LabelSpace, distinct_colors
from segadapt.methods.registry import METHODS
from segadapt.models import plain
from segadapt.models.build import build_segmenter
from segadapt.models.store import save_model
from segadapt.recipes import recipe_names
from segadapt.runs.config import load_config, resolve_folders
from tests.evaluation.test_video import film
from tests.test_api import QUICK
from tests.tiny import scene, write_folder

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXTENDING = ROOT / "docs/extending.md"
BLOCK = re.compile(r"(?:^<!-- example: (.*?) -->\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[tuple[str, str]]:
    """Return what a page says of each block of a language before it, and the block."""
    return [(needs, text) for needs, kind, text in BLOCK.findall(page.read_text()) if kind == language]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


# ---- examples ----


@pytest.fixture
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Work in a folder with two domains; nothing that a page registers stays."""
    for registry in (METHODS, READERS, AUGMENTATIONS):
        monkeypatch.setattr(registry, "_added", {})
    monkeypatch.setattr(plain, "_given", {})
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    for name, shift in (("A", 0.0), ("B", 1.0), ("B/test", 1.0)):
        write_folder(tmp_path / name, 4, shift=shift, labels=name != "B")
        if name != "B":
            (tmp_path / name / "labels").rename(tmp_path / name / "masks")
    yield
    for name in {name for name in set(sys.modules) - before if name.startswith("my_")}:
        del sys.modules[name]


def execute(page: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run the blocks of a page in their order; return the names of the last one."""

    def short(method: str, data: Any, overrides: Any = (), plugins: Any = (), **more: Any) -> Any:
        return resolve_folders(method, data, [*QUICK, *overrides], plugins, **more)

    names: dict[str, Any] = {}
    for number, (needs, text) in enumerate(blocks(page, "python")):
        kind, _, file = needs.partition(" ")
        assert kind in ("", "folders", "file", "continues"), needs
        if kind == "file":
            Path(file).write_text(text)
            importlib.import_module(Path(file).stem)
            continue
        if kind != "continues":
            names = {}
        if not names:
            module = ModuleType(f"my_page_{number}")
            sys.modules[module.__name__] = module
            names = vars(module)
        with monkeypatch.context() as patch:
            if kind == "folders":
                patch.setattr("segadapt.api.asking.resolve_folders", short)
                names["image"] = scene(77, 3, 37, 61, 1.0)[0]
            exec(compile(text, f"{page.name}, block {number + 1}", "exec"), names)
    return names


@pytest.mark.usefixtures("_apart")
def test_the_python_of_the_readme_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    names = execute(ROOT / "README.md", monkeypatch)
    assert names["label_map"].shape == names["image"].shape[:2]
    assert 0 <= names["result"].miou <= 100
    assert names["result"].model.is_file()


@pytest.mark.usefixtures("_apart")
def test_the_python_of_the_page_on_few_labels_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    (write_folder(Path("B0"), 4, shift=1.0) or Path("B0")).joinpath("labels").rename("B/masks")
    Path("B/masks/003.png").unlink()
    names = execute(ROOT / "docs/few_labels.md", monkeypatch)
    assert names["result"].raw["target"]
    assert names["one"].uncertainty > 0


@pytest.mark.usefixtures("_apart")
def test_the_page_on_extending_is_true(monkeypatch: pytest.MonkeyPatch) -> None:
    names = execute(EXTENDING, monkeypatch)
    assert [stage.method for stage in names["result"].stages] == ["source_only", "entropy"]
    assert names["scores"].miou == pytest.approx(names["result"].miou)
    assert names["label_map"].shape == (32, 48)
    assert {"entropy"} < set(METHODS)
    assert "evening" in AUGMENTATIONS
    assert "pairs" in READERS
    for needs, text in blocks(EXTENDING, "yaml"):
        assert needs == "recipe"
        Path("recipe.yaml").write_text(text)
        config = load_config("recipe.yaml")
        assert [(s.name, s.method) for s in config.stages] == [("source", "source_only"), ("adapt", "entropy")]
        assert config.plugins == ("my_method",)
    ((_, declared),) = blocks(EXTENDING, "toml")
    points = re.findall(r'^(\w+) = "(\w+):(\w+)"$', declared, re.MULTILINE)
    assert len(points) == 4
    assert all(hasattr(importlib.import_module(module), name) for _, module, name in points)
    groups = {registry.group for registry in (METHODS, READERS, AUGMENTATIONS)} | {"segadapt.networks"}
    assert set(re.findall(r'entry-points\."([\w.]+)"', declared)) == groups


@pytest.mark.usefixtures("_apart")
def test_the_page_on_predicting_is_true(capsys: pytest.CaptureFixture[str]) -> None:
    (kind, code), (example, script) = blocks(ROOT / "docs/predict.md", "python")
    assert kind == "predict"
    space = LabelSpace("three", ("ground", "box", "disc"), distinct_colors(3))
    save_model(Path("model.safetensors"), build_segmenter("timm:resnet10t", 3, weights=None, width=16), space, {})
    Path("B/images").rename("photos")
    Image.open("photos/000.png").save("photo.jpg")
    film(Path("drive.mp4"), 3)
    names: dict[str, Any] = {}
    exec(compile(code, "predict.md", "exec"), names)
    assert capsys.readouterr().out.splitlines() == ["(40, 56) ('ground', 'box', 'disc')", "4 3 ()"]
    assert all(np.array_equal(names["several"][0].labels, one.labels) for one in names["several"])
    assert script in (ROOT / "examples" / example).read_text()


@pytest.mark.usefixtures("_apart")
@pytest.mark.parametrize("page", ["quick_start", "own_data", "pieces"])
def test_the_python_of_a_first_page_runs(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    space = LabelSpace("three", ("ground", "box", "disc"), distinct_colors(3))
    Path("demo").mkdir()
    for run in ("demo/run", "run"):  # a model file may stand for a run
        save_model(Path(run), build_segmenter("timm:resnet10t", 3, weights=None, width=16), space, {})
    Image.open("B/images/000.png").save("photo.jpg")
    names = execute(ROOT / f"docs/{page}.md", monkeypatch)
    assert names["label_map"].shape == (40, 56) if "model" in names else names["loss"] > 0


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("my_method.py", "examples/own_method.py"),
        ("my_data.py", "tests/outside/dusk_methods/__init__.py"),
        ("my_network.py", "tests/outside/dusk_methods/network.py"),
    ],
)
def test_modules_of_the_page_are_the_ones_that_are_tested(file: str, source: str) -> None:
    """Every function of the page stands in the example or the package that the tests install."""
    (text,) = (text for needs, text in blocks(EXTENDING, "python") if needs == f"file {file}")
    kept = (ROOT / source).read_text()
    bodies = re.split(r"^(?=@|class |[A-Z]+ =)", text, flags=re.MULTILINE)[1:]
    for body in bodies:
        lines = [line for line in body.splitlines() if line.strip() and '"""' not in line]
        assert all(line in kept for line in lines), body


def test_every_page_with_python_is_tested() -> None:
    tested = {
        "README.md",
        "docs/extending.md",
        "docs/few_labels.md",
        "docs/predict.md",
        "docs/quick_start.md",
        "docs/own_data.md",
        "docs/pieces.md",
        "CONTRIBUTING.md",
    }  # the last by tests/methods/test_contributing.py
    indented = re.compile(r"^ *```python$", re.MULTILINE)
    assert {name_of(page) for page in PAGES if indented.search(page.read_text())} == tested


# ---- links ----


def anchors(page: Path) -> set[str]:
    """Return the anchors that a page's headings get on GitHub."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        plain_text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", plain_text).replace(" ", "-")
        number = 0
        while (unique := anchor if number == 0 else f"{anchor}-{number}") in found:
            number += 1
        found.add(unique)
    return found


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    wrong = []
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`(?!\])", "", text)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            wrong.append(target)
    assert wrong == []


# ---- commands ----


def command_lines(page: Path) -> list[str]:
    """Return the calls of ``segadapt`` in blocks, and in code within a line; a call over several lines is one."""
    text = page.read_text().replace("\\\n", " ")
    fenced = [
        line for block in re.findall(r"^ *```\w*\n(.*?)^ *```$", text, re.M | re.S) for line in block.splitlines()
    ]
    inline = re.findall(r"`([^`]+)`", re.sub(r"^ *```.*?^ *```$", "", text, flags=re.M | re.S))
    return [line.strip() for line in [*fenced, *inline] if re.match(r"\s*(torchrun .* -m )?segadapt \S", line)]


def problem_of(line: str) -> str:
    """Return why the line does not name a command with options that it has; empty where it does."""
    words = shlex.split(line.partition("-m segadapt ")[2] or line.partition("segadapt ")[2], comments=True)
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        if not words or words[0].startswith("-"):
            break
        if words[0] not in command.commands:
            return f"{line}: no command '{words[0]}'"
        command, words = command.commands[words[0]], words[1:]
    options = {name for p in command.params for name in [*p.opts, *p.secondary_opts]} | {"--help"}
    for word in words:
        if word.startswith("-") and word.partition("=")[0].rstrip("]") not in options:
            return f"{line}: '{command.name}' has no option '{word}'"
    return ""


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_and_options_exist(page: Path) -> None:
    assert [problem for line in command_lines(page) if (problem := problem_of(line))] == []


def test_wrong_commands_and_links_are_found(tmp_path: Path) -> None:
    assert "no command 'adopt'" in problem_of("segadapt adopt toy/cbst")
    assert "no command 'tables'" in problem_of("segadapt bench tables x")
    assert "'adapt' has no option '--methd'" in problem_of("segadapt adapt --methd cbst")
    assert problem_of("torchrun --nproc-per-node 4 -m segadapt adapt toy/cbst --root a=b  # --no-such") == ""
    page = tmp_path / "page.md"
    page.write_text(
        "# One `two`, three\n\n## Twice\n\n## Twice\n\nsee `segadapt methods --plugin x`\n"
        "```\nsegadapt demo \\\n  --out x\n```\n"
    )
    assert anchors(page) == {"one-two-three", "twice", "twice-1"}
    assert [line.split() for line in command_lines(page)] == [
        ["segadapt", "demo", "--out", "x"],
        ["segadapt", "methods", "--plugin", "x"],
    ]
    assert len(command_lines(ROOT / "README.md")) > 10


# ---- overrides that pages name ----

OVERRIDE = re.compile(r"`((?:[a-z]\w*(?:\.\w+)*=(?:'[^'`]*'|[^\s`]+) ?)+)`")
OVERRIDES = [
    (page, text)
    for page in [*PAGES, *sorted((ROOT / "benchmarks").glob("*.md"))]
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
