"""Public names of a package that import their module when they are first used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any


def on_demand(
    package: str, modules: Mapping[str, str], own: Iterable[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` of a package (PEP 562), so that importing it imports nothing else.

    Args:
        package: its ``__name__``.
        modules: the module of the package that each public name lies in.
        own: public names that the package itself defines.

    >>> getattr_, dir_ = on_demand("collections", {"Mapping": "abc"})
    >>> dir_(), getattr_("Mapping").__name__
    (['Mapping'], 'Mapping')
    """

    def __getattr__(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        return getattr(import_module(f"{package}.{modules[name]}"), name)

    def __dir__() -> list[str]:
        return sorted({*modules, *own})

    return __getattr__, __dir__
