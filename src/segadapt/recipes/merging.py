"""Settings laid over settings: plain mappings, as recipes hold them before they are checked."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import yaml

from segadapt.errors import RequestError, nearest

TWO_LENGTHS = "stage '{}' gets both steps and epochs, which say the same; give one of the two"
OF_THE_STAGE = ("method", "like", "length", "short")
"""Settings of a stage that ``short`` of it does not hold."""
FREE = ("arguments", "options", "merge", "merge_predictions", "extra")
"""Mappings whose keys are no settings of the library's own: null takes an entry out of them."""
_DEEPEST = 64
"""Levels of mappings and lists inside each other."""
_MOST_VALUES = 100_000
MOST_LINKS = 32
"""Files that build on each other, or stages that are like each other, one after the other."""
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def parse_yaml(text: str) -> Any:
    """Return the value of a YAML text, with the parser in C where PyYAML has it.

    Raises:
        yaml.YAMLError: it cannot be parsed, is nested too deeply, or holds a value that is none of its type, such as
            the day 2020-99-99 or a number of 5000 digits.
    """
    try:
        value = yaml.load(text, _LOADER)
    except yaml.YAMLError:
        raise
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply") from None
    except Exception as problem:  # a value that its tag or its form promises and that Python cannot make
        raise yaml.YAMLError(" ".join(str(problem).split())[:200]) from None
    _require_small(value)
    return value


def _require_small(value: Any) -> None:
    """Refuse what nobody wrote by hand: a value inside itself, and aliases of aliases that unfold to millions."""
    seen, level = 0, [value]
    for _ in range(_DEEPEST):
        below: list[Any] = []
        for one in level:
            inside = one.values() if isinstance(one, Mapping) else one if isinstance(one, list | tuple | set) else ()
            below.extend(inside)
            seen += len(inside)
            if seen > _MOST_VALUES:
                raise yaml.YAMLError(f"it unfolds to more than {_MOST_VALUES:,} values")
        if not below:
            return
        level = below
    raise yaml.YAMLError("it is nested too deeply")


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay ``above`` over ``below``: mappings merge key by key, and ``epochs`` above replace ``steps`` below.

    An empty mapping has nothing to merge, so it replaces.

    Example:
        >>> merge({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}})
        {'a': {'b': 1, 'c': 3}}
        >>> merge({"a": {"b": 1}}, {"a": {}})
        {'a': {}}
    """
    result = dict(below)
    if above.get("epochs") is not None and result.get("steps") is not None:
        result["steps"] = None  # where both stand, steps would count
    for key, value in above.items():
        if isinstance(value, Mapping) and value and isinstance(result.get(key), Mapping):
            result[key] = merge(result[key], value)
        else:
            result[key] = value
    return result


def laid_by_user(below: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Lay a file of one's own over a recipe.

    Its settings of a stage that has a ``length`` stand under the stage's ``short`` too: they are meant as they are, and
    neither follow the length nor give way to what the recipe says there.

    Example:
        >>> laid_by_user({"stages": {"a": {"steps": 400, "length": 0.5}}}, {"stages": {"a": {"steps": 7}}})
        {'stages': {'a': {'steps': 7, 'length': 0.5, 'short': {'steps': 7}}}}
    """
    result = merge(below, own)
    before, said = below.get("stages"), own.get("stages")
    if isinstance(before, Mapping) and isinstance(said, Mapping):
        for name, settings in said.items():
            if isinstance(settings, Mapping) and _has_length(name if name in before else settings.get("like"), before):
                short = {key: value for key, value in settings.items() if key not in OF_THE_STAGE}
                laid = merge(result["stages"][name], {"short": short} if short else {})
                result["stages"][name] = merge(laid, settings)
    return result


def _has_length(name: Any, stages: Mapping[str, Any]) -> bool:
    """Return whether a stage, or one that it is like, has a length of its own."""
    seen: set[Any] = set()
    while _is_one_of(name, stages) and name not in seen and isinstance(stages[name], Mapping):
        if stages[name].get("length") is not None:
            return True
        seen.add(name)
        name = stages[name].get("like")
    return False


def _is_one_of(name: Any, stages: Mapping[str, Any]) -> bool:
    """Return whether a value is the name of a stage; a list or a mapping is none."""
    return isinstance(name, str | int | float) and name in stages


def override(raw: Mapping[str, Any], overrides: Sequence[str], settings: Collection[str]) -> dict[str, Any]:
    """Lay overrides over settings.

    Args:
        raw: settings as :func:`read_recipe` returns them.
        overrides: changes ``key.key=value``, with a YAML value. A key that starts with the name of a stage means that
            stage: ``adapt.rounds=2``; ``adapt=null`` leaves it out. ``model.arguments={}`` empties a mapping, and
            ``model.arguments.norm=null`` takes an entry out of one that is :data:`FREE`.
        settings: first keys that are not stages.

    Raises:
        RequestError: an override has another form, or means neither a setting nor a stage.
    """
    result = dict(raw)
    stages = raw["stages"] if isinstance(raw.get("stages"), Mapping) else {}
    lengths: dict[tuple[str, ...], str] = {}
    for given in overrides:
        key, sign, text = given.partition("=")
        if not sign or not key:
            raise RequestError(f"override '{given}' is not of the form key=value, e.g. adapt.rounds=2")
        path = key.strip().split(".")
        if path[0] not in settings:
            if path[0] not in stages:
                raise RequestError(
                    f"override '{given}': no setting or stage '{path[0]}'{nearest(path[0], [*settings, *stages])}; "
                    f"stages: {', '.join(stages) or 'none'}; 'segadapt settings run' lists the settings"
                )
            path = ["stages", *path]
        try:
            # A pair pattern, {}_a.tif={}_b.gif, is text, though YAML takes a brace for a mapping.
            value: Any = text if path[-1] == "pair" and text.startswith("{") else parse_yaml(text)
        except yaml.YAMLError as problem:
            raise RequestError(f"override '{given}': the value is not valid YAML") from problem
        length = path[-1] in ("steps", "epochs") and value is not None
        if length and lengths.setdefault(tuple(path[:-1]), path[-1]) != path[-1]:
            raise RequestError(f"override '{given}': {TWO_LENGTHS.format(path[-2])}")
        entry = value is None and any(part in FREE for part in path[:-1])
        for part in reversed(path):
            value = {part: value}
        result = _without(merge(result, value), path) if entry else merge(result, value)
    for name in (name for name, stage in stages.items() if stage is None):
        changed = result["stages"][name]
        if isinstance(changed, Mapping) and changed and not {"method", "like"} & set(changed):
            there = ", ".join(other for other, stage in stages.items() if stage is not None)
            raise RequestError(
                f"override '{name}.{next(iter(changed))}': the recipe has no stage '{name}'; its stages: {there}"
            )
    return result


def _without(settings: Mapping[str, Any], path: Sequence[str]) -> dict[str, Any]:
    """Return settings, which hold a path of keys, without its last key."""
    first, *rest = path
    if not rest:
        return {key: value for key, value in settings.items() if key != first}
    return {**settings, first: _without(settings[first], rest)}


def resolved_stages(raw: Mapping[str, Any], where: str) -> dict[str, dict[str, Any]]:
    """Return the settings of each stage that runs, in order, with ``like`` resolved and null stages left out.

    Args:
        raw: settings as :func:`read_recipe` returns them, or as a resolved configuration holds them.
        where: names the recipe in errors.

    Raises:
        RequestError: no stage is left, a stage is not a mapping, or ``like`` names no other stage.
    """
    stages = raw.get("stages") or {}
    if isinstance(stages, list) and all(isinstance(stage, Mapping) for stage in stages):  # of a resolved configuration
        stages = {str(stage.get("name")): stage for stage in stages}
    if not isinstance(stages, Mapping) or not stages:
        raise RequestError(f"{where}: no stages; a recipe needs at least one")
    stages = {name: settings for name, settings in stages.items() if settings is not None}
    if not stages:
        raise RequestError(f"{where}: every stage is left out; keep at least one")
    for name, settings in stages.items():
        if not isinstance(settings, Mapping):
            raise RequestError(f"{where}: stage '{name}' is not a mapping of settings")
    return {name: _like(name, stages, where) for name in stages}


def _like(
    name: str, stages: Mapping[str, Mapping[str, Any]], where: str, above: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return the settings of a stage laid over the settings of the stage that it is like."""
    own = dict(stages[name])
    other = own.pop("like", None)
    if other is None:
        return own
    if not _is_one_of(other, stages) or other == name:
        raise RequestError(
            f"{where}: stage '{name}' is like '{other}', which is not another stage{nearest(str(other), stages)}"
        )
    if other in above or len(above) > MOST_LINKS:
        named = ", ".join(map(str, (*above, name)[:MOST_LINKS]))
        raise RequestError(f"{where}: stages {named} are like each other; give one its settings")
    return merge(_like(other, stages, where, (*above, name)), own)
