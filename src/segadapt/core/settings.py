"""Settings: typed, frozen, unknown keys refused with one line for a person."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Literal, TypeGuard, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from segadapt.errors import RequestError, nearest

S = TypeVar("S", bound=BaseModel)


class Settings(BaseModel):
    """Base of all settings: typed, frozen, unknown keys refused.

    Settings inside settings are laid over their default: what a mapping does not name stays as the default has it.
    A setting that cannot be null has its default where null is given, so that a recipe's value can be taken back.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _over_defaults(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        filled = dict(values)
        for name, value in values.items():
            default = cls.model_fields[name].default if name in cls.model_fields else None
            if value is None and name in cls.model_fields and _has_default_for_null(cls.model_fields[name]):
                del filled[name]
            elif isinstance(value, Mapping) and isinstance(default, BaseModel):
                filled[name] = {**default.model_dump(), **value}
        return filled


def _has_default_for_null(field: FieldInfo) -> bool:
    """Return whether a field takes no null, yet has a default."""
    options = (field.annotation, *get_args(field.annotation))
    return not field.is_required() and type(None) not in options and Any not in options[:1]


def checked(cls: type[S], values: Mapping[str, Any], where: str) -> S:
    """Return ``cls(**values)``, with pydantic's complaint as one line for a person.

    Args:
        cls: settings class.
        values: values of its fields, by name.
        where: name of the part of the request that holds them, for the message.

    Raises:
        RequestError: a value or key is wrong; names the key and, for an unknown one, the nearest known one.
    """
    odd = next((key for key in values if not isinstance(key, str)), None)
    if odd is not None:
        raise RequestError(f"{where}: the key {odd!r} is no name of a setting")
    try:
        return cls(**values)
    except ValidationError as problem:
        first = problem.errors()[0]
        complaint = first["msg"].removeprefix("Value error, ")
        location = [str(p) for p in first["loc"]]
        key = ".".join(location)
        if first["type"] == "extra_forbidden":
            raise RequestError(f"{where}: {_unknown(cls, location)}") from None
        if first["type"] == "missing":
            raise RequestError(f"{where}: '{key}' is missing") from None
        if not key:  # a rule about several settings
            raise RequestError(f"{where}: {complaint}") from None
        raise RequestError(f"{where}: '{key}' {complaint[:1].lower()}{complaint[1:]}, not {first['input']!r}") from None


def unknown_key(cls: type[BaseModel], values: Mapping[str, Any], prefix: str = "") -> str:
    """Return a complaint about the first key that a settings class, or one inside it, lacks; "" where it has all.

    Args:
        cls: settings class.
        values: some of its settings, not yet checked.
        prefix: opens the key in the complaint.

    Example:
        >>> class Example(Settings):
        ...     rate: float = 0.1
        >>> unknown_key(Example, {"rat": 1}, "short.")
        "unknown key 'short.rat' (did you mean 'rate'?)"
    """
    location = _first_unknown(cls, values)
    return _unknown(cls, location, prefix) if location else ""


def _first_unknown(cls: type[BaseModel], values: Mapping[str, Any]) -> list[str]:
    """Return the keys that lead to the first unknown setting; none if all are known."""
    for name, value in values.items():
        if name not in cls.model_fields:
            return [str(name)]
        inner = class_at(cls, [name])
        if inner is not None and isinstance(value, Mapping) and (below := _first_unknown(inner, value)):
            return [name, *below]
    return []


def _unknown(cls: type[BaseModel], location: Sequence[str], prefix: str = "") -> str:
    """Return the complaint about an unknown setting, with the nearest known one, or else all of them."""
    owner = class_at(cls, location[:-1])
    known = list(owner.model_fields) if owner is not None else []
    hint = nearest(location[-1], known) or (f"; there are: {', '.join(known)}" if known else "")
    return f"unknown key '{prefix}{'.'.join(location)}'{hint}"


def class_at(cls: type[BaseModel], location: Sequence[str]) -> type[BaseModel] | None:
    """Return the settings class at a path of keys; None where the path leaves the settings."""
    for key in location:
        field = cls.model_fields.get(key)
        if field is None:
            return None
        options = [field.annotation, *get_args(field.annotation)]
        inner = next(filter(_is_settings, options), None)
        if inner is None:
            return None
        cls = inner
    return cls


# ---- lists of settings ----


@dataclass(frozen=True)
class Setting:
    """A setting as lists show it.

    Attributes:
        name: as an override names it, e.g. ``optimiser.lr``.
        type: as a recipe writes its values, e.g. ``number > 0``; ``settings`` for a group, whose settings follow.
        default: as YAML; ``required`` where there is none, ``as below`` for a group.
        meaning: its entry in the docstring of the settings class, in one line.
    """

    name: str
    type: str
    default: str
    meaning: str


@dataclass(frozen=True)
class Shown:
    """Words for a type that is checked by a rule of its own; metadata of an ``Annotated`` type.

    >>> Even = Annotated[int, Shown("even integer")]
    """

    words: str


class Scaling(Enum):
    """How a setting follows the length of a stage (:mod:`segadapt.runs.length`); metadata of an ``Annotated`` type.

    >>> Momentum = Annotated[float, Scaling.MOMENTUM]
    """

    STEPS = "a number of training steps"
    PASSES = "a number of passes over the data"
    MOMENTUM = "the share of a moving average that each step keeps"
    RATE = "a learning rate"


def describe(
    cls: type[BaseModel],
    values: Mapping[str, Any] | None = None,
    leave_out: Sequence[str] = (),
    prefix: str = "",
    closed: Sequence[str] = (),
) -> list[Setting]:
    """List the settings of a class, and after each group the settings inside it.

    Args:
        cls: settings class; each field stands in the ``Attributes:`` section of its docstring or of a base's.
        values: defaults that replace the defaults of the class.
        leave_out: names to leave out.
        prefix: opens the names.
        closed: groups whose settings are listed elsewhere.
    """
    meanings = documented(cls)
    found: list[Setting] = []
    for name, field in cls.model_fields.items():
        if name in leave_out:
            continue
        default = field.get_default(call_default_factory=True)
        if values is not None and name in values:
            default = values[name]
        missing = default is PydanticUndefined
        inner = _settings_inside(field.annotation)
        if inner is None:
            kind = _type_name(field.annotation, field.metadata)
            shown = "required" if missing else _as_yaml(default)
            found.append(Setting(prefix + name, kind, shown, meanings.get(name, "")))
            continue
        own = default.model_dump() if isinstance(default, BaseModel) else None if missing else default
        kind = "settings | null" if type(None) in get_args(field.annotation) else "settings"
        shown = "required" if missing else "null" if own is None else "as below"
        if name in closed:
            shown = "required" if missing else "as listed there"
        found.append(Setting(prefix + name, kind, shown, meanings.get(name, "")))
        if name not in closed:
            found += describe(inner, own, prefix=f"{prefix}{name}.")
    return found


def documented(cls: type[BaseModel]) -> dict[str, str]:
    """Return the meaning of each field from the docstrings of a class and its bases; the nearest class counts.

    >>> class Example(Settings):
    ...     '''Settings of an example.
    ...
    ...     Attributes:
    ...         rate: learning rate.
    ...     '''
    ...     rate: float = 0.1
    >>> documented(Example)
    {'rate': 'learning rate.'}
    """
    found: dict[str, str] = {}
    for owner in reversed(cls.__mro__):
        ours = issubclass(owner, BaseModel) and owner is not BaseModel
        text = inspect.cleandoc(owner.__doc__ or "") if ours else ""
        section = re.search(r"^Attributes:\n((?:[ ]+.*\n?|\n)+)", text, re.MULTILINE)
        if section is None:
            continue
        for entry in re.split(r"\n(?=[ ]{4}\S)", "\n" + section.group(1).rstrip("\n")):
            names, colon, meaning = entry.strip().partition(":")
            if colon:
                found |= {name.strip(): _plain(meaning) for name in names.split(",")}
    return found


def _plain(text: str) -> str:
    """Return the text of a docstring in one line, with single backticks around code."""
    return " ".join(re.sub(r"(?::\w+:)?(`+)~?(.+?)\1", r"`\2`", text).split())


def _is_settings(annotation: Any) -> TypeGuard[type[BaseModel]]:
    """Say whether an annotation is a settings class; to Python 3.10, ``list[int]`` is an instance of ``type`` too."""
    return get_origin(annotation) is None and isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _settings_inside(annotation: Any) -> type[BaseModel] | None:
    """Return the settings class of a field that holds settings or None."""
    options = list(filter(_is_settings, (annotation, *get_args(annotation))))
    return options[0] if options and get_origin(annotation) in (None, Union, types.UnionType) else None


def _limits(metadata: Sequence[Any]) -> str:
    """Return the bounds of a number as text, e.g. ``in [0, 1)`` or ``> 0``."""
    flat = [m for x in metadata for m in getattr(x, "metadata", [x])]
    found = {key: f"{getattr(m, key):g}" for m in flat for key in ("gt", "ge", "lt", "le") if hasattr(m, key)}
    if len(found) == 2:
        low = f"({found['gt']}" if "gt" in found else f"[{found['ge']}"
        return f"in {low}, {found['lt']})" if "lt" in found else f"in {low}, {found['le']}]"
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    return "".join(f"{signs[key]} {value}" for key, value in found.items())


def _type_name(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """Return a type in the words of a recipe."""
    words = next((m.words for m in metadata if isinstance(m, Shown)), None)
    if words is not None:
        return words
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type_name(inside[0], [*inside[1:], *metadata])
    if origin is Literal:
        return " | ".join(_as_yaml(value) for value in inside)
    if origin in (Union, types.UnionType):
        return " | ".join(_type_name(x, metadata if x in (int, float) else ()) for x in inside)
    if origin is tuple:
        return f"list of {_type_name(inside[0])}" if Ellipsis in inside else f"[{', '.join(map(_type_name, inside))}]"
    if origin is dict:
        return "mapping" if inside[1] is Any else f"mapping to {_type_name(inside[1])}"
    if hasattr(annotation, "_fields"):  # a named tuple of numbers
        return f"[{', '.join(annotation._fields)}], each a number"
    if _is_settings(annotation):
        return "settings"
    names: dict[Any, str] = {bool: "true | false", int: "integer", float: "number", str: "text", type(None): "null"}
    return f"{names.get(annotation, 'any value')} {_limits(metadata)}".rstrip()


def _as_yaml(value: Any) -> str:
    """Return a value as a recipe writes it."""
    if isinstance(value, BaseModel):
        value = value.model_dump()
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}: {_as_yaml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_as_yaml, value)) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value) or '""'
