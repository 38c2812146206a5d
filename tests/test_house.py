"""The structure the house promises: imports point downwards, files stay readable, counts come from label spaces."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

SOURCE = Path(__file__).parents[1] / "src" / "segadapt"
RECIPES = SOURCE / "recipes"

FLOORS = [
    {"errors", "version"},
    {"labels", "core"},
    {"pieces"},
    {"models", "data", "recipes"},
    {"methods", "toy"},
    {"engine"},
    {"evaluation"},
    {"report"},
    {"runs"},
    {"bench", "api"},
    {"cli"},
    {"__main__"},
]
MODEL_SIDE, DATA_SIDE = "models", "data"


def floor_of(module: str) -> int:
    parts = module.split(".")
    if len(parts) == 1:
        return len(FLOORS)  # the package's face, above all
    for height, names in enumerate(FLOORS):
        if parts[1] in names:
            return height
    raise AssertionError(f"{module} is on no floor; add it to FLOORS")


def imports(path: Path) -> list[str]:
    tree = ast.parse(path.read_text())
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("segadapt"):
            found.append(node.module)
        elif isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.startswith("segadapt")]
    return found


def module_of(path: Path) -> str:
    parts = ["segadapt", *path.relative_to(SOURCE).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_imports_point_downwards() -> None:
    wrong = []
    for path in SOURCE.rglob("*.py"):
        module = module_of(path)
        if module == "segadapt":
            continue
        for other in imports(path):
            above = floor_of(other) > floor_of(module)
            across = {MODEL_SIDE, DATA_SIDE} == {module.split(".")[1], [*other.split("."), ""][1]}
            if above or across:
                wrong.append(f"{module} imports {other}")
    assert wrong == []


def test_files_stay_readable() -> None:
    long = {str(p.relative_to(SOURCE)): n for p in SOURCE.rglob("*.py") if (n := len(p.read_text().splitlines())) > 350}
    assert long == {}


def test_class_counts_come_from_label_spaces() -> None:
    """No call passes a literal number of classes."""
    wrong = []
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                wrong += [
                    f"{path.name}:{node.lineno}"
                    for keyword in node.keywords
                    if keyword.arg in ("classes", "num_classes")
                    and isinstance(keyword.value, ast.Constant)
                    and isinstance(keyword.value.value, int)
                    and keyword.value.value > 2
                ]
    assert wrong == []


def test_every_recipe_is_short_and_valid() -> None:
    from segadapt.recipes import description, recipe_names
    from segadapt.runs.config import load_config

    long = [str(path) for path in RECIPES.glob("*/[!_]*.yaml") if len(path.read_text().splitlines()) > 40]
    assert long == []
    names = recipe_names()
    assert {"toy/cbst", "camvid_day_dusk/cbst", "gta5_cityscapes/cbst", "synthia_cityscapes/cbst_sp"} <= set(names)
    for name in names:
        assert description(name), name
        if not name.startswith("folders/"):
            assert load_config(name).stages[0].initial in ("previous", "scratch"), name


def test_no_two_recipe_files_hold_the_same() -> None:
    """Comments aside; what two tasks share stands in one file."""
    found: dict[str, list[str]] = {}
    for path in sorted(RECIPES.rglob("*.yaml")):
        found.setdefault(repr(yaml.safe_load(path.read_text())), []).append(str(path.relative_to(RECIPES)))
    assert [paths for paths in found.values() if len(paths) > 1] == []


def test_no_recipe_file_equals_its_composition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any one file some recipe is another, or is none."""
    from segadapt import recipes

    root = Path(shutil.copytree(RECIPES, tmp_path / "recipes"))
    monkeypatch.setattr(recipes, "ROOT", root)
    names = recipes.recipe_names()
    before = {name: recipes.read_recipe(name) for name in names}
    needless = []
    for path in sorted(root.glob("*/*.yaml")):
        aside = path.rename(path.with_suffix(".aside"))
        if not any(_changed(name, before[name]) for name in names):
            needless.append(str(path.relative_to(root)))
        aside.rename(path)
    assert needless == []


def _changed(name: str, before: dict[str, Any]) -> bool:
    """Return whether a recipe reads otherwise than before, or not at all."""
    from segadapt.errors import RequestError
    from segadapt.recipes import read_recipe

    try:
        return read_recipe(name) != before
    except RequestError:
        return True
