"""Named folders and files: where the data sets and weights of a recipe lie on this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from segadapt.errors import RequestError


def resolve_root(name: str, roots: Mapping[str, str], noun: str = "data set", kind: str = "FOLDER") -> Path:
    """Return the folder or file that a named root stands for.

    The first part of ``name`` is looked up in ``--root part=path`` and in the environment
    (``SEGADAPT_<PART>``); the rest of it is a path inside. Otherwise ``name`` is a path itself.

    Args:
        name: as a recipe gives it.
        roots: folders and files by name.
        noun: word for it in the message.
        kind: ``FOLDER`` or ``FILE``, for the message.

    Raises:
        RequestError: nothing is known by this name.
    """
    part, _, rest = name.partition("/")
    variable = f"SEGADAPT_{part.upper()}"
    known = roots.get(part) or os.environ.get(variable)
    if known:
        return Path(known).expanduser() / rest
    path = Path(name).expanduser()
    if path.is_absolute() or name.startswith(".") or path.exists():
        return path
    raise RequestError(
        f"where is the {noun} '{part}'? give --root {part}={kind}, in Python roots={{'{part}': '{kind}'}}, or set "
        f"{variable}={kind}"
    )
