"""Pages of the API: every public name of a package, and the pieces by module with their examples."""

from __future__ import annotations

from importlib import import_module

from segadapt import pieces

ROOMS = ("models", "data", "evaluation", "methods", "engine", "runs", "report", "serve", "toy", "bench")
"""Packages with a page each, beside ``segadapt`` itself and ``segadapt.pieces``."""


def pages() -> dict[str, str]:
    """Return the text of each page of the API by its path."""
    made = {f"docs/api/{name}.md": package_page(f"segadapt.{name}") for name in ROOMS}
    return {"docs/api/segadapt.md": package_page("segadapt"), **made}


def package_page(package: str) -> str:
    """Return the page of a package: its docstring, then every public name."""
    names = [name for name in import_module(package).__all__ if name != "__version__"]
    return "\n\n".join([f"# {package}", docstring(package), *(f"::: {package}.{name}" for name in names)]) + "\n"


def with_pieces(text: str) -> str:
    """Add every piece with its examples to the page of the pieces, a section for each module."""
    parts = [text.rstrip()]
    for module, names in pieces._TOPICS.items():
        parts += [f"## {module}", docstring(f"segadapt.pieces.{module}")]
        parts += [f"::: segadapt.pieces.{name}\n    options:\n      heading_level: 3" for name in names]
    return "\n\n".join(parts) + "\n"


def docstring(module: str) -> str:
    """Return the directive that shows the docstring of a module alone."""
    options = ("members: false", "show_root_heading: false", "show_root_toc_entry: false")
    return "\n".join([f"::: {module}", "    options:", *(f"      {option}" for option in options)])
