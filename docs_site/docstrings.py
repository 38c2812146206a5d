"""What the docstrings of the library need before mkdocstrings shows them: their roles and examples are Sphinx's."""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:attr|class|data|func|meth|mod):`~?([^`]+)`")
EXAMPLE = re.compile(r"^Example:$", re.MULTILINE)
BARE_EXAMPLES = re.compile(r"(?<=\n\n)(?=>>> )", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Rewrites every docstring when its object was read."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrite the docstring of an object, if it has one."""
        if obj.docstring:
            obj.docstring.value = rewritten(obj.docstring.value)

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        """Rewrite the docstring of the package itself."""
        self.on_object(obj=pkg)


def rewritten(text: str) -> str:
    """Return a docstring with plain code for roles and blocks, and its examples under ``Examples:``.

    >>> rewritten("See :func:`~a.b`::").strip()
    'See `a.b`:'
    """
    text = EXAMPLE.sub("Examples:", ROLE.sub(r"`\1`", text))
    text = re.sub(r"::$", ":", text, flags=re.MULTILINE)
    head, *bare = BARE_EXAMPLES.split(text)
    if bare:
        lines = "\n\n".join(part.strip("\n") for part in bare).splitlines()
        text = "\n".join([head.rstrip("\n"), "", "Examples:", *(f"    {line}" if line else "" for line in lines)])
    return text
