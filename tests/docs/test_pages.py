"""Every block of every page runs, in the order of the page, in a folder of its own with tiny data.

What a page can name is in :mod:`tests.docs.world`, how runs become short in :mod:`tests.docs.shrinking`, and how a page
says that something is not to be run in :mod:`tests.docs.blocks`.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from segadapt.data.augmentations import AUGMENTATIONS
from segadapt.data.masks.classes_file import read_classes
from segadapt.data.readers import READERS
from segadapt.methods.registry import METHODS
from segadapt.models import plain
from segadapt.models.build import NETWORKS
from segadapt.runs.config import load_config
from tests.docs.blocks import PAGES, ROOT, SHELL, Block, blocks, name_of
from tests.docs.commands import prove, run_call, run_here
from tests.docs.shell import Call, calls_of
from tests.docs.shrinking import make_small
from tests.docs.world import A_RUN, BY_PAGE, RUNS, checkpoint, runs, write_common, write_model

REGISTRIES: tuple[Any, ...] = (METHODS, READERS, AUGMENTATIONS, NETWORKS)
WAY_OUT = "mend it, or say why it cannot run: <!-- not run: REASON --> (CONTRIBUTING.md, Pages)"
WITH_BLOCKS = [page for page in PAGES if blocks(page, "python", "yaml", "toml", "json", *SHELL)]


@pytest.fixture(scope="module")
def common(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that pages name, written once."""
    root = tmp_path_factory.mktemp("pages") / "common"
    write_common(root)
    return root


@pytest.fixture(scope="module")
def a_run(common: Path) -> Path:
    """A tiny run with the classes of ``A``."""
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        return adapted(common, A_RUN, common.parent / "run")


def adapted(folder: Path, words: Sequence[str], out: Path) -> Path:
    """Adapt a model as the words behind ``segadapt adapt`` say."""
    words = ["adapt", *words, "--out", str(out), "-q"]
    run_here(words, Call(("segadapt", *words), folder))
    return out


@pytest.fixture
def _apart(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let nothing stay that a page registers or imports."""
    for registry in REGISTRIES:
        monkeypatch.setattr(registry, "_added", {})
        monkeypatch.setattr(registry, "installed", partial(dict, registry.installed()))  # a page may declare others
    monkeypatch.setattr(plain, "_given", {})
    before = set(sys.modules)
    yield
    for name in {name for name in set(sys.modules) - before if name.startswith("my_")}:
        del sys.modules[name]


@pytest.mark.usefixtures("_apart")
@pytest.mark.parametrize("page", WITH_BLOCKS, ids=name_of)
def test_every_block_of_a_page_runs(
    page: Path, common: Path, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "page"
    shutil.copytree(common, folder)
    make_small(monkeypatch)
    words, name = page.read_text(encoding="utf-8"), name_of(page)
    if name in RUNS:
        adapted(folder, RUNS[name], folder / "RUN")
    elif re.search(r"\bRUN\b", words) or BY_PAGE.get(name) is runs:
        shutil.copytree(request.getfixturevalue("a_run"), folder / "RUN")
    if "model.safetensors" in words and BY_PAGE.get(name) is not checkpoint:
        write_model(folder / "model.safetensors")
    BY_PAGE.get(name, lambda root: None)(folder)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    names: dict[str, Any] = {}
    problems: list[str] = []
    for block in blocks(page):
        try:
            names = run_block(block, folder, names)
        except Exception as problem:
            problems.append(f"{block.where}: {problem if str(problem) else type(problem).__name__}")
    if problems:
        raise AssertionError("\n".join([*problems, WAY_OUT]))
    if (after := globals().get(f"after_{page.stem}")) is not None:
        after(names)


def run_block(block: Block, folder: Path, names: dict[str, Any]) -> dict[str, Any]:
    """Run a block; return the names of the last block of Python."""
    kind, rest = block.example
    if kind == "file":
        (folder / rest).write_text(block.text)
    if block.language in SHELL:
        run_shell(block, folder)
    elif block.language == "python":
        return run_python(block, names if kind == "continues" else {}, folder)
    elif block.language == "yaml":
        load_yaml(block, folder)
    elif block.language == "toml":
        declare(block)
    elif block.language == "json":
        json.loads(block.text)
    return names


def run_shell(block: Block, folder: Path) -> None:
    """Run the calls of a block that are not marked, and prove those that are."""
    kept = "\n".join(line for line in block.lines() if not block.is_marked(line))
    marked = "\n".join(line for line in block.lines() if block.is_marked(line))
    for call in calls_of(marked, folder):
        prove(call.words)
    calls = calls_of(kept, folder)
    assert calls or not kept, "nothing of the block is run"
    problems = []
    for call in calls:
        try:
            run_call(call, folder)
        except Exception as problem:
            problems.append(str(problem))
    if problems:
        raise AssertionError("\n".join(problems))


def run_python(block: Block, names: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Run a block of Python: a file is imported, anything else is a script."""
    kind, rest = block.example
    if kind == "file":
        importlib.invalidate_caches()
        importlib.import_module(Path(rest).stem)
        return names
    if not names:
        module = ModuleType(f"my_page_{block.line}")
        sys.modules[module.__name__] = module
        names = vars(module)
    argv, sys.argv = sys.argv, ["script.py", *(rest.split() if kind == "arguments" else ())]
    try:
        exec(compile(block.text, block.where, "exec"), names)
    finally:
        sys.argv = argv
        os.chdir(folder)
    return names


def declare(block: Block) -> None:
    """Let the entry points of a project file be those of an installed package: what they name is there."""
    for group, lines in re.findall(r'^\[project\.entry-points\."([\w.]+)"\]\n((?:.+\n)+)', block.text, re.MULTILINE):
        points = [EntryPoint(*line, group) for line in re.findall(r'^(\w+) = "([\w.]+:\w+)"$', lines, re.MULTILINE)]
        assert all(callable(point.load()) for point in points)
        (registry,) = [registry for registry in REGISTRIES if registry.group == group]
        registry.installed = partial(dict, {point.name: point for point in points})


def load_yaml(block: Block, folder: Path) -> None:
    """Read a block of YAML by what it is: a classes file, a recipe or what lies over one, or a job of Kubernetes."""
    documents = [document for document in yaml.safe_load_all(block.text) if document is not None]
    file = folder / ".block.yaml"
    file.write_text(block.text)
    if isinstance(documents[0], list):
        parts = {part: read_classes(file, part) for part in ("source", "target", "test")}
        assert all(len(classes) > 1 for classes in parts.values())
    elif "apiVersion" in documents[0]:
        jobs = [document for document in documents if document["kind"] == "Job"]
        containers = [c for job in jobs for c in job["spec"]["template"]["spec"]["containers"]]
        for container in containers:
            run_call(Call(tuple(container["command"]), folder), folder)
    else:
        if "base" not in documents[0]:
            file.write_text(f"base: toy/source_only\n{block.text}")
        load_config(file)


@pytest.mark.parametrize(
    ("language", "text", "answers"),
    [
        (
            "",
            "segadapt predict nowhere x\npip install y\n",
            ["no model file 'nowhere'", "'pip install y' is not run by the tests"],
        ),
        ("", "head=$(ls)  # nothing more\n", ["nothing of the block is run"]),
        ("", "if true\n", ["bash ends with"]),
        ("python", "assert 1 == 2, 'one is not two'\n", ["one is not two"]),
        ("yaml", "stages: {adapt: {method: cbts}}\n", ["cbst"]),
        ("json", "{'a': 1}\n", ["property name"]),
    ],
)
def test_what_does_not_run_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, language: str, text: str, answers: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Exception, match=re.escape(answers[0])) as caught:
        run_block(Block(tmp_path / "page.md", 1, language, text), tmp_path, {})
    assert all(answer in str(caught.value) for answer in answers)


# ---- what else has to be true after a page ----


def after_README(names: dict[str, Any]) -> None:
    assert names["label_map"].shape == (40, 56)
    assert 0 <= names["result"].miou <= 100
    assert names["result"].model.is_file()


def after_extending(names: dict[str, Any]) -> None:
    assert [stage.method for stage in names["result"].stages] == ["source_only", "entropy"]
    assert names["scores"].miou == pytest.approx(names["result"].miou)
    assert names["label_map"].shape == (32, 48)
    assert {"entropy"} < set(METHODS)
    assert "evening" in AUGMENTATIONS
    assert "pairs" in READERS
    config = load_config("recipe.yaml")
    assert [(stage.name, stage.method) for stage in config.stages] == [("source", "source_only"), ("adapt", "entropy")]
    assert config.plugins == ("my_method",)


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("my_method.py", "examples/own_method.py"),
        ("my_data.py", "tests/outside/dusk_methods/__init__.py"),
        ("my_network.py", "tests/outside/dusk_methods/network.py"),
    ],
)
def test_modules_of_the_page_are_the_ones_that_are_tested(file: str, source: str) -> None:
    """Every function of the page on extending stands in the example or the package that the tests install."""
    (block,) = (b for b in blocks(ROOT / "docs/extending.md", "python") if b.example == ("file", file))
    kept = (ROOT / source).read_text()
    bodies = re.split(r"^(?=@|class |[A-Z]+ =)", block.text, flags=re.MULTILINE)[1:]
    for body in bodies:
        lines = [line for line in body.splitlines() if line.strip() and '"""' not in line]
        assert all(line in kept for line in lines), body


def after_predict(names: dict[str, Any]) -> None:
    """The page shows the example, whose mask of a picture is that of the run."""
    (block,) = (block for block in blocks(ROOT / "docs/predict.md", "python") if block.example[0] == "arguments")
    assert block.text in (ROOT / "examples/onnx_predict.py").read_text()
    assert names["mask"].size == names["image"].size == (56, 40)


def after_few_labels(names: dict[str, Any]) -> None:
    assert names["one"].uncertainty > 0
