"""Settings: typed, frozen, unknown keys refused with one line for a person."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import PydanticUndefined

from segadapt.errors import RequestError, nearest

S = TypeVar("S", bound=BaseModel)


class Settings(BaseModel):
    """Base of all settings: typed, frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def checked(cls: type[S], values: Mapping[str, Any], where: str) -> S:
    """Return ``cls(**values)``, with pydantic's complaint as one line for a person.

    Args:
        cls: settings class.
        values: values of its fields, by name.
        where: name of the part of the request that holds them, for the message.

    Raises:
        RequestError: a value or key is wrong; names the key and, for an unknown one, the nearest known one.
    """
    try:
        return cls(**values)
    except ValidationError as problem:
        first = problem.errors()[0]
        complaint = first["msg"].removeprefix("Value error, ")
        location = [str(p) for p in first["loc"]]
        key = ".".join(location)
        if first["type"] == "extra_forbidden":
            owner = _class_at(cls, location[:-1])
            known = list(owner.model_fields) if owner is not None else []
            raise RequestError(f"{where}: unknown key '{key}'{nearest(location[-1], known)}") from None
        if first["type"] == "missing":
            raise RequestError(f"{where}: '{key}' is missing") from None
        if not key:  # a rule about several settings
            raise RequestError(f"{where}: {complaint}") from None
        raise RequestError(f"{where}: '{key}' {complaint[:1].lower()}{complaint[1:]}, not {first['input']!r}") from None


def _class_at(cls: type[BaseModel], location: Sequence[str]) -> type[BaseModel] | None:
    """Return the settings class at a path of keys; None where the path leaves the settings."""
    for key in location:
        field = cls.model_fields.get(key)
        if field is None:
            return None
        options = [field.annotation, *get_args(field.annotation)]
        inner = next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), None)
        if inner is None:
            return None
        cls = inner
    return cls


# ---- lists of settings ----


@dataclass(frozen=True)
class Setting:
    """A setting as lists show it.

    Attributes:
        name: name in overrides, e.g. ``optimiser.lr``.
        type: type in words, e.g. ``number > 0``.
        default: default value as YAML; ``required`` where there is none.
        meaning: entry in the docstring of the settings class, in one line.
    """

    name: str
    type: str
    default: str
    meaning: str


def describe(
    cls: type[BaseModel], values: Mapping[str, Any] | None = None, leave_out: Sequence[str] = (), prefix: str = ""
) -> list[Setting]:
    """List the settings of a class, and the settings inside them.

    Args:
        cls: settings class; each field stands in the ``Attributes:`` section of its docstring or of a base's.
        values: defaults that replace the defaults of the class.
        leave_out: names to leave out.
        prefix: opens the names.
    """
    meanings = documented(cls)
    listed: list[Setting] = []
    for name, field in cls.model_fields.items():
        if name in leave_out:
            continue
        default = field.get_default(call_default_factory=True)
        if values is not None and name in values:
            default = values[name]
        inner = _settings_inside(field.annotation)
        meaning = meanings.get(name, "")
        if inner is not None:
            own = default.model_dump() if isinstance(default, BaseModel) else default
            if own is None or default is PydanticUndefined:
                missing = "required" if default is PydanticUndefined else "null"
                listed.append(Setting(prefix + name, "settings", missing, meaning))
                own = None
            listed += describe(inner, own, prefix=f"{prefix}{name}.")
            continue
        kind = _type_name(field.annotation, _limits(field.metadata))
        shown = "required" if default is PydanticUndefined else _as_yaml(default)
        listed.append(Setting(prefix + name, kind, shown, meaning))
    return listed


def documented(cls: type[BaseModel]) -> dict[str, str]:
    """Return the meaning of each field by the docstrings of a class and its bases; the nearest class counts.

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
    meanings: dict[str, str] = {}
    for owner in reversed(cls.__mro__):
        text = inspect.cleandoc(owner.__doc__ or "") if issubclass(owner, BaseModel) else ""
        section = re.search(r"^Attributes:\n((?:[ ]+.*\n?|\n)+)", text, re.MULTILINE)
        if section is None:
            continue
        for entry in re.split(r"\n(?=[ ]{4}\S)", "\n" + section.group(1).rstrip("\n")):
            names, colon, meaning = entry.strip().partition(":")
            if colon:
                meanings |= {name.strip(): " ".join(meaning.split()) for name in names.split(",")}
    return meanings


def _settings_inside(annotation: Any) -> type[BaseModel] | None:
    """Return the settings class of a field that holds settings or None."""
    options = [o for o in (annotation, *get_args(annotation)) if isinstance(o, type) and issubclass(o, BaseModel)]
    return options[0] if options and get_origin(annotation) in (None, Union, types.UnionType) else None


def _limits(metadata: Sequence[Any]) -> str:
    """Return the bounds of a number as text, e.g. ``>= 0, < 1``."""
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    return ", ".join(f"{sign} {getattr(m, key):g}" for m in metadata for key, sign in signs.items() if hasattr(m, key))


def _type_name(annotation: Any, limits: str = "") -> str:
    """Return a type in the words of a recipe."""
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type_name(inside[0], limits or _limits([m for x in inside[1:] for m in getattr(x, "metadata", [x])]))
    if origin is Literal:
        return " | ".join(_as_yaml(value) for value in inside)
    if origin in (Union, types.UnionType):
        return " | ".join(_type_name(x, limits if x in (int, float) else "") for x in inside)
    if origin is tuple:
        each = [x for x in inside if x is not Ellipsis]
        return f"[{', '.join(map(_type_name, each))}{', ...' if Ellipsis in inside else ''}]"
    if origin is dict:
        return f"mapping of {_type_name(inside[1])}"
    names: dict[Any, str] = {
        bool: "true | false",
        int: "integer",
        float: "number",
        str: "text",
        type(None): "null",
        Any: "any",
    }
    name = names.get(annotation, getattr(annotation, "__name__", str(annotation)))
    return f"{name} {limits}".rstrip()


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
