"""Settings: typed, frozen, unknown keys refused with one line for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from segadapt.errors import RequestError, nearest

S = TypeVar("S", bound=BaseModel)


class Settings(BaseModel):
    """Base of all settings: typed, frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def checked(cls: type[S], values: Mapping[str, Any], where: str) -> S:
    """``cls(**values)``, with pydantic's complaint as one line for a person.

    Args:
        cls: settings class.
        values: of its fields, by name.
        where: the part of the request they stand in, for the message.

    Raises:
        RequestError: a value or key is wrong; names the key and, for an unknown one, the nearest known one.
    """
    try:
        return cls(**values)
    except ValidationError as problem:
        first = problem.errors()[0]
        location = [str(p) for p in first["loc"]]
        key = ".".join(location)
        if first["type"] == "extra_forbidden":
            owner = _class_at(cls, location[:-1])
            known = list(owner.model_fields) if owner is not None else []
            raise RequestError(f"{where}: unknown key '{key}'{nearest(location[-1], known)}") from None
        if first["type"] == "missing":
            raise RequestError(f"{where}: '{key}' is missing") from None
        if not key:  # a rule about several settings
            raise RequestError(f"{where}: {first['msg'].removeprefix('Value error, ')}") from None
        complaint = first["msg"].removeprefix("Value error, ")
        raise RequestError(f"{where}: '{key}' {complaint[:1].lower()}{complaint[1:]}, not {first['input']!r}") from None


def _class_at(cls: type[BaseModel], location: Sequence[str]) -> type[BaseModel] | None:
    """The settings class at a path of keys."""
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
