"""The structure of the library: imports point downwards, files and functions stay short, one module writes files."""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Iterator
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
    {"bench", "api", "serve"},
    {"cli"},
    {"__main__"},
]
MODEL_SIDE, DATA_SIDE = "models", "data"
ROOT_MODULES = 5
FILE_LINES, METHOD_LINES, FUNCTION_LINES = 350, 220, 70
VAGUE_OPENINGS = {"What", "That", "Those", "Whose", "Whoever"}
NOUN_OPENINGS = {"A", "An", "The", "It", "Its", "Their", "All", "Each", "Every", "One", "No", "So", "Whether", "Where"}
WRITERS = {
    *("np.save", "np.savez", "np.savez_compressed", "numpy.save", "torch.save", "save_file", "cv2.imwrite"),
    *("os.replace", "os.rename", "shutil.copy", "shutil.copy2", "shutil.copyfile", "shutil.move"),
}
OTHER_WRITES = {
    ("core/process_memory.py", "write_text"): "a switch of the system, no file",
    ("bench/fuzz/seeds.py", "torch.save"): "goes to memory",
    ("runs/labelling.py", "Path.replace"): "moves finished files within one file system, the summary last",
    ("models/sealing.py", "save_file"): "into the temporary file of models/store.py",
    ("models/sealing.py", "open"): "the same",
}
"""Writes beside ``segadapt.core.files``, and the reason for each."""
PYTHON_READERS = {"ast.parse", "ast.literal_eval", "np.load", "np.lib.format.read_array"}
"""Calls that make syntax trees of Python, as numpy does to read the header of a file. In CPython before 3.11.8 and
3.12.2 two threads that do so at a time may fail: SystemError, AST constructor recursion depth mismatch (gh-106905)."""
IN_MAIN_THREAD = {
    "data/masks/class_lists.py": "a file of classes, read before any image",
    "data/statistics.py": "kept statistics, read before the images are gone over",
    "report/features.py": "features of a finished stage, read for the page",
    "runs/setting_names.py": "names of settings, which the shell completes in a process of its own",
}
"""Modules that may make such calls, as they do it in the main thread alone; no other one does."""


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


def test_few_modules_stand_in_the_root() -> None:
    assert len(list(SOURCE.glob("*.py"))) <= ROOT_MODULES


def test_files_stay_readable() -> None:
    lines = {str(path.relative_to(SOURCE)): len(path.read_text().splitlines()) for path in SOURCE.rglob("*.py")}
    limits = {name: METHOD_LINES if name.startswith("methods/") else FILE_LINES for name in lines}
    assert [name for name in lines if lines[name] > limits[name]] == []


def test_functions_stay_short() -> None:
    """Their docstrings, which may need many lines for arguments and examples, do not count."""
    long = []
    for path, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = node.end_lineno - node.lineno + 1  # type: ignore[operator]
                if ast.get_docstring(node) is not None:
                    lines -= node.body[0].end_lineno - node.body[0].lineno + 1  # type: ignore[operator]
                if lines > FUNCTION_LINES:
                    long.append(f"{path}:{node.lineno} {node.name}")
    assert long == []


def test_a_verb_opens_the_docstring_of_a_function() -> None:
    """Properties, which are named after a noun, may open with one."""
    nouns = []
    for path, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and (text := ast.get_docstring(node)):
                is_property = any("property" in ast.unparse(decorator) for decorator in node.decorator_list)
                if not is_property and text.split()[0] in NOUN_OPENINGS:
                    nouns.append(f"{path}:{node.lineno} {text.splitlines()[0]}")
    assert nouns == []


def test_no_shadowed_builtin_is_allowed() -> None:
    """Rule A of the linter stays on."""
    text = (SOURCE.parents[1] / "pyproject.toml").read_text()
    rules = {
        name: re.findall(r'"(\w+)"', listed) for name, listed in re.findall(r"(?m)^(select|ignore) = \[(.*)\]", text)
    }
    assert "A" in rules["select"]
    assert not [rule for rule in rules["ignore"] if re.fullmatch(r"A\d*", rule)]


def test_docstrings_name_their_subject() -> None:
    vague = []
    for path, tree in trees():
        for node in ast.walk(tree):
            for statement in getattr(node, "body", []) if not isinstance(node, ast.Lambda | ast.IfExp) else []:
                value = statement.value if isinstance(statement, ast.Expr) else None
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    words = value.value.split()
                    if words and words[0] in VAGUE_OPENINGS:
                        vague.append(f"{path}:{statement.lineno} {' '.join(words[:6])}")
    assert vague == []


def trees() -> Iterator[tuple[str, ast.Module]]:
    """Yield every module of the library with its path."""
    for path in sorted(SOURCE.rglob("*.py")):
        yield str(path.relative_to(SOURCE)), ast.parse(path.read_text())


def writes(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and kind of every call that writes a file, unless a call of ``segadapt.core.files`` surrounds it."""
    if isinstance(tree, ast.Call) and ast.unparse(tree.func) in ("replace_file", "replacing"):
        return
    if isinstance(tree, ast.With) and any("replacing(" in ast.unparse(item) for item in tree.items):
        return
    if isinstance(tree, ast.Call):
        kind = written(tree)
        if kind is not None:
            yield tree.lineno, kind
    for child in ast.iter_child_nodes(tree):
        yield from writes(child)


def written(call: ast.Call) -> str | None:
    """Return the kind of write that a call is; None where it writes no file."""
    name = ast.unparse(call.func)
    if name in WRITERS:
        return name
    method = call.func.attr if isinstance(call.func, ast.Attribute) else name
    if isinstance(call.func, ast.Attribute) and method in ("write_text", "write_bytes"):
        return method
    if isinstance(call.func, ast.Attribute) and method == "replace" and len(call.args) == 1 and not call.keywords:
        return "Path.replace"  # the method of a text takes two
    if method in ("open", "ZipFile"):
        values = [*call.args, *(keyword.value for keyword in call.keywords)]
        modes = [v.value for v in values if isinstance(v, ast.Constant) and isinstance(v.value, str)]
        if any(set(mode) <= set("rwaxbt+U") and set(mode) & set("wax+") for mode in modes):
            return method
    return None


def test_one_module_writes_files() -> None:
    """Written anywhere else, a file could be half there after a crash."""
    found = {
        (path, kind): f"{path}:{line} {kind}"
        for path, tree in trees()
        if path != "core/files.py"
        for line, kind in writes(tree)
    }
    assert [place for key, place in found.items() if key not in OTHER_WRITES] == []
    assert set(OTHER_WRITES) <= set(found), "an exception that nothing needs"


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("path.write_text(text)", "write_text"),
        ("path.open('w')", "open"),
        ("open(path, mode='ab')", "open"),
        ("np.savez(path, a=a)", "np.savez"),
        ("part.replace(path)", "Path.replace"),
        ("zipfile.ZipFile(path, 'w')", "ZipFile"),
        ("path.open('rb')", None),
        ("text.replace('a', 'b')", None),
        ("write_text(path, text)", None),
        ("replace_file(path, lambda file: np.save(file, a))", None),
    ],
)
def test_writes_are_recognised(line: str, kind: str | None) -> None:
    assert [found for _, found in writes(ast.parse(line))] == ([] if kind is None else [kind])


def test_no_thread_reads_python() -> None:
    found = {
        path
        for path, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in PYTHON_READERS
    }
    assert found == set(IN_MAIN_THREAD)


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
        likely = sorted(names, key=lambda name: (path.stem not in name, path.parent.name not in name))
        if not any(_changed(name, before[name]) for name in likely):
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
