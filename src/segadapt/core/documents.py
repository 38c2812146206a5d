"""JSON files that a later step trusts: read through a shape, and sealed against bits that turn.

A file may be cut, changed by hand, or hold another number than was written. A sealed file holds a hash of the rest of
itself, so each of these is noticed when it is read, and one line says which file it is and what to do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segadapt.core.files import SEAL, unsealed, write_json
from segadapt.core.reading import read_file
from segadapt.core.text import one_printable_line
from segadapt.errors import RequestError, RunError

if TYPE_CHECKING:
    from pydantic import TypeAdapter


def write_document(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object with its seal, atomically; ValueError for NaN and infinities."""
    plain = json.loads(json.dumps(value, allow_nan=False))
    write_json(path, {**plain, SEAL: unsealed(plain)[1]})


def read_document(path: Path, shape: type[Any], mend: str) -> dict[str, Any] | None:
    """Return the JSON object of a file, without its seal; None where there is no such file.

    Args:
        path: the file.
        shape: a ``TypedDict``: the keys that the readers of the file need, with their types. Others may be there.
        mend: what a person can do about a damaged file; closes the message.

    Raises:
        RequestError: the file is damaged or of another shape.
        RunError: the system cannot read it.
    """
    try:
        text = read_file(path)
    except FileNotFoundError:
        return None
    except OSError as problem:
        raise RunError(
            f"'{path}' cannot be read: {problem.strerror or problem}; see that it can, and start again"
        ) from None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise RequestError(f"'{path}' is damaged: it is not whole JSON; {mend}") from None
    if not isinstance(value, dict):
        raise RequestError(f"'{path}' is damaged: it is not a JSON object; {mend}")
    plain, seal = unsealed(value)
    if value.get(SEAL, seal) != seal:
        raise RequestError(f"'{path}' is damaged or was changed by hand: its checksum does not match; {mend}")
    if wrong := _misfit(shape, plain):
        raise RequestError(f"'{path}' is damaged: {wrong}; {mend}")
    return plain


@cache
def _adapter(shape: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter  # slow to import; commands that read no such file do without it

    return TypeAdapter(shape)


def _misfit(shape: Any, value: Mapping[str, Any]) -> str:
    """Return the first thing in which a value differs from a shape; "" where it has that shape."""
    from pydantic import ValidationError

    try:
        _adapter(shape).validate_python(value)
    except RequestError as problem:  # of a rule of its own
        return one_printable_line(str(problem))
    except ValidationError as problem:
        first = problem.errors()[0]
        key = ".".join(map(str, first["loc"]))
        said = "is missing" if first["type"] == "missing" else first["msg"][:1].lower() + first["msg"][1:]
        return one_printable_line(f"'{key}' {said}")
    return ""
