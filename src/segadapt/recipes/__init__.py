"""Recipes: YAML files with the settings of runs, read without torch.

A recipe is named ``TASK/NAME``, e.g. ``toy/cbst``. ``_tasks.yaml`` lists the recipes of each task. A file that a task
lacks comes from the task that it is ``like``, and at last from ``_methods``; it is then read for the asking task, so
``toy/st`` is ``_methods/st.yaml`` over the task's own ``_self_training.yaml`` over its own ``_task.yaml``.

``base`` names the settings that a file builds on: a file of the same task (``_task.yaml``), a file of another folder
that is read for this task (``toy/cbst.yaml``), or a whole recipe (``toy/cbst``). Mappings merge, everything else
replaces. ``stages`` maps names to settings, run in order; null leaves a stage out, and ``like: other`` starts from the
settings of another stage. What a file of one's own says of a stage counts as it stands, also where the recipe below
shortens that stage by ``length``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from segadapt.core.reading import read_text
from segadapt.errors import RequestError, nearest
from segadapt.recipes.merging import (
    MOST_LINKS,
    TWO_LENGTHS,
    laid_by_user,
    merge,
    override,
    parse_yaml,
    resolved_stages,
)

__all__ = [
    "KnownMethods",
    "description",
    "merge",
    "override",
    "read_recipe",
    "recipe_names",
    "resolved_stages",
    "stages_of",
]

ROOT = Path(__file__).parent
_LARGEST = 1 << 20
"""Bytes of the largest recipe."""

KnownMethods = Callable[[], Iterable[str]]
"""Names the methods that other packages registered; only called for a recipe that does not ship."""


# ---- names ----


def recipe_names() -> list[str]:
    """List all recipes that ship with the package, as ``TASK/NAME``."""
    return sorted(f"{task}/{name}" for task, entry in _tasks().items() for name in entry["recipes"])


def description(recipe: str | Path) -> str:
    """Return the line that ``segadapt recipes`` shows for a recipe."""
    return str(_find(recipe, tuple).get("description", ""))


def stages_of(
    recipe: str | Path, overrides: Sequence[str] = (), known_methods: KnownMethods = tuple
) -> list[tuple[str, str]]:
    """Return the name and the method of each stage that a recipe runs, in order.

    Args:
        recipe: name or file, see :func:`read_recipe`.
        overrides: changes of its stages or of settings that it names, see :func:`override`.
        known_methods: see :func:`read_recipe`.

    Raises:
        RequestError: as in :func:`read_recipe` and :func:`override`, or a stage names no method.

    Example:
        >>> stages_of("toy/st")
        [('source', 'source_only'), ('adapt', 'st')]
    """
    raw = _find(recipe, known_methods)
    stages = resolved_stages(override(raw, overrides, raw), f"recipe '{recipe}'")
    for name, settings in stages.items():
        if "method" not in settings:
            raise RequestError(f"recipe '{recipe}': stage '{name}' names no method; add e.g. 'method: cbst'")
    return [(name, str(settings["method"])) for name, settings in stages.items()]


# ---- reading ----


def read_recipe(recipe: str | Path, known_methods: KnownMethods = tuple) -> dict[str, Any]:
    """Return the settings of a recipe with its bases merged in, not yet checked.

    Args:
        recipe: a shipped name (``toy/cbst``), a path to a YAML file, with or without its ending, or ``TASK/METHOD``
            with a method of another package: the task's source stage, then a stage ``adapt`` of that method with the
            settings of the source stage.
        known_methods: returns the names of the methods that other packages registered.

    Raises:
        RequestError: there is no such recipe, a file is not valid, or a base is missing.
    """
    return deepcopy(_find(recipe, known_methods))  # the cached settings stay as they were read


def _find(recipe: str | Path, known_methods: KnownMethods) -> dict[str, Any]:
    """Return the settings of a recipe; they share values with the cache."""
    name = str(recipe)
    if Path(name).suffix in (".yaml", ".yml"):
        if not _is_file(Path(name)):
            raise RequestError(f"no recipe file '{name}'")
        return _read(Path(name), _task_of(Path(name)), known_methods)
    if (shipped := _shipped(name, known_methods)) is not None:
        return shipped
    own = Path(f"{name}.yaml")
    if _is_file(own) and not own.stem.startswith("_"):
        return _read(own, _task_of(own), known_methods)
    if (outside := _outside(name, known_methods)) is not None:
        return outside
    known = [*recipe_names(), *(f"{name.partition('/')[0]}/{method}" for method in known_methods())]
    raise RequestError(
        f"no recipe '{name}'{nearest(name, known)}; 'segadapt recipes' lists them, and TASK/METHOD with a method of "
        "another package needs that package among the plugins"
    )


def _shipped(
    name: str, known_methods: KnownMethods, above: tuple[tuple[Path, str | None], ...] = ()
) -> dict[str, Any] | None:
    """Return the settings of a shipped recipe; None where the name is not one."""
    task, _, method = name.partition("/")
    if method not in _tasks().get(task, {"recipes": ()})["recipes"]:
        return None
    path = _file(task, f"{method}.yaml")
    if path is None:
        raise RequestError(f"recipe '{name}' is listed in _tasks.yaml, but no folder of task '{task}' has its file")
    return _read(path, task, known_methods, above)


def _outside(name: str, known_methods: KnownMethods) -> dict[str, Any] | None:
    """Return the settings of ``TASK/METHOD`` for a method of another package; None where the name is not one."""
    task, _, method = name.partition("/")
    path = _file(task, "_task.yaml") if task in _tasks() else None
    if path is None or method not in known_methods():
        return None
    raw = _read(path, task, known_methods)
    if not raw.get("stages", {}).get("source"):
        raise RequestError(
            f"no recipe '{name}': task '{task}' has no source stage to give '{method}' its settings; "
            "write a recipe file and give its path"
        )
    adapt = {"like": "source", "method": method, "role": "adapted"}
    return merge(raw, {"description": f"source model, then {method}", "stages": {"adapt": adapt}})


def _read(
    path: Path, task: str | None, known_methods: KnownMethods, above: tuple[tuple[Path, str | None], ...] = ()
) -> dict[str, Any]:
    """Return the settings of a file, read for a shipped task or for none, laid over the settings of its base."""
    here = (path.resolve() if path.exists() else path, task)  # the same file may have many names: x/../x/recipe.yaml
    if here in above:
        raise RequestError(f"recipe '{path}' builds on itself; change its base")
    if len(above) > MOST_LINKS:
        raise RequestError(f"recipe '{above[0][0]}' builds on more than {MOST_LINKS} files, one after the other")
    raw = dict(_parsed(path) if path.is_relative_to(ROOT) else _parse(path))
    base = raw.pop("base", None)
    if base is None:
        return raw
    base, above = str(base), (*above, here)
    below: dict[str, Any] | None
    beside = path.parent / base if task is None else _file(task, base)
    if beside is not None and _is_file(beside):
        below = _read(beside, task or _task_of(beside), known_methods, above)
    else:
        below = _shipped(base, known_methods, above)
        below = _outside(base, known_methods) if below is None else below
        if below is None:
            raise RequestError(
                f"recipe '{path}' builds on '{base}', which is neither beside it nor a shipped recipe"
                f"{nearest(base, recipe_names())}"
            )
    return merge(below, raw) if path.is_relative_to(ROOT) else laid_by_user(below, raw)


def _file(task: str, name: str) -> Path | None:
    """Return the file that a task reads under a name: its own, or the one of the nearest folder that it is like."""
    places = [ROOT / name] if "/" in name else [ROOT / folder / name for folder in _folders(task)]
    return next((place for place in places if _is_file(place)), None)


def _is_file(path: Path) -> bool:
    """Return whether there is a file; not for a name that no file can have."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _folders(task: str) -> list[str]:
    """List the folders that a task reads files from, the nearest first."""
    folders, tasks = [task], _tasks()
    while (other := tasks[folders[-1]].get("like")) is not None:
        folders.append(other)
    return [*folders, "_methods"]


def _task_of(path: Path) -> str | None:
    """Return the shipped task that has a file in its folder; None where the file lies elsewhere."""
    folder = path.resolve().parent
    return folder.name if folder.parent == ROOT.resolve() and folder.name in _tasks() else None


def _tasks() -> dict[str, dict[str, Any]]:
    """Return the tasks with the task that each is like, and their recipes."""
    return _parsed(ROOT / "_tasks.yaml")


@cache
def _parsed(path: Path) -> dict[str, Any]:
    """Return the mapping that a shipped file holds; these files do not change while the program runs."""
    return _parse(path)


def _parse(path: Path) -> dict[str, Any]:
    """Return the mapping that a YAML file holds."""
    try:
        raw = parse_yaml(read_text(path, _LARGEST))
    except OSError as problem:
        raise RequestError(f"recipe '{path}' cannot be read: {problem.strerror or problem}") from None
    except UnicodeDecodeError:
        raise RequestError(f"recipe '{path}' is not a text file in UTF-8; save it as one") from None
    except yaml.YAMLError as problem:
        raise RequestError(f"recipe '{path}' is not valid YAML: {' '.join(str(problem).split())}") from problem
    if not isinstance(raw, dict):
        raise RequestError(f"recipe '{path}' is not a mapping of settings")
    stages = raw.get("stages")
    for name, stage in stages.items() if isinstance(stages, Mapping) else ():
        if isinstance(stage, Mapping) and None not in (stage.get("steps"), stage.get("epochs")):
            raise RequestError(f"recipe '{path}': {TWO_LENGTHS.format(name)}")
    return raw
