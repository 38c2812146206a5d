"""Names of settings for the shell's completion, which has half a second and so no time to import torch.

They are read from the text of the modules that define the settings: annotated fields of the classes, those of base
classes and of settings inside settings. A test compares them with the settings themselves.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from segadapt.methods.catalogue import OWN
from segadapt.recipes import stages_of

_ROOT = Path(__file__).parents[1]
_RUN = "segadapt.runs.config:RunConfig"
_SETTINGS = "segadapt.core.settings:Settings"
_STAGE = "segadapt.methods.stage_config:StageConfig"


class _Class(NamedTuple):
    """A class in the text of a module.

    Attributes:
        fields: names of its settings with the places of the classes that their types name.
        bases: places of its base classes.
        config: place of the class that its ``Config`` names; "" without.
    """

    fields: dict[str, tuple[str, ...]]
    bases: tuple[str, ...]
    config: str


def override_names(recipe: str, overrides: Sequence[str] = ()) -> list[str]:
    """Return the names that an override of a recipe may have: ``adapt.rounds``, ``data.target.size``, ``seed``.

    Args:
        recipe: name or file of a recipe.
        overrides: what was typed already; those of stages count.

    Raises:
        RequestError: there is no such recipe, or it is wrong.
    """
    names = [name for name in names_of(_RUN) if name.partition(".")[0] not in ("title", "description", "stages")]
    for stage, method in stages_of(recipe, [one for one in overrides if "=" in one]):
        names += [f"{stage}.{name}" for name in names_of(method_settings(method))]
    return names


def method_settings(method: str) -> str:
    """Return the place of the settings class of a method; that of all stages for one of another package."""
    place = OWN[method].implementation if method in OWN else ""
    while isinstance(place, str) and place.startswith("segadapt.") and (found := _classes(place)) is not None:
        if found.config:
            return found.config
        place = found.bases[0] if found.bases else ""
    return _STAGE


def names_of(place: str) -> list[str]:
    """Return the names of all settings of a class, those of settings inside it as ``optimiser.lr``.

    Args:
        place: of the class, as ``module:name``.

    >>> [name for name in names_of("segadapt.methods.stage_config:ScheduleConfig")][:2]
    ['name', 'power']
    """
    return list(dict.fromkeys(_names(place, ())))


def _names(place: str, above: tuple[str, ...]) -> Iterator[str]:
    """Yield names of settings; ``above`` are the classes around, as a class may hold one of its own kind."""
    found = _classes(place)
    if found is None or place in above:
        return
    for base in reversed(found.bases):
        yield from _names(base, above)
    for name, kinds in found.fields.items():
        inside = [kind for kind in kinds if _is_settings(kind)]
        inner = [f"{name}.{one}" for kind in inside for one in _names(kind, (*above, place))]
        yield from inner or [name]


def _classes(place: str) -> _Class | None:
    """Return a class of the library by its place, or by that of a module that imports it; None for anything else."""
    module, _, name = place.partition(":")
    classes, known = _module(module)
    if name in classes or known.get(name, place) == place:
        return classes.get(name)
    return _classes(known[name])


def _is_settings(place: str) -> bool:
    """Tell whether a class is one of settings."""
    found = _classes(place)
    return place == _SETTINGS or (found is not None and any(map(_is_settings, found.bases)))


@cache
def _module(module: str) -> tuple[dict[str, _Class], dict[str, str]]:
    """Return the classes of a module of the library, and the places of the names that it knows, from its text."""
    path = _ROOT.joinpath(*module.split(".")[1:]).with_suffix(".py")
    if not path.is_file():
        return {}, {}
    tree = ast.parse(path.read_text(encoding="utf-8"))
    known = {
        alias.asname or alias.name: f"{node.module}:{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("segadapt.")
        for alias in node.names
    }
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    known |= {node.name: f"{module}:{node.name}" for node in classes}
    return {node.name: _read(node, known) for node in classes}, known


def _read(node: ast.ClassDef, known: dict[str, str]) -> _Class:
    bases = tuple(known[base.id] for base in node.bases if isinstance(base, ast.Name) and base.id in known)
    fields, config = {}, ""
    for line in node.body:
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
            if "ClassVar" not in ast.unparse(line.annotation):
                fields[line.target.id] = tuple(_kinds(line.annotation, known))
        elif isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "Config":
            config = known.get(ast.unparse(line.value), "")
    return _Class(fields, bases, config)


def _kinds(annotation: ast.expr, known: dict[str, str]) -> Iterator[str]:
    """Yield the places of the classes in a type such as ``Optimiser | None``; not those in a list or mapping."""
    if isinstance(annotation, ast.BinOp):
        yield from _kinds(annotation.left, known)
        yield from _kinds(annotation.right, known)
    elif isinstance(annotation, ast.Name) and annotation.id in known:
        yield known[annotation.id]
