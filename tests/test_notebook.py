"""The notebook runs from its first cell to its last, and is committed without what a run leaves in it."""

from __future__ import annotations

import ast
import json
import os
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[1] / "examples/segadapt.ipynb"
SHORT = """
SOURCE, TARGET, TEST, HEIGHT, WIDTH = 2, 2, 1, 64, 128
SETTINGS = ["model.name=timm:test_resnet", "model.weights=null", "accelerator=cpu"]
SETTINGS += ["every.augmentation.crop=[32, 32]", "data.workers=0", "adapt.rounds=1", "source.steps=1", "adapt.steps=1"]
SETTINGS += ["every.batch_size=1", "data.source.size=[64, 128]", "data.target.size=[64, 128]"]
"""


@pytest.fixture(scope="module")
def cells() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(NOTEBOOK.read_text())["cells"]
    return found


def test_it_is_committed_without_outputs(cells: list[dict[str, Any]]) -> None:
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert len({cell["id"] for cell in cells}) == len(cells)


def test_it_runs_from_start_to_end(
    cells: list[dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)  # renders in this process
    monkeypatch.setattr("segadapt.report.features.FEWEST", 1 << 30)  # a picture that takes seconds, tested elsewhere
    names: dict[str, Any] = {}
    values = []
    for cell in cells:
        if cell["cell_type"] != "code":
            continue
        values.append(run("".join(cell["source"]), names))
        if cell["metadata"].get("tags") == ["parameters"]:
            exec(SHORT, names)
    said = capsys.readouterr().out
    assert "adapt cbst 1 steps" in said
    assert said.count("recommended: the model of stage") == 3, "of the run, in its model card, of the own folders"
    assert f"mIoU {names['result'].miou:5.1f}" in said
    assert (tmp_path / "segadapt_notebook/run/report.html").is_file()
    pictures = [value for value in values if hasattr(value, "size")]
    assert len(pictures) == 4, "each is the last value of a cell, which a notebook shows"
    assert all(len(picture.getcolors(1 << 20)) > 1 for picture in pictures), "none is empty"


def run(source: str, names: dict[str, Any]) -> Any:
    """Execute a cell and return the value of its last line, as a notebook shows it."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, NOTEBOOK.name, "exec"), names)
    return None if last is None else eval(compile(ast.Expression(last.value), NOTEBOOK.name, "eval"), names)  # type: ignore[attr-defined]
