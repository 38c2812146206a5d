"""Every setting of every method is described where it is declared; settings pages are made from these docstrings."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from typing import get_origin

import pytest

import segadapt.methods
from segadapt.core.settings import Settings
from segadapt.methods.registry import METHODS

NAMED = re.compile(r"^        (\w+(?:, \w+)*): \S", re.MULTILINE)


def classes() -> dict[str, type[Settings]]:
    """Settings classes of the package, by name."""
    modules = [
        importlib.import_module(m.name) for m in pkgutil.iter_modules(segadapt.methods.__path__, "segadapt.methods.")
    ]
    return {
        name: value
        for module in modules
        for name, value in vars(module).items()
        if get_origin(value) is None
        and inspect.isclass(value)
        and issubclass(value, Settings)
        and value.__module__ == module.__name__
    }


def described(cls: type[Settings]) -> set[str]:
    """Fields that the ``Attributes:`` section of a class names."""
    _, _, section = (cls.__dict__.get("__doc__") or "").partition("    Attributes:\n")
    return {name for names in NAMED.findall(section) for name in names.split(", ")}


@pytest.mark.parametrize("name", classes())
def test_a_class_describes_the_settings_that_it_adds(name: str) -> None:
    cls = classes()[name]
    inherited = {field for base in cls.__mro__[1:] if issubclass(base, Settings) for field in base.model_fields}
    assert described(cls) >= set(cls.model_fields) - inherited
    assert described(cls) <= set(cls.model_fields)


@pytest.mark.parametrize("method", METHODS)
def test_all_settings_of_a_method_are_described(method: str) -> None:
    cls = METHODS[method].method.Config
    assert set().union(*(described(base) for base in cls.__mro__ if issubclass(base, Settings))) == set(
        cls.model_fields
    )


def test_no_method_file_is_longer_than_a_page_and_a_half() -> None:
    folder = segadapt.methods.__path__[0]
    lengths = {
        module.name: len(inspect.getsource(importlib.import_module(f"segadapt.methods.{module.name}")).splitlines())
        for module in pkgutil.iter_modules([folder])
        if module.name != "registry"
    }
    assert {name: length for name, length in lengths.items() if length > 220} == {}
