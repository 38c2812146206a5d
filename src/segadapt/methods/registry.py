"""Methods by name: the methods of the catalogue, and of other packages.

A package of one's own adds a method with :func:`register_method`, or with an entry point of the group
``segadapt.methods``. A class is enough; title, summary, paper and presets are for tables and lists. Nothing here
imports torch before a method is used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from segadapt.core.registry import Registry
from segadapt.errors import RequestError
from segadapt.methods.catalogue import OWN, MethodInfo
from segadapt.methods.papers import Paper

if TYPE_CHECKING:
    from segadapt.methods.method import Method
    from segadapt.methods.stage_config import StageConfig

__all__ = ["METHODS", "MethodInfo", "method_info", "register_method", "stage_settings"]

M = TypeVar("M", bound="type[Method]")


def _of_entry_point(name: str, implementation: Any) -> MethodInfo:
    """Make the entry of a class that an entry point of an installed package names."""
    _require_method(name, implementation)
    return MethodInfo(implementation, title=name)


METHODS: Registry[MethodInfo] = Registry("method", OWN, "segadapt.methods", _of_entry_point)
"""All methods by name."""


def register_method(
    name: str,
    *,
    title: str = "",
    summary: str = "",
    paper: str = "",
    presets: Mapping[str, Any] | None = None,
    network: str = "lite",
) -> Callable[[M], M]:
    """Register a class as a method; recipes, overrides and commands then know it by ``name``.

    Args:
        name: name in recipes; one class may have several, with other presets.
        title: title in tables; the name if empty.
        summary: line for lists.
        paper: citation of the paper.
        presets: settings that this name stands for; a recipe may override them.
        network: a small network that it runs on, for ``segadapt bench step``.

    Raises:
        RequestError: the name is one of the library's own or of another package, or the class is not a Method with
            ``streams`` and ``step``.

    >>> from segadapt.methods import Method, register_method
    >>> @register_method("mymethod")
    ... class MyMethod(Method):
    ...     def streams(self, round_index, environment): ...
    ...     def step(self, batch): ...
    >>> METHODS["mymethod"].method is MyMethod
    True
    """

    def decorate(cls: M) -> M:
        _require_method(name, cls)
        cited = Paper(paper) if paper else None
        info = MethodInfo(cls, cited, title or name, summary, dict(presets or {}), network=network)
        METHODS.register(name, info, cls.__module__)
        return cls

    return decorate


def method_info(name: str) -> MethodInfo:
    """Return a method by name.

    Raises:
        RequestError: there is none of that name; the message suggests the nearest name.
    """
    hint = "; a method of another package needs 'plugins: [PACKAGE]' in the recipe, or its entry point installed"
    return METHODS.find(name, hint)


def stage_settings(name: str, settings: Mapping[str, Any]) -> tuple[type[StageConfig], dict[str, Any]]:
    """Return the settings class of a stage, and its settings with the method's presets beneath.

    Args:
        name: name of the stage.
        settings: settings of the stage, as in a recipe.

    Raises:
        RequestError: no method is named, or it is unknown.
    """
    if "method" not in settings:
        raise RequestError(f"stage '{name}' names no method; add e.g. 'method: cbst'")
    info = method_info(str(settings["method"]))
    return info.method.Config, {"title": info.title, **info.presets, **settings, "name": name}


def _require_method(name: str, found: Any) -> None:
    from segadapt.methods.method import Method
    from segadapt.methods.stage_config import StageConfig

    if not (isinstance(found, type) and issubclass(found, Method)):
        raise RequestError(f"method '{name}': {found!r} is not a class that derives from segadapt.methods.Method")
    lacking = [part for part in ("streams", "step") if getattr(found, part) is getattr(Method, part)]
    if lacking:
        raise RequestError(f"method '{name}': {found.__name__} does not implement {' and '.join(lacking)}")
    if not (isinstance(found.Config, type) and issubclass(found.Config, StageConfig)):
        raise RequestError(
            f"method '{name}': {found.__name__}.Config is not a class that derives from "
            "segadapt.methods.stage_config.StageConfig"
        )
