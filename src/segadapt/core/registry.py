"""Open lists: entries of the library, entries that a decorator adds, entries of installed packages.

A package of one's own adds a method, reader or augmentation in one of two ways. It calls a decorator such as
:func:`segadapt.methods.register_method` when it is imported, and a recipe names it: ``plugins: [my_package]``. Or it
declares an entry point, which needs no recipe key::

    [project.entry-points."segadapt.methods"]
    mymethod = "my_package.mymethod:MyMethod"

Networks come from entry points alone, so that opening a model file imports nothing but installed packages.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from segadapt.errors import RequestError, nearest, one_line

T = TypeVar("T")

_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


class Registry(Mapping[str, T], Generic[T]):
    """Entries by name. Iteration and ``in`` cover the library's entries and those registered in this process.

    Args:
        kind: word for one entry in messages, e.g. ``method``.
        own: entries of the library.
        group: name of the entry-point group that packages may add to.
        load: makes an entry of the object that an entry point names, e.g. of a class.

    >>> colours = Registry("colour", {"red": 1}, "segadapt.colours", lambda name, found: found)
    >>> colours["red"]
    1
    >>> colours.register("blue", 2)
    >>> list(colours)
    ['red', 'blue']
    """

    def __init__(self, kind: str, own: Mapping[str, T], group: str, load: Callable[[str, Any], T]) -> None:
        self.kind, self.group = kind, group
        self._own, self._load = own, load
        self._added: dict[str, T] = {}
        self._modules: dict[str, str] = {}

    def __iter__(self) -> Iterator[str]:
        yield from self._own
        yield from self._added

    def __len__(self) -> int:
        return len(self._own) + len(self._added)

    def __getitem__(self, name: str) -> T:
        return self._own[name] if name in self._own else self._added[name]

    def is_own(self, name: str) -> bool:
        """Tell whether the library itself has this entry."""
        return name in self._own

    def register(self, name: str, entry: T, module: str = "") -> None:
        """Add an entry; one of the same name and module that was added before is replaced, as by a reload.

        Args:
            name: of the entry.
            entry: what is registered.
            module: the module that defines it; ``__main__`` may be any module, as a script may import itself.

        Raises:
            RequestError: the library itself or another module has an entry of this name.
        """
        if name in self._own:
            raise RequestError(f"{self.kind} '{name}' is one of segadapt's own; register yours under another name")
        other = self._modules.get(name, "") if name in self._added else ""
        if module and other and module != other and "__main__" not in (module, other):
            raise RequestError(f"{self.kind} '{name}' is registered by '{other}' and by '{module}'; rename one of them")
        self._added[name], self._modules[name] = entry, module

    def installed(self) -> dict[str, EntryPoint]:
        """Return the entry points of installed packages by name, without importing the packages."""
        return {point.name: point for point in entry_points(group=self.group)}

    def find(self, name: str, hint: str = "") -> T:
        """Return the entry of a name; an installed package is imported when it is asked for.

        Args:
            name: name of the entry.
            hint: added to the message for an unknown name.

        Raises:
            RequestError: there is no such entry, or its package cannot be imported.
        """
        if name in self:
            return self[name]
        point = self.installed().get(name)
        if point is None:
            known = self.names()
            there = f"there are: {', '.join(known)}" if known else "none is registered"
            raise RequestError(f"no {self.kind} '{name}'{nearest(name, known)}; {there}{hint}")
        try:
            found = point.load()
        except (Exception, SystemExit) as problem:
            raise RequestError(
                f"{self.kind} '{name}' of the installed package '{_package(point)}' cannot be imported: "
                f"{one_line(problem)}; fix or uninstall that package"
            ) from problem
        if name not in self:  # the package may have registered it with more words
            self.register(name, self._load(name, found))
        return self[name]

    def names(self) -> list[str]:
        """List the names of all entries, of installed packages too."""
        return list(dict.fromkeys([*self, *self.installed()]))


def load_plugins(modules: Iterable[str]) -> None:
    """Import the packages that a recipe names as ``plugins``; the entries that they register are known from then on.

    Raises:
        RequestError: a name is not one of a module, its import fails, or it registers a name that is taken.
    """
    for name in modules:
        if not isinstance(name, str) or not _MODULE.fullmatch(name):
            raise RequestError(f"plugins: {name!r} is not the name of a Python module, e.g. my_package")
        try:
            importlib.import_module(name)
        except RequestError as problem:
            raise RequestError(f"plugin '{name}': {problem}") from problem
        except (Exception, SystemExit) as problem:
            raise RequestError(
                f"plugin '{name}' cannot be imported: {one_line(problem)}; {_way_out(name, problem)}"
            ) from problem


def _way_out(name: str, problem: BaseException) -> str:
    """Return how to fix an import that failed."""
    if not isinstance(problem, ModuleNotFoundError) or not f"{name}.".startswith(f"{problem.name}."):
        return "fix that package"
    if name.endswith(".py"):
        return f"name the module without its ending: {name.removesuffix('.py')}"
    return "install its package, or set PYTHONPATH to the folder that holds it"


def resolve(path: str) -> Any:
    """Import the object of a path ``module:name``."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.value
