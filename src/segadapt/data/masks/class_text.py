"""The text of a class list, whatever program wrote it, and its YAML or JSON with every name kept as it is written.

YAML would turn the names ``no``, ``1e3`` and ``2024-01-01`` into a truth value, a number and a date, and would drop a
class whose key stands there twice; here scalars stay text and a key that repeats is an error.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from segadapt.core.reading import read_file
from segadapt.errors import RequestError

_LARGEST = 64 << 20
"""Bytes of the largest file; COCO files with their annotations are large, too."""
_LARGEST_YAML = 4 << 20
_DEEPEST = 200
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""First bytes of a file -> its encoding; longer ones stand first."""


class Number(str):
    """A whole number that stands without quotation marks, as its digits."""

    __slots__ = ()


def read_text(path: Path) -> str:
    """Read a text file in UTF-8, UTF-16, UTF-32 or, where it is none of these, in the encoding of Windows (cp1252).

    Raises:
        RequestError: the file is missing, too large, or no text.
    """
    try:
        content = read_file(path, _LARGEST)
    except OSError as problem:
        raise RequestError(f"classes file {path} cannot be read: {problem.strerror}") from None
    marked = next((name for mark, name in _MARKS.items() if content.startswith(mark)), None)
    for encoding in (marked,) if marked else (*_without_mark(content), "utf-8", "cp1252"):
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text
    raise RequestError(f"classes file {path} is not a text file")


def _without_mark(content: bytes) -> tuple[str, ...]:
    """Guess UTF-16 by the zeros beside each letter."""
    half = len(content) // 2
    if half and content[1::2].count(0) > half // 2:
        return ("utf-16-le",)
    return ("utf-16-be",) if half and content[::2].count(0) > half // 2 else ()


def parse_tree(text: str, path: Path) -> Any:
    """Parse JSON or YAML by the file's suffix: mappings, lists and texts; whole numbers are :class:`Number`.

    Raises:
        RequestError: it cannot be parsed, is nested too deeply, or a key stands twice in a mapping.
    """
    try:
        if path.suffix.lower() == ".json":
            return json.loads(text, object_pairs_hook=_mapping, parse_int=Number, parse_float=str, parse_constant=str)
        if len(text) > _LARGEST_YAML:
            raise _Unfit(f"it has more than {_LARGEST_YAML >> 20} MB")
        _require_shallow(text)
        return yaml.load(text, _Loader)
    except RecursionError:
        problem = "it is nested too deeply"
    except (_Unfit, yaml.YAMLError, ValueError) as caught:
        problem = " ".join(str(caught).split())[:300]
    raise RequestError(f"classes file {path} cannot be parsed: {problem}")


class _Unfit(Exception):
    """A reason why a file that could be parsed is not."""


def _mapping(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    made: dict[Any, Any] = {}
    for key, value in pairs:
        if key in made:
            raise _Unfit(f"the key '{key}' stands there twice; each class needs its own name and id")
        made[key] = value
    return made


def _require_shallow(text: str) -> None:
    """Refuse what a parser that calls itself could not get through."""
    depth = 0
    for letter in text:
        if letter in "[{":
            depth += 1
        elif letter in "]}":
            depth -= 1
        if depth > _DEEPEST:
            raise _Unfit("it is nested too deeply")
    if any(len(line) - len(line.lstrip(" -?:\t")) > 2 * _DEEPEST for line in text.splitlines()):
        raise _Unfit("it is nested too deeply")


_Base: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


class _Loader(_Base):  # type: ignore[misc]
    """Builds mappings, lists and texts, nothing else."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if not isinstance(key, str):
                raise _Unfit(f"the key {key} is not a name")
        return _mapping(list(zip(keys, (self.construct_object(v, deep=True) for _, v in node.value), strict=True)))

    def construct_scalar(self, node: yaml.ScalarNode) -> str:
        text = str(node.value)
        return Number(text) if not node.style and text.isdigit() else text


def _text(loader: Any, node: yaml.ScalarNode) -> str:
    return str(loader.construct_scalar(node)) if node.style else loader.construct_scalar(node)


def _tree(loader: Any, node: yaml.MappingNode) -> dict[Hashable, Any]:
    made: dict[Hashable, Any] = loader.construct_mapping(node, deep=True)
    return made


def _list(loader: Any, node: yaml.SequenceNode) -> list[Any]:
    made: list[Any] = loader.construct_sequence(node, deep=True)
    return made


for _kind, _make in (("str", _text), ("map", _tree), ("seq", _list)):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _make)
