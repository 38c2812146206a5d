"""Words for the shell's completion: recipes, settings, methods, folders of runs. Where there are none, the shell offers
files. All of it is read without torch, so that an answer takes a fraction of a second.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import typer

from segadapt.errors import RequestError

_DEEPEST = 4
"""Folders between the one that is typed and that of a run, as in runs/TASK/METHOD/seed0."""
_MOST_FOLDERS = 2000
"""Folders that are looked into for runs."""
_FOLDERS = ("source_images", "target_images")
"""Options that stand for a recipe."""


def recipes(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return recipes; where folders are given, settings."""
    from segadapt.recipes import recipe_names

    if any(ctx.params.get(option) for option in _FOLDERS):
        return settings(ctx, incomplete)
    return _opening(recipe_names(), incomplete)


def settings(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the settings of the recipe, or of the method for folders, that was typed: ``adapt.rounds=``."""
    from segadapt.recipes import recipe_names
    from segadapt.runs.setting_names import override_names

    if "=" in incomplete:
        return []
    typed = [str(word) for word in (ctx.params.get("recipe"), *(ctx.params.get("overrides") or ())) if word]
    known = recipe_names()  # bash breaks words at "=", so that others may stand where the recipe should
    recipe = next((word for word in typed if word in known or word.endswith((".yaml", ".yml"))), None)
    if recipe is None and not any(ctx.params.get(option) for option in _FOLDERS):
        return []
    recipe = recipe or f"folders/{ctx.params.get('method') or 'best'}"
    told = [word for word in typed if word.partition("=")[0] and word.partition("=")[1]]
    for overrides in (told, []):
        try:
            return _opening([f"{name}=" for name in override_names(recipe, overrides)], incomplete)
        except (RequestError, OSError):  # what was typed is wrong, which the command will say
            continue
    return []


def methods(incomplete: str) -> list[tuple[str, str]]:
    """Return the methods and what each does."""
    from segadapt.methods.registry import METHODS

    return [(name, info.summary) for name, info in METHODS.items() if name.startswith(incomplete)]


def groups(incomplete: str) -> list[tuple[str, str]]:
    """Return what ``segadapt settings`` lists: methods, and the settings of no method."""
    others = {"run": "a whole run", "data": "its data", "model": "its network", "inference": "prediction"}
    return [*methods(incomplete), *((n, what) for n, what in others.items() if n.startswith(incomplete))]


def folder_methods(incomplete: str) -> list[str]:
    """Return the methods that two folders can be adapted with."""
    from segadapt.recipes import recipe_names

    return _opening([n.partition("/")[2] for n in recipe_names() if n.startswith("folders/")], incomplete)


def tasks(incomplete: str) -> list[str]:
    """Return the tasks that have recipes."""
    from segadapt.recipes import recipe_names

    return _opening(list(dict.fromkeys(name.partition("/")[0] for name in recipe_names())), incomplete)


def runs(incomplete: str) -> list[str]:
    """Return folders of runs below the folder that is typed."""
    above = incomplete.rpartition("/")[0]
    start = Path(f"{above}/" if above or incomplete.startswith("/") else ".").expanduser()
    found = sorted(str(path.relative_to(start)) for path in _runs(start))
    return _opening([f"{above}/{path}" if above or incomplete.startswith("/") else path for path in found], incomplete)


def _runs(start: Path) -> Iterator[Path]:
    """Yield the folders of runs below a folder, the near ones first."""
    waiting, seen = [(start, 0)], 0
    while waiting and seen < _MOST_FOLDERS:
        folder, depth = waiting.pop(0)
        seen += 1
        if depth and (folder / "config.json").is_file() and (folder / "stages").is_dir():
            yield folder
        elif depth < _DEEPEST:
            waiting += [(inner, depth + 1) for inner in _folders(folder)]


def _folders(folder: Path) -> list[Path]:
    """Return the folders in a folder, without hidden ones; none where it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return sorted(folder / e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    except OSError:
        return []


def _opening(words: list[str], incomplete: str) -> list[str]:
    return [word for word in words if word.startswith(incomplete)]
