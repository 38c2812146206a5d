"""Every block of every page runs, in the order of the page, in a folder of its own with tiny data.

What a page can name is in :mod:`tests.docs.world`, how runs become short in :mod:`tests.docs.shrinking`, and how a writer
says that something is not to be run in :mod:`tests.docs.blocks`.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
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
from segadapt.runs.config import load_config
from tests.docs.blocks import PAGES, SHELL, Block, blocks, name_of
from tests.docs.commands import prove, run_call, run_here
from tests.docs.shell import Call, calls_of
from tests.docs.shrinking import make_small
from tests.docs.world import BY_PAGE, DATA_SETS, write_common, write_model

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
    out = common.parent / "run"
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        data = ["--source-images", "A/images", "--source-labels", "A/masks", "--target-images", "B/images"]
        words = ["adapt", *data, "--classes", "classes.txt", "--method", "cbst", "--out", str(out), "-q"]
        run_here(words, Call(("segadapt", *words), common))
    return out


@pytest.fixture
def _apart(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let nothing stay that a page registers or imports."""
    for registry in (METHODS, READERS, AUGMENTATIONS):
        monkeypatch.setattr(registry, "_added", {})
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
    words = page.read_text(encoding="utf-8")
    if "RUN" in words:
        shutil.copytree(request.getfixturevalue("a_run"), folder / "RUN")
    if "model.safetensors" in words:
        write_model(folder / "model.safetensors")
    BY_PAGE.get(name_of(page), lambda root: None)(folder)
    for name in DATA_SETS:
        monkeypatch.setenv(f"SEGADAPT_{name.upper()}", str(folder / "data" / name))
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    make_small(monkeypatch)
    names: dict[str, Any] = {}
    for block in blocks(page):
        try:
            names = run_block(block, folder, names)
        except Exception as problem:
            pytest.fail(f"{block.where}: {type(problem).__name__}: {problem}\n{WAY_OUT}", pytrace="-v" in sys.argv)
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
    for call in calls:
        run_call(call, folder)


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


# ---- what else has to be true after a page ----


def after_README(names: dict[str, Any]) -> None:
    assert names["label_map"].shape == (40, 56)
    assert 0 <= names["result"].miou <= 100
    assert names["result"].model.is_file()


def after_few_labels(names: dict[str, Any]) -> None:
    assert names["one"].uncertainty > 0
