"""Recipes, classes files and names that nobody writes by hand: one line, in little time."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from segadapt.data.folder import open_folder
from segadapt.data.masks.classes_file import read_classes
from segadapt.errors import RequestError
from segadapt.evaluation.inputs import find_inputs
from segadapt.evaluation.placing import result_places
from segadapt.recipes import stages_of
from segadapt.recipes.merging import parse_yaml
from segadapt.runs.config import resolve


def recipe(folder: Path, text: str, name: str = "own.yaml") -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


@pytest.mark.parametrize(
    "value",
    [
        *("[" * 5000, "- " * 5000, "{a: " * 100 + "1" + "}" * 100, "&a [*a]", "9" * 5000, "!!int abc", "!!bool maybe"),
        *("!!timestamp 2020-99-99", "!!python/name:os.system x", '"\\ud800"', "!!float x", "="),
    ],
)
@pytest.mark.parametrize("key", ["stages", "base", "title", "model", "data"])
def test_values_that_no_recipe_has_are_one_line(tmp_path: Path, value: str, key: str) -> None:
    path = recipe(tmp_path, ("" if key == "base" else "base: toy/cbst\n") + f"{key}: {value}\n")
    with pytest.raises(RequestError, match=r"^[^\n]+$"):
        resolve(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("base: toy/cbst\nstages: null", "no stages"),
        ("base: toy/cbst\nstages: [1]", "no stages"),
        ("base: toy/cbst\nstages:\n  x: {like: [1]}", "like '\\[1\\]', which is not another stage"),
        ("base: toy/cbst\nstages:\n  x: {like: {a: 1}}", "which is not another stage"),
        ("base: toy/cbst\nstages:\n  x: {like: y}\n  y: {like: x}", "like each other"),
        ("base: toy/cbst\nstages:\n  adapt: {1: 2}", "the key 1 is no name of a setting"),
        ("base: toy/cbst\nplugins: [[]]", "plugins"),
        ("base: own.yaml", "builds on itself"),
        ("base: ./own.yaml", "builds on itself"),
        ("base: ../{folder}/own.yaml", "builds on itself"),
        (f"base: {'x' * 5000}", "builds on"),
    ],
)
def test_shapes_that_no_recipe_has_are_one_line(tmp_path: Path, text: str, words: str) -> None:
    path = recipe(tmp_path, text.replace("{folder}", tmp_path.name))
    with pytest.raises(RequestError, match=words):
        resolve(path)


def test_long_chains_are_refused(tmp_path: Path) -> None:
    for i in range(300):
        recipe(tmp_path, f"base: r{i + 1}.yaml", f"r{i}.yaml")
    recipe(tmp_path, "base: toy/cbst", "r300.yaml")
    assert stages_of(tmp_path / "r290.yaml") == stages_of("toy/cbst")
    with pytest.raises(RequestError, match="builds on more than 32 files"):
        stages_of(tmp_path / "r0.yaml")
    stages = "".join(f"  x{i}: {{like: x{i + 1}}}\n" for i in range(1500))
    with pytest.raises(RequestError, match="like each other"):
        stages_of(recipe(tmp_path, f"base: toy/cbst\nstages:\n{stages}  x1500: {{like: source}}"))


def test_aliases_may_unfold_but_not_to_millions() -> None:
    assert parse_yaml("a: &x [1, 2]\nb: *x") == {"a": [1, 2], "b": [1, 2]}
    bomb = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
    started = time.perf_counter()
    with pytest.raises(yaml.YAMLError, match="unfolds to more than"):
        parse_yaml(bomb)
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("many.csv", "name,id\n" + "".join(f"c{i},{i}\n" for i in range(20_000))),
        ("many.json", "[" + ", ".join(f'"c{i}"' for i in range(20_000)) + "]"),
        ("wide.csv", ",".join(f"x{i}" for i in range(20_000)) + ",name,id\n"),
        ("deep.yaml", "- " * 20_000),
        ("long.csv", f'name,id\n"{"x" * 200_000}",1\n'),
        ("digits.yaml", f"a: {'1' * 5000}\nb: 2\n"),
        ("twice.yaml", "a: 1\na: 2\n"),
        ("half.json", '{"\\ud800": 1, "b": 2}'),
        ("legend.json", '{"format": "segadapt-legend-1"}'),
    ],
)
def test_classes_files_that_nobody_writes_are_one_line_in_little_time(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    started = time.process_time()
    with pytest.raises(RequestError, match=r"^[^\n]+$"):
        read_classes(tmp_path / name)
    assert time.process_time() - started < 4


def test_a_repeated_key_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("road: 1\ncar: 2\nroad: 3\n")
    with pytest.raises(RequestError, match="'road' stands there twice"):
        read_classes(tmp_path / "a.yaml")


# ---- names ----


def pictures(folder: Path, *names: str) -> Path:
    folder.mkdir()
    for value, name in enumerate(names, 1):
        Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(folder / name)
    return folder


def test_no_two_images_have_one_id(tmp_path: Path) -> None:
    found = open_folder(pictures(tmp_path / "a", "b.jpg", "b.png", "b.jpg.png", "c.png")).items
    assert [item.id for item in found] == ["b.jpg", "b.jpg.png", "b.png", "c"]
    assert {item.id: item.image.name for item in found}["b.jpg"] == "b.jpg"  # type: ignore[union-attr]
    two = open_folder(pictures(tmp_path / "b", "b.jpg", "b.jpg.png")).items
    assert [item.id for item in two] == ["b", "b.jpg"]


def test_names_too_long_for_results_are_refused_before_any_is_made(tmp_path: Path) -> None:
    folder, out = pictures(tmp_path / "a", f"{'x' * 250}.png"), tmp_path / "out"
    inputs = find_inputs(folder)
    result_places(inputs, out, ["index"])
    with pytest.raises(RequestError, match=r"too long a name for its results \(262 bytes"):
        result_places(inputs, out)
