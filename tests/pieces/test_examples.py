"""The pieces as a user meets them: lazy imports, and examples that run."""

from __future__ import annotations

import doctest
import inspect
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from segadapt import pieces

MODULES = sorted(path.stem for path in Path(pieces.__file__).parent.glob("*.py") if path.stem != "__init__")
WITHOUT_EXAMPLES = {"confidence", "confusion", "images", "losses", "pseudo_labels", "resizing"}
"""Modules that have no examples yet."""


def public(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Yield the public functions and classes that a module defines."""
    for name, value in vars(module).items():
        defined = getattr(value, "__module__", None) == module.__name__
        if defined and not name.startswith("_") and (inspect.isfunction(value) or inspect.isclass(value)):
            yield name, value


def examples(name: str, value: Any, module: ModuleType) -> list[doctest.DocTest]:
    """Find the examples of a function, or of a class with its methods.

    Each is looked up by itself: doctest's search of a module skips functions decorated by torch.
    """
    known = {"torch": torch, "np": np, **{one: getattr(pieces, one) for one in pieces.__all__}, **dict(public(module))}
    finder = doctest.DocTestFinder(exclude_empty=True)
    return [test for test in finder.find(value, name, False, known) if test.examples]  # type: ignore[arg-type]


@pytest.mark.parametrize("name", MODULES)
def test_examples_are_true(name: str) -> None:
    module = import_module(f"segadapt.pieces.{name}")
    for one, value in public(module):
        for test in examples(one, value, module):
            runner = doctest.DocTestRunner(verbose=False)
            runner.run(test)
            assert runner.failures == 0, f"segadapt.pieces.{name}.{test.name}"


@pytest.mark.parametrize("name", sorted(set(MODULES) - WITHOUT_EXAMPLES))
def test_every_public_function_has_an_example(name: str) -> None:
    module = import_module(f"segadapt.pieces.{name}")
    bare = [one for one, value in public(module) if not examples(one, value, module) and not is_record(value)]
    assert bare == []


def is_record(value: Any) -> bool:
    """Tell whether a class only holds or describes values: a named tuple or a protocol."""
    return hasattr(value, "_fields") or getattr(value, "_is_protocol", False)


def test_type_checkers_know_every_name() -> None:
    text = Path(pieces.__file__).read_text(encoding="utf-8")
    assert [name for name in pieces.__all__ if f" import {name} as {name}\n" not in text] == []


def test_terms_are_scaled_from_both_sides() -> None:
    term = pieces.Term(torch.tensor(6.0), torch.tensor(3.0), 0.5)
    assert (2.0 * term).weight == (term * 2.0).weight == 1.0
    assert (2.0 * term).mean() == 2.0
