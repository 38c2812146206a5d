"""The head of a model file, checked before anything is built: a file may come from anywhere.

Its tensors are bounded by its length, but its description is text that asks for a network: for one of terabytes, for
weights from a hub, for a class that is not there. So its values are plain, bounded and of known names, and the network
is built with a limited allowance of memory, see :func:`allowance`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from segadapt.core.settings import checked
from segadapt.errors import RequestError
from segadapt.labels import LabelSpace
from segadapt.models.inference import InferenceConfig

_PARTS = ("format", "space", "description", "provenance")
_OTHER_PARTS = ("sha256",)
"""The checksum of the file."""
_LONGEST_TEXT = 16 << 20
"""Characters of one part; the settings and versions of a long run take 100 000."""
_LARGEST_NUMBER = 1 << 16
"""Of widths, depths and sizes of a network, and of sides of images."""
_MOST_BANDS = 4096
_LONGEST_NAME, _MOST_ENTRIES, _DEEPEST = 1000, 4096, 16
_PREPROCESSING = ("mean", "std", "scale", "bgr")
_SPARE_BYTES = 256 << 20
_SPARE_TIMES = 4
"""A network may need this many times the bytes of its file, and so many more, while it is built: a file may hold half
the precision, and parts that are left out are built first."""


class Metadata(NamedTuple):
    """The checked parts of a model file's head.

    Attributes:
        space: its classes.
        description: arguments of :func:`~segadapt.models.build.build_segmenter`, none of them ``weights``.
        provenance: its origin, and how to predict with it.
    """

    space: LabelSpace
    description: dict[str, Any]
    provenance: dict[str, Any]


def checked_metadata(metadata: Mapping[str, str], where: str) -> Metadata:
    """Check the head of a model file.

    Args:
        metadata: texts by name, as they stand in the file.
        where: names the file in messages.

    Raises:
        RequestError: a part is missing, unknown, no JSON, or has a value of a wrong type or out of its range.
    """
    odd = [key for key in metadata if key not in (*_PARTS, *_OTHER_PARTS)]
    if odd or any(key not in metadata for key in _PARTS):
        lacking = next((key for key in _PARTS if key not in metadata), "")
        wrong = f"has the unknown part '{odd[0][:80]}'" if odd else f"lacks the part '{lacking}'"
        raise RequestError(f"{where} {wrong}; it was damaged, or written by another version of segadapt")
    try:
        space = LabelSpace.from_json(metadata["space"], where)
    except RequestError as problem:
        raise _of(where, problem) from None
    description = parsed(metadata["description"], "description", where)
    provenance = parsed(metadata["provenance"], "provenance", where)
    _require_description(description, len(space), where)
    _require_provenance(provenance, where)
    return Metadata(space, description, provenance)


def parsed(text: str, part: str, where: str) -> dict[str, Any]:
    """Return the mapping that a part of a file's head holds as JSON; RequestError where it holds none."""
    try:
        value = json.loads(text) if len(text) <= _LONGEST_TEXT else None
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise RequestError(f"{where}: its part '{part}' is no JSON mapping; the file is damaged")
    return value


def require_plain(value: Any, place: str, where: str, depth: int = 0) -> None:
    """Refuse arguments of a network that nobody writes: huge, nested deeply, not finite, or a download.

    Raises:
        RequestError: names the place.
    """
    wrong = None
    if isinstance(value, (dict, list)):
        wrong = (
            "has too many entries" if len(value) > _MOST_ENTRIES else "is nested too deeply" if depth > _DEEPEST else ""
        )
        if isinstance(value, dict) and "weights" in value:
            wrong = "names weights to start from; the weights of a model are in its file, and nothing is fetched"
        if not wrong:
            entries = value.items() if isinstance(value, dict) else enumerate(value)
            for key, inner in entries:
                require_plain(inner, f"{place}.{key}"[:200], where, depth + 1)
    elif isinstance(value, str):
        wrong = "is too long" if len(value) > _LONGEST_NAME else None
    elif isinstance(value, (int, float)):
        wrong = None if math.isfinite(value) and abs(value) <= _LARGEST_NUMBER else "is out of every sensible range"
    if wrong:
        raise RequestError(f"{where}: '{place}' {wrong}")


def _require_description(description: Mapping[str, Any], classes: int, where: str) -> None:
    require_plain(description, "description", where)
    if not isinstance(description.get("name"), str):
        raise RequestError(f"{where}: its description names no network")
    _require_integer(description.get("classes"), 1, 255, "classes", where)
    if description["classes"] != classes:
        raise RequestError(f"{where}: its network has {description['classes']} classes, its list of names {classes}")
    _require_integer(description.get("bands", 3), 1, _MOST_BANDS, "bands", where)
    shown = description.get("preprocessing")
    numbers = [*_listed(shown, "mean"), *_listed(shown, "std")]
    known = shown is None or (isinstance(shown, dict) and all(key in _PREPROCESSING for key in shown))
    if not known or not all(isinstance(n, (int, float)) and not isinstance(n, bool) for n in numbers):
        raise RequestError(f"{where}: 'description.preprocessing' is not {', '.join(_PREPROCESSING)} with numbers")


def _listed(shown: Any, key: str) -> list[Any]:
    value = shown.get(key, []) if isinstance(shown, dict) else []
    return value if isinstance(value, list) else [None]


def _require_integer(value: Any, low: int, high: int, name: str, where: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise RequestError(f"{where}: '{name}' is {str(value)[:40]}; it is a number from {low} to {high}")


def _require_provenance(provenance: Mapping[str, Any], where: str) -> None:
    """Check what is used of the origin: how to predict."""
    inference = provenance.get("inference", {})
    if not isinstance(inference, dict):
        raise RequestError(f"{where}: 'provenance.inference' is no mapping of settings")
    require_plain(inference, "provenance.inference", where)
    checked(InferenceConfig, inference, f"{where}: inference")
    size = provenance.get("size")
    for side in size if isinstance(size, list) and len(size) == 2 and size != [None, None] else [size]:
        if side is not None:
            _require_integer(side, 1, _LARGEST_NUMBER, "size", where)
    if provenance.get("input") is not None and not isinstance(provenance["input"], dict):
        raise RequestError(f"{where}: 'provenance.input' does not say how images are read")


def _of(where: str, problem: RequestError) -> RequestError:
    """Return a complaint that names the file."""
    told = str(problem)
    return RequestError(told if told.startswith(where) else f"{where}: {told}")


# ---- building what a file describes ----


@contextmanager
def described_network(where: str, size: int) -> Iterator[None]:
    """Build in the block what a file describes: with limited memory, and one line for whatever goes wrong.

    Args:
        where: names the file in messages.
        size: bytes of its tensors.

    Raises:
        RequestError: no such network can be built.
    """
    try:
        with allowance(_SPARE_TIMES * size + _SPARE_BYTES, where):
            yield
    except RequestError as problem:
        raise _of(where, problem) from None
    except Exception as problem:  # arguments of wrong types fail in as many ways as there are networks
        said = " ".join(f"{type(problem).__name__}: {problem}".split())[:300]
        raise RequestError(f"{where} describes a network that cannot be built here ({said})") from problem


@contextmanager
def allowance(most: int, where: str) -> Iterator[None]:
    """Refuse, before it is made, a tensor with which the block would have made more than ``most`` bytes of them.

    Raises:
        RequestError: says so, and names ``where``.
    """
    with _Allowance(most, where):
        yield


class _Allowance(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of new tensors; those on the device ``meta`` have none."""

    def __init__(self, most: int, where: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._left, self._most, self._where = most, most, where

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if func.overloadpacket in _MAKERS and str(given.get("device")) != "meta":
            sizes = args[0] if isinstance(args[0], (list, tuple)) else (args[1] if func in _NEW else ())
            kind = given.get("dtype") or torch.get_default_dtype()
            self._left -= math.prod(sizes) * kind.itemsize
            if self._left < 0:
                raise RequestError(
                    f"{self._where} describes a network of more than {self._most / 2**30:.1f} GB, which is not the one "
                    "whose weights it holds"
                )
        return func(*args, **given)


_aten: Any = torch.ops.aten
_NEW = {_aten.new_empty.default, _aten.new_zeros.default, _aten.new_ones.default, _aten.new_full.default}
_MAKERS = {
    *(_aten.empty, _aten.zeros, _aten.ones, _aten.full, _aten.rand, _aten.randn, _aten.empty_strided),
    *(_aten.new_empty, _aten.new_zeros, _aten.new_ones, _aten.new_full),
}
"""Operations that make a tensor of a size that they are given."""
