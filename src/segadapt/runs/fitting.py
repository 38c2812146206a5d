"""A given memory: how the batches of each stage are computed so that its steps fit, in the least time.

A batch may be computed whole, with the activations of the encoder computed again in the backward pass
(``checkpoint_activations``), in parts (``accumulate``), or both. Batch, losses and means stay what they are, so nothing
but time is paid. The way with the least memory is measured first: where that is too much, the request is refused with
what it takes. Then the fastest way that fits is taken. ``measure`` is a function, so that nothing here trains;
:mod:`segadapt.runs.memory` has it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from segadapt.errors import RequestError
from segadapt.methods.stage_config import StageConfig

_UNITS = {"": 1, "b": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}
_LEAST = 10**8
"""Bytes below which a memory is a slip of the pen: 11 for 11GB."""


def memory_of(text: str | float) -> int:
    """Return the bytes of a memory as people say it: ``11GB``, ``11G``, ``10.5GiB``, ``800 MB``.

    Raises:
        RequestError: it says something else, or less than 100 MB.

    Example:
        >>> memory_of("11GB"), memory_of("1 GiB")
        (11000000000, 1073741824)
    """
    said = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]?i?)b?", str(text).strip().lower())
    found = round(float(said[1]) * _UNITS[said[2]]) if said is not None and said[2] in _UNITS else 0
    if found < _LEAST:
        raise RequestError(f"memory '{text}' is not at least 100 MB: give it with its unit, e.g. 11GB or 800MB")
    return found


class Way(NamedTuple):
    """How the batches of a stage are computed.

    Attributes:
        accumulate: parts of a batch, one after the other.
        recomputed: whether activations of the encoder are computed again in the backward pass.
    """

    accumulate: int = 1
    recomputed: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of a stage that say so."""
        return {"accumulate": self.accumulate, "checkpoint_activations": self.recomputed}

    def __str__(self) -> str:
        whole = "whole" if self.accumulate == 1 else f"in {self.accumulate} parts"
        return f"{whole}, activations computed again" if self.recomputed else whole


class Fit(NamedTuple):
    """The way that a stage takes.

    Attributes:
        way: it.
        tried: bytes by way, as measured; None where it was more than there is.
    """

    way: Way
    tried: Mapping[Way, int | None]


Measure = Callable[[Way], int | None]
"""Returns the bytes that a stage takes in a way; None where that is more than the machine has."""


def ways(stage: StageConfig, processes: int, blocks: bool, said: Callable[[str], bool]) -> list[Way]:
    """List the ways of a stage, the fastest first, the one of the least memory last.

    Activations that are computed again cost a third of the time and change no number. Parts cost as much, and the more
    of them the less a device is filled, so they come after.

    Args:
        stage: with what a person says.
        processes: training processes.
        blocks: whether its networks have blocks that can be computed again.
        said: tells whether a person has said a setting of the stage; then it stays.
    """
    share = -(-stage.batch_size // processes)
    parts = [stage.accumulate] if said("accumulate") else sorted({1, share} | {2**k for k in range(share.bit_length())})
    again = [stage.checkpoint_activations] if said("checkpoint_activations") else [False, True] if blocks else [False]
    found = [Way(n, again_) for n in parts if n <= share for again_ in again] or [Way(parts[0], again[0])]
    return sorted(found, key=lambda way: (way != Way(), way.recomputed and way.accumulate > 1, way.accumulate))


def fit(found: Sequence[Way], limit: int, measure: Measure, stage: str, pass_bytes: int = 0) -> Fit:
    """Return the fastest way within a memory.

    Args:
        found: as of :func:`ways`.
        limit: bytes.
        measure: of a way.
        stage: its name, for the message.
        pass_bytes: what passes over the target and scores take, whatever the way.

    Raises:
        RequestError: no way fits.
    """
    if pass_bytes > limit:
        raise RequestError(
            f"stage '{stage}': predicting an image takes {gigabytes(pass_bytes)} here, more than the "
            f"{gigabytes(limit)} wanted; give smaller windows (evaluation.window, {stage}.inference.window) or sizes "
            "(data.target.size, data.test.size)"
        )
    tried: dict[Way, int | None] = {}
    for way in [found[-1], *found[:-1]]:
        tried[way] = need = measure(way)
        fits = need is not None and need <= limit
        if way == found[-1] and not fits:
            took = "more than there is" if need is None else gigabytes(need)
            raise RequestError(
                f"stage '{stage}' takes {took} at the least ({way}), and {gigabytes(limit)} are wanted; give a smaller "
                f"{stage}.augmentation.crop, a smaller network (model.name), or on a CPU less data.cache_mb"
            )
        if fits and way != found[-1]:
            return Fit(way, tried)
    return Fit(found[-1], tried)


def in_words(found: Mapping[str, Fit], limit: int, batches: Mapping[str, int]) -> str:
    """Return how the stages fit, in one line."""
    said = []
    for name, one in found.items():
        need = one.tried[one.way]
        line = f"{name}: batches of {batches[name]} {one.way}, {gigabytes(need or 0)}"
        whole = one.tried.get(Way())
        if one.way != Way() and Way() in one.tried:
            line += f" (whole: {gigabytes(whole) if whole is not None else 'more than there is'})"
        said.append(line)
    return f"{'; '.join(said)}; of {gigabytes(limit)}, measured"


def gigabytes(memory: int) -> str:
    """Return bytes for people, in units of 10^9.

    Example:
        >>> gigabytes(10_240_000_000)
        '10.2 GB'
    """
    return f"{memory / 1e9:.{2 if memory < 9.995e9 else 1}f} GB"
